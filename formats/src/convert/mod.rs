//! Any source written as a GGUF: converting, quantising and packing are this with different sources and options.
//!
//! Which type a tensor takes when the output is to be of type T:
//!
//! | tensor | T = F32, F16, BF16, Q8_0 | any other T |
//! | --- | --- | --- |
//! | one dimension (norms, biases, `rope_freqs.weight`) | F32 | F32 |
//! | `output.weight`; `token_embd.weight` where that is missing | T | Q6_K |
//! | a router of experts (`ffn_gate_inp.weight`) | as it is | as it is |
//! | every other `*.weight` of two dimensions or more | T | T |
//! | one of these with rows that are no multiple of the block | F16, with a warning | the nearest with smaller blocks (see [`mix`]), with a warning |
//! | anything else | as it is | as it is |
//!
//! Mixes of types have a table of their own: [`mix`]. [`ConvertOptions::tensors`] goes before both.
//!
//! [`TypeRule::Keep`] leaves all types as they are, except that tensors of one dimension are F32 here too. In a packed
//! file every `*.weight` of two dimensions is packed, whatever its type, and the matrices of experts where their rows
//! fill groups of 16; the tensors stand in the order in which a
//! forward pass reads them.
//!
//! A tensor that keeps its type keeps its bytes; interleaved rows become plain. One that changes it goes through f32;
//! from one quantised type to another that loses more than the new type alone would, which is worth a warning. A type
//! without kernels is packed as the one that runs in its place, without that detour ([`quipu_quant::stored`]). A weight
//! that is NaN or infinite ends the conversion, in whatever tensor and whether or not its type changes.
//!
//! Everything streams: a few chunks of rows for each thread are in memory at a time, and the pages of the source are
//! given back as they are used up. The one thing that has to wait is the scales of a packed matrix, which stand behind
//! its quants.

mod llama_cpp;
pub mod mix;
mod numbers;
mod options;
mod order;
mod outcome;
mod pattern;
mod plan;
pub mod rounded;
mod stream;
pub mod type_choices;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use quipu_quant::TensorType;

pub use mix::Mix;
pub use options::{Check, ConvertOptions, Rounding, TypeRule};
pub use outcome::{ConvertError, ConvertProgress, Summary, Warning};
pub use pattern::TensorRule;

use crate::bundle::Lead;
use crate::gguf::{PartsWriter, WriteError, first_part_path};
use crate::output::{self, Inputs};
use crate::source::{Source, TensorInfo};

/// Writes `source` as a GGUF to `out`, which appears under its name only when it is complete, can be opened and has the
/// tensors that it should have.
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
/// use quipu_formats::gguf::GgufFile;
/// use quipu_quant::TensorType;
///
/// # let dir = tempfile::tempdir()?;
/// # let (path, out) = (concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tales.gguf"), dir.path().join("packed.quipu"));
/// let source = GgufFile::open(path)?;
/// let options = ConvertOptions::new(TypeRule::To(TensorType::Q8_0)).packed(true);
/// let summary = write_gguf(&source, &options, &out, &AtomicBool::new(false), &|_| {})?;
/// summary.warnings.iter().for_each(|warning| eprintln!("{warning}"));
/// # assert!(GgufFile::open(out)?.is_packed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `progress` is called now and then, from any thread. When `cancel` becomes true the conversion ends with
/// [`ConvertError::Cancelled`] within a fraction of a second. Uses rayon's threads.
///
/// # Errors
/// See [`ConvertError`]. No output is left then, and a file that had its name is untouched.
pub fn write_gguf(
    source: &dyn Source,
    options: &ConvertOptions,
    out: &Path,
    cancel: &AtomicBool,
    progress: &(dyn Fn(ConvertProgress) + Sync),
) -> Result<Summary, ConvertError> {
    let plan = plan::Plan::new(source, options)?;
    crate::threads::start()?;
    let (inputs, lead) = (inputs(source, options), options.lead.as_deref().map(Lead::bytes));
    let writer = PartsWriter::create(out, options.part_bytes, lead, &inputs, &plan.metadata, &plan.tensors)?;
    let writer = stream::write_tensors(source, &plan, options.rounding, writer, cancel, progress)?;
    let files = writer.paths().to_vec();
    let bytes = writer.finish(&|file| {
        let directory = |tensors: &[TensorInfo]| -> Vec<_> {
            tensors.iter().map(|t| (t.name.clone(), t.encoding, t.byte_len())).collect()
        };
        if directory(file.tensors()) != directory(&plan.tensors) {
            return Err("its tensors are not those that were written (a damaged disk?)".into());
        }
        options.check.as_ref().map_or(Ok(()), |Check(check)| check(file))
    })?;
    let mut types: Vec<(TensorType, usize)> = Vec::new();
    for t in &plan.tensors {
        match types.iter_mut().find(|(ty, _)| *ty == t.ty()) {
            Some((_, n)) => *n += 1,
            None => types.push((t.ty(), 1)),
        }
    }
    Ok(Summary { files, bytes, types, warnings: plan.warnings })
}

/// Whether an importance matrix would change what `options` make of `source`: some weights are rounded by search to a
/// type that loses more than next to nothing.
///
/// # Errors
/// Those of [`write_gguf`] that the metadata and the tensor directory show.
pub fn gains_by_calibration(source: &dyn Source, options: &ConvertOptions) -> Result<bool, ConvertError> {
    let plan = plan::Plan::new(source, options)?;
    let gains = |(to, &origin): (&TensorInfo, &usize)| {
        to.ty() != source.tensors()[origin].ty() && !to.ty().is_float() && to.ty() != TensorType::Q8_0
    };
    Ok(options.rounding == Rounding::Search && plan.tensors.iter().zip(&plan.origins).any(gains))
}

/// Whether the output `out` could be made now; what [`write_gguf`] says of it, before the work.
///
/// # Errors
/// See [`WriteError`].
pub fn check_output(source: &dyn Source, options: &ConvertOptions, out: &Path) -> Result<(), WriteError> {
    let inputs = inputs(source, options);
    match options.part_bytes {
        None => output::check(out, &inputs)?,
        Some(_) => output::check(&first_part_path(out)?, &inputs)?,
    }
    Ok(())
}

/// What is read to convert `source`: its files, those that `options` name, and the importance matrix.
pub fn inputs(source: &dyn Source, options: &ConvertOptions) -> Inputs {
    let mut inputs = Inputs::of(source.files());
    inputs.extend(&options.reads);
    if let Some(imatrix) = &options.imatrix {
        inputs.add(&imatrix.path);
    }
    inputs
}
