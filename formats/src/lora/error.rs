//! Why an adapter cannot be used.

use std::path::PathBuf;

use crate::gguf::GgufError;
use crate::hf::FileError;
use crate::safetensors::SafetensorsError;

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Weights that are no safetensors.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A file that is no GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An adapter that breaks a rule.
    #[error("{}: {fault}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The rule.
        fault: Box<AdapterFault>,
    },
}

/// A rule that an adapter breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum AdapterFault {
    /// A directory that is something else.
    #[error("there is no {file}: expected the directory that PEFT's save_pretrained writes, or llama.cpp's GGUF")]
    NoFile { file: &'static str },
    /// A key that is missing or wrong.
    #[error("`{key}`: expected {expected}, found {found}")]
    Key { key: &'static str, expected: &'static str, found: String },
    /// What is more than LoRA.
    #[error("`{key}` is {found}: {what}, which is not supported; merge it with PEFT (merge_and_unload)")]
    Unsupported { key: &'static str, found: String, what: &'static str },
    /// An adapter of another kind of model.
    #[error("it is for models of the architecture `{adapter}`, and the model is of `{model}`")]
    Architecture { adapter: String, model: String },
    /// A model whose tensors' names nobody knows.
    #[error("the model's architecture `{architecture}` is not known, so nobody knows which of its tensors are meant")]
    UnknownArchitecture { architecture: String },
    /// A tensor that is no part of LoRA.
    #[error("{tensor:?} is no part of a LoRA for matrices of this model")]
    UnknownTensor { tensor: String },
    /// Half of a pair.
    #[error("{tensor:?} has no {other:?} beside it")]
    Unpaired { tensor: String, other: String },
    /// A matrix that does not fit.
    #[error("{tensor:?} is {found:?}, expected {expected} for {matrix}, which is {rows} × {cols}")]
    Shape { tensor: String, found: Vec<usize>, expected: String, matrix: String, rows: usize, cols: usize },
    /// A matrix that the model has not.
    #[error("the model has no matrix {matrix}, which {tensor:?} changes")]
    NotInModel { matrix: String, tensor: String },
    /// A number type that nothing is computed with.
    #[error("{tensor:?} is {found}, expected F32, F16 or BF16")]
    Type { tensor: String, found: String },
    /// What is no number.
    #[error("{tensor:?} has a value that is no finite number")]
    NotFinite { tensor: String },
    /// Nothing in it.
    #[error("there is nothing in it that would change the model")]
    Empty,
}
