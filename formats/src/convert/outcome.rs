//! What comes of a conversion: how far it is, what was written, what the user should know, why it failed.

use std::fmt;
use std::path::PathBuf;

use quipu_quant::TensorType;

use crate::gguf::WriteError;
use crate::threads::ThreadsError;

/// How far a conversion has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConvertProgress<'a> {
    /// The tensor being written.
    pub tensor: &'a str,
    /// Bytes of tensor data written so far.
    pub bytes: u64,
    /// Bytes of tensor data of the whole.
    pub total_bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The file, or all parts in order.
    pub files: Vec<PathBuf>,
    /// The length of the file, or of all parts.
    pub bytes: u64,
    /// How many tensors there are of each type, in the order of their first tensors.
    pub types: Vec<(TensorType, usize)>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// Something that worked, but perhaps not as the user expects.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Tensors went from one quantised type to another.
    Requantised {
        /// The name of their type in the source.
        from: &'static str,
        /// Their type now.
        to: TensorType,
        /// How many.
        tensors: usize,
    },
    /// Tensors of which the importance matrix says nothing, though it was to be used.
    NotCalibrated {
        /// How many.
        tensors: usize,
    },
    /// Tensors could not take the type, since their rows are no multiple of its block.
    NotWholeBlocks {
        /// The type they would have taken.
        wanted: TensorType,
        /// The type they have now.
        used: TensorType,
        /// Which.
        tensors: Vec<String>,
    },
    /// Tensors that alone are larger than a part was to be, and so are parts that have them.
    LargeTensors {
        /// The most bytes of a part.
        part_bytes: u64,
        /// Which.
        tensors: Vec<String>,
    },
    /// llama.cpp will not compute from the file what stands in it.
    LlamaCpp {
        /// What it does otherwise.
        difference: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::Requantised { from, to, tensors } => write!(
                f,
                "{tensors} tensors requantised from {from} to {to}: worse than {to} from the original; convert that if you have it"
            ),
            Warning::NotCalibrated { tensors } => {
                write!(f, "{tensors} tensors are not in the importance matrix and were rounded without it")
            }
            Warning::NotWholeBlocks { wanted, used, tensors } => write!(
                f,
                "{} tensors are {used} instead of {wanted}, whose blocks of {} do not divide their rows: {}",
                tensors.len(),
                wanted.block_len(),
                tensors.join(", ")
            ),
            Warning::LargeTensors { part_bytes, tensors } => write!(
                f,
                "{} tensors have more than {part_bytes} bytes, and no tensor is cut: their parts are larger ({}{})",
                tensors.len(),
                tensors.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", "),
                if tensors.len() > 3 { ", …" } else { "" }
            ),
            Warning::LlamaCpp { difference } => {
                write!(f, "llama.cpp will not run this file as Quipu does: {difference}")
            }
        }
    }
}

/// Why a conversion failed. No output is left, and a file that had its name is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The output could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The plain rule is not known for this type.
    #[error("{tensor:?} is to be {ty}, for which there is no plain rule, only rounding by search")]
    NoPlainRule {
        /// The tensor.
        tensor: String,
        /// Its type in the output.
        ty: TensorType,
    },
    /// The importance matrix is of another model.
    #[error(
        "{}: {tensor:?} has {found} columns there, but {expected} in the model: it was made with another one",
        .path.display()
    )]
    OtherModel {
        /// The importance matrix.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its columns in the model.
        expected: usize,
        /// Its columns in the importance matrix.
        found: usize,
    },
    /// A weight that is NaN or infinite.
    #[error(
        "{}: tensor {tensor:?}, row {row}, column {col}: the weight is {value}, not a finite number (a damaged file?)",
        .path.display()
    )]
    NotFinite {
        /// The source.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The row, from 0.
        row: usize,
        /// The element in the row, from 0.
        col: usize,
        /// The weight.
        value: f32,
    },
    /// A weight that would spoil all weights of its block: beyond what an f16 scale can reach.
    #[error(
        "{}: tensor {tensor:?}, row {row}, column {col}: the weight is {value}, which {ty} cannot hold (a damaged checkpoint?)",
        .path.display()
    )]
    WeightOutOfRange {
        /// The source.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The row, from 0.
        row: usize,
        /// The element in the row, from 0.
        col: usize,
        /// The weight.
        value: f32,
        /// The type that it should have taken.
        ty: TensorType,
    },
    /// The system gives no threads.
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    /// The user asked to stop.
    #[error("cancelled; nothing was written")]
    Cancelled,
}
