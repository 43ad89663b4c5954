//! How weights are to be loaded, and what can go wrong.

use std::path::PathBuf;

use crate::config::ConfigError;

/// Why the weights of a model can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The metadata.
    #[error("{path}: {error}")]
    Config {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        error: ConfigError,
    },
    /// A tensor is not there.
    #[error("{path}: tensor `{name}` is missing")]
    Missing {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
    },
    /// A tensor has another shape than the metadata says.
    #[error("{path}: tensor `{name}` has shape {found:?}; the metadata makes it {expected:?}")]
    Shape {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
        /// From the metadata.
        expected: Vec<usize>,
        /// From the directory.
        found: Vec<usize>,
    },
    /// Two matrices in one, whose rows do not part between two groups of sixteen.
    #[error("{path}: tensor `{name}` is two matrices of {rows} rows; expected a multiple of 16")]
    Halves {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
        /// Rows of each.
        rows: usize,
    },
    /// The system gives no more memory.
    #[error("no memory for {size} bytes of weights: {error}")]
    Memory {
        /// Bytes of all matrices that do not lie in the file as they are used.
        size: usize,
        /// What the system said.
        error: std::io::Error,
    },
    /// The weights cannot be kept in memory.
    #[error("cannot lock the weights in memory: {error}")]
    Lock {
        /// What the system said.
        error: std::io::Error,
    },
    /// The caller has cancelled.
    #[error("loading the weights was cancelled")]
    Cancelled,
    /// A tensor that the model as its metadata describes it does not have, and on which its numbers would depend.
    #[error("{path}: tensor `{name}` would not be used: {because}")]
    Unused {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
        /// Why not.
        because: String,
    },
    /// A weight that is NaN or infinite, or a divisor of RoPE's frequencies that is not positive.
    #[error("{path}: tensor `{name}` has {found} in row {row}: a damaged file?")]
    NotFinite {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
        /// The row; of a vector, the element.
        row: usize,
        /// What is wrong with it.
        found: String,
    },
    /// A tensor of the wrong number type.
    #[error("{path}: tensor `{name}` is {found}; a vector must be F32, F16 or BF16")]
    VectorType {
        /// The model file.
        path: PathBuf,
        /// GGUF's name.
        name: String,
        /// The name of the tensor's type.
        found: &'static str,
    },
}

/// Where the weights are while the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residence {
    /// Weights of a packed file are used where they are mapped; otherwise they are copied into memory, as plain ones
    /// always are.
    pub mmap: bool,
    /// The system may not take the weights out of memory.
    pub mlock: bool,
}

/// A function that is told how many bytes of weights are loaded, and of how many.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);
