//! Any source written as a GGUF: `quipu convert`, `quipu quantize` and `quipu pack` are this with different sources and
//! options.
//!
//! Which type a tensor takes when the output is to be of type T:
//!
//! | tensor | T = F32, F16, BF16, Q8_0 | any other T |
//! | --- | --- | --- |
//! | one dimension (norms, biases, `rope_freqs.weight`) | F32 | F32 |
//! | `output.weight`; `token_embd.weight` where that is missing | T | Q6_K |
//! | every other `*.weight` of two dimensions or more | T | T |
//! | one of these with rows that are no multiple of the block | F16, with a warning | the nearest with smaller blocks (see [`mix`]), with a warning |
//! | anything else | as it is | as it is |
//!
//! Mixes of types have a table of their own: [`mix`]. [`ConvertOptions::tensors`] goes before both.
//!
//! [`TypeRule::Keep`] leaves all types as they are, except that tensors of one dimension are F32 here too. In a packed
//! file every `*.weight` of two dimensions is packed, whatever its type, and the tensors stand in the order in which a
//! forward pass reads them.
//!
//! A tensor that keeps its type keeps its bytes; interleaved rows become plain. One that changes it goes through f32;
//! from one quantised type to another that loses more than the new type alone would, which is worth a warning. A type
//! without kernels is packed as the one that runs in its place, without that detour ([`quipu_quant::stored`]).
//!
//! Everything streams: a few chunks of rows for each thread are in memory at a time, and the pages of the source are
//! given back as they are used up. The one thing that has to wait is the scales of a packed matrix, which stand behind
//! its quants.

pub mod budget;
pub mod mix;
mod order;
mod pattern;
mod plan;
mod stream;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use quipu_quant::TensorType;

pub use mix::Mix;
pub use pattern::TensorRule;

use crate::gguf::{GgufWriter, OutputError, WriteError};
use crate::imatrix::Imatrix;
use crate::source::{Source, TensorInfo};

/// Which types the tensors of the output have; see the [module's table](self).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TypeRule {
    /// Those of the source.
    #[default]
    Keep,
    /// This one, with the exceptions of the table.
    To(TensorType),
    /// A mix.
    Mix(Mix),
}

/// How values become codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// By search for the least error (`quipu_quant::search`).
    #[default]
    Search,
    /// By ggml's rule, to the byte. There is none for the K-quants and IQ4.
    Plain,
}

/// What to write.
#[derive(Clone, Debug, Default)]
pub struct ConvertOptions {
    /// The types.
    pub types: TypeRule,
    /// Types for single tensors, whatever `types` says; of several that match the first counts. For `*.weight` of two
    /// dimensions or more.
    pub tensors: Vec<TensorRule>,
    /// Matrices in the R16·K4 layout, for Quipu alone; else plain, for every reader of GGUF.
    pub packed: bool,
    /// How values become codes.
    pub rounding: Rounding,
    /// What the rounding by search knows of activations.
    pub imatrix: Option<Arc<Imatrix>>,
    /// The types are those that llama.cpp takes when it has an importance matrix ([`mix`]), so that the sizes are the
    /// same.
    pub imatrix_types: bool,
}

/// How far a conversion has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The tensor being written.
    pub tensor: &'a str,
    /// Bytes of tensor data written so far.
    pub bytes: u64,
    /// Bytes of tensor data of the whole.
    pub total_bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The length of the file.
    pub bytes: u64,
    /// How many tensors there are of each type, in the order of their first.
    pub types: Vec<(TensorType, usize)>,
    /// What the user should know.
    pub warnings: Vec<Warning>,
}

/// Something that went on well, but perhaps not as the user thinks.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        }
    }
}

/// Why a conversion failed. No output is left, and a file that had its name is untouched.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The output could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The plain rule is not known for this type.
    #[error("{tensor:?} is to be {ty}, for which there is no plain rule; leave out `--rounding plain`")]
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
        /// And in the importance matrix.
        found: usize,
    },
    /// A weight that would spoil all weights of its block: NaN, infinite, or beyond what an f16 scale can reach.
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
    /// The user asked to stop.
    #[error("cancelled; nothing was written")]
    Cancelled,
}

/// Writes `source` as a GGUF to `out`, which appears under its name only when it is complete.
///
/// `progress` is called now and then, from any thread. When `cancel` becomes true the conversion ends with
/// [`ConvertError::Cancelled`] within a fraction of a second. Uses rayon's threads.
pub fn write_gguf(
    source: &dyn Source,
    options: &ConvertOptions,
    out: &Path,
    cancel: &AtomicBool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Summary, ConvertError> {
    let plan = plan::Plan::new(source, options)?;
    refuse_checkpoint_file(out, source.path())?;
    let writer =
        GgufWriter::create(out, Some(source.path()), &plan.metadata, &plan.tensors).map_err(ConvertError::Write)?;
    let writer = stream::write_tensors(source, &plan, options.rounding, writer, cancel, progress)?;
    let bytes = writer.finish()?;
    let mut types: Vec<(TensorType, usize)> = Vec::new();
    for t in &plan.tensors {
        match types.iter_mut().find(|(ty, _)| *ty == t.ty()) {
            Some((_, n)) => *n += 1,
            None => types.push((t.ty(), 1)),
        }
    }
    Ok(Summary { bytes, types, warnings: plan.warnings })
}

/// Whether knowledge of activations would change what `options` make of `source`: some weights are rounded by search to
/// a type that loses more than next to nothing.
///
/// # Errors
/// Those of [`write_gguf`] that can be told from the directory.
pub fn gains_by_calibration(source: &dyn Source, options: &ConvertOptions) -> Result<bool, ConvertError> {
    let plan = plan::Plan::new(source, options)?;
    let gains = |(to, &origin): (&TensorInfo, &usize)| {
        to.ty() != source.tensors()[origin].ty() && !to.ty().is_float() && to.ty() != TensorType::Q8_0
    };
    Ok(options.rounding == Rounding::Search && plan.tensors.iter().zip(&plan.origins).any(gains))
}

/// Refuses to replace a file of the checkpoint directory that is being read. (Where the source is one file, the writer
/// sees that by its inode.)
fn refuse_checkpoint_file(out: &Path, source: &Path) -> Result<(), WriteError> {
    let Ok(target) = out.canonicalize() else { return Ok(()) };
    let inside = source.is_dir() && source.canonicalize().is_ok_and(|dir| target.parent() == Some(&dir));
    let is_model = target.extension().is_some_and(|e| e == "gguf" || e == "quipu");
    if inside && target.is_file() && !is_model {
        return Err(OutputError::SameAsInput { path: out.to_owned() }.into());
    }
    Ok(())
}
