//! What can be wrong with a Hugging Face directory.

use std::path::{Path, PathBuf};

use super::config_fault::ConfigFault;
use super::json::FileError;
use super::tokenizer::fault::TokenizerFault;
use crate::safetensors::{Dtype, SafetensorsError};
use crate::torch::TorchError;

/// Why a Hugging Face directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HfError {
    /// There is no such directory.
    #[error("{}: {found}; expected a Hugging Face directory with config.json, *.safetensors and tokenizer.json", .path.display())]
    NotADirectory {
        /// What was given.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// The directory has no config.json.
    #[error(
        "{}: no config.json here; {found}expected a Hugging Face directory with config.json, *.safetensors and tokenizer.json",
        .path.display()
    )]
    NoConfig {
        /// The directory.
        path: PathBuf,
        /// What is there instead, if it is known, with a separator behind it.
        found: String,
    },
    /// A file could not be read, or is not the JSON that it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A safetensors file could not be opened.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A PyTorch checkpoint could not be opened.
    #[error(transparent)]
    Torch(#[from] TorchError),
    /// config.json describes no model that Quipu runs.
    #[error("{}: {fault}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: ConfigFault,
    },
    /// The tensors are not those that config.json describes.
    #[error("{}: {fault}", .path.display())]
    Weights {
        /// The directory, or the index file.
        path: PathBuf,
        /// What is wrong.
        fault: Box<WeightsFault>,
    },
    /// The tokenizer's files contradict themselves or use what Quipu does not do.
    #[error("{}: {fault}", .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Box<TokenizerFault>,
    },
}

impl HfError {
    pub(super) fn weights(path: &Path, fault: WeightsFault) -> HfError {
        HfError::Weights { path: path.to_owned(), fault: Box::new(fault) }
    }

    pub(super) fn tokenizer(path: &Path, fault: impl Into<TokenizerFault>) -> HfError {
        HfError::Tokenizer { path: path.to_owned(), fault: Box::new(fault.into()) }
    }
}

/// What is wrong with the weights of a directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum WeightsFault {
    /// No weights in any of the forms that are read.
    #[error("expected model.safetensors, pytorch_model.bin, an index of one of them, or consolidated.*; {found}")]
    NoWeights { found: String },
    /// The index lists nothing.
    #[error("`weight_map` is empty")]
    EmptyIndex,
    /// The index lists a tensor twice.
    #[error("tensor {tensor:?} is listed twice")]
    ListedTwice { tensor: String },
    /// The index names a file outside the directory.
    #[error("{shard:?} is not the name of a file in the same directory")]
    ShardName { shard: String },
    /// A file that the index names is not there.
    #[error("{shard} is missing (it should have {tensor}): an incomplete download?")]
    MissingShard { shard: String, tensor: String },
    /// A file does not have what the index says.
    #[error("tensor {tensor:?} is not in {shard}, where the index says it is")]
    NotInShard { tensor: String, shard: String },
    /// Two files have the same tensor.
    #[error("tensor {tensor:?} is in {first} and in {second}")]
    InTwoShards { tensor: String, first: String, second: String },
    /// A tensor that config.json implies is not there.
    #[error("tensor {tensor:?} is missing{}", .hint)]
    MissingTensor { tensor: String, hint: &'static str },
    /// A tensor that no model with this config.json has.
    #[error("tensor {tensor:?} does not belong to the model that config.json describes{hint}")]
    UnknownTensor { tensor: String, hint: String },
    /// A tensor has another shape than config.json implies.
    #[error("tensor {tensor:?} has the shape {found:?}; by config.json it should be {expected:?}")]
    Shape { tensor: String, expected: Vec<usize>, found: Vec<usize> },
    /// Meta's and Mistral's layouts have the rows of q and k in an order that this family does not have.
    #[error(
        "consolidated files have the order of rows of Llama and Mistral; config.json describes a model of type {architecture}"
    )]
    OrderOfRows { architecture: &'static str },
    /// The parts of a matrix, of which each file of Meta's has one, do not fit together.
    #[error("tensor {tensor:?}: the parts of the consolidated files do not fit together: {found:?}")]
    Parts { tensor: String, found: Vec<Vec<usize>> },
    /// What makes up a quantised matrix does not fit together.
    #[error("tensor {tensor:?} {what}")]
    Quantised { tensor: String, what: String },
    /// The matrices of experts become one tensor, which has one number type.
    #[error("tensor {tensor:?} is {found}; the other experts' are {expected}")]
    ExpertDtype { tensor: String, found: Dtype, expected: Dtype },
    /// A tensor has a number type that Quipu does not compute with.
    #[error(
        "tensor {tensor:?} is {dtype}; Quipu reads F32, F16 and BF16{}",
        if .dtype.bits() <= 8 { " (a quantised checkpoint, without scales that are known here: convert from the original)" } else { "" }
    )]
    Dtype { tensor: String, dtype: Dtype },
}
