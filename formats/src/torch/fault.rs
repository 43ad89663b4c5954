//! What can be wrong with a PyTorch checkpoint.

use std::path::PathBuf;

use crate::map::MapError;

/// Why a PyTorch checkpoint could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// The file could not be read at all.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The file breaks a rule, or has in it what Quipu does not read.
    #[error("{}: {fault}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The rule.
        fault: Box<TorchFault>,
    },
}

/// A rule that a PyTorch checkpoint breaks, or something in it that is no tensor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum TorchFault {
    /// A text file where the weights should be.
    #[error("not a PyTorch checkpoint but {what}: download the file itself")]
    NotWeights { what: &'static str },
    /// The format from before PyTorch 1.6.
    #[error(
        "a checkpoint in the format from before PyTorch 1.6, which Quipu does not read: load it with torch.load and save it \
         again with torch.save"
    )]
    Legacy,
    /// No zip archive, or not a whole one.
    #[error("no zip archive, which PyTorch checkpoints are: {what} (an incomplete download?)")]
    NoZip { what: &'static str },
    /// An entry of the archive contradicts the file.
    #[error("entry {entry:?} of the archive {what}")]
    Entry { entry: String, what: &'static str },
    /// Two entries share bytes.
    #[error("entries {first:?} and {second:?} of the archive share bytes")]
    Overlap { first: String, second: String },
    /// A program, not a list of weights.
    #[error("a TorchScript program, not a checkpoint: expected what torch.save writes of a state_dict")]
    Script,
    /// The archive is no checkpoint.
    #[error("the archive has no data.pkl: no PyTorch checkpoint")]
    NoPickle,
    /// The bytes of numbers are the other way round.
    #[error("saved with byte order {found:?}; Quipu reads checkpoints of little-endian machines")]
    ByteOrder { found: String },
    /// data.pkl ends early or contradicts itself.
    #[error("data.pkl, byte {at}: {what}")]
    Pickle { at: usize, what: &'static str },
    /// An instruction that a list of tensors does not need.
    #[error("data.pkl, byte {at}: instruction {code:#04x}, which no list of tensors needs")]
    Instruction { at: usize, code: u8 },
    /// Something other than tensors, which loading it with Python would run or make.
    #[error(
        "data.pkl, byte {at}: {name} is asked for; Quipu reads tensors and never runs what a checkpoint names (save the \
         model's state_dict alone)"
    )]
    Global { at: usize, name: String },
    /// The checkpoint is not a dictionary of tensors.
    #[error("data.pkl holds {found}, expected a dictionary from names to tensors (a state_dict)")]
    NotADict { found: &'static str },
    /// A key of the dictionary has no tensor.
    #[error("{key:?} is {found}, expected a tensor (save the model's state_dict alone)")]
    NotATensor { key: String, found: &'static str },
    /// A key is there twice.
    #[error("tensor {tensor:?} is there twice")]
    Twice { tensor: String },
    /// The numbers of a tensor have no entry in the archive.
    #[error("tensor {tensor:?}: its numbers should be in {entry}, which the archive does not have")]
    NoStorage { tensor: String, entry: String },
    /// The entry of a storage is shorter than the storage.
    #[error("tensor {tensor:?}: {entry} has {found} bytes; its storage takes {expected}")]
    ShortStorage { tensor: String, entry: String, expected: u64, found: u64 },
    /// Shape, strides and offset reach beyond the storage, or use numbers again and again.
    #[error(
        "tensor {tensor:?}: shape {shape:?}, strides {strides:?} and offset {offset} do not fit a storage of {numbers} numbers"
    )]
    OutsideStorage { tensor: String, shape: Vec<u64>, strides: Vec<u64>, offset: u64, numbers: u64 },
}
