//! From the rows of the source to the bytes of the output, a few chunks at a time.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use quipu_quant::blocks;
use quipu_quant::pack::{GROUP_ROWS, pack_group};
use quipu_quant::search::Calibration;
use quipu_quant::{TensorType, search};
use rayon::prelude::*;

use super::options::Rounding;
use super::outcome::{ConvertError, ConvertProgress};
use super::plan::Plan;
use crate::gguf::{PartsWriter, WriteError};
use crate::source::{Encoding, Source, TensorInfo};

/// Weights of a chunk, about. Half a MiB as f32: it stays in the second-level cache on its way from one format to the
/// next.
const CHUNK_WEIGHTS: usize = 128 << 10;

/// Chunks after which the source's pages of a large tensor are given back, without waiting for its end: at most 64 MiB
/// of them.
const RELEASE_EVERY: usize = 128;

/// A piece of work whose results follow each other in the output.
struct Job {
    /// The number of the tensor in the output.
    tensor: usize,
    work: Work,
    last: bool,
}

enum Work {
    /// These bytes of the tensor go over as they are.
    Copy(Range<usize>),
    /// These rows are converted; whole groups of 16 but for the tensor's end.
    Rows(Range<usize>),
}

/// The result of a job.
struct Output<'a> {
    bytes: Cow<'a, [u8]>,
    /// For a packed matrix: the scales of these rows, which have to wait for the end of the quants.
    scales: Vec<u8>,
}

/// Writes all tensors of the plan to `writer`.
pub(super) fn write_tensors(
    source: &dyn Source,
    plan: &Plan,
    rounding: Rounding,
    writer: PartsWriter,
    cancel: &AtomicBool,
    progress: &(dyn Fn(ConvertProgress) + Sync),
) -> Result<PartsWriter, ConvertError> {
    let total_bytes = plan.tensors.iter().filter_map(TensorInfo::byte_len).map(|b| b as u64).sum();
    let rounder = Rounder { rounding, calibrations: plan.tensors.iter().map(|_| Mutex::default()).collect() };
    let mut sink = Sink { source, plan, writer, progress, scales: Vec::new(), unreleased: 0, bytes: 0, total_bytes };
    let jobs: Vec<Job> = (0..plan.tensors.len()).flat_map(|tensor| jobs(source, plan, tensor)).collect();
    // One window is computed while the one before is written.
    let mut computed = (&jobs[..0], Vec::new());
    for window in jobs.chunks(2 * rayon::current_num_threads()).chain([&jobs[..0]]) {
        if cancel.load(Ordering::Relaxed) {
            return Err(ConvertError::Cancelled);
        }
        let (done, outputs) = computed;
        let (next, written) = rayon::join(
            || window.par_iter().map(|job| convert(source, plan, &rounder, job)).collect(),
            || done.iter().zip(outputs).try_for_each(|(job, output)| sink.write(job, output?)),
        );
        written?;
        done.iter().filter(|job| job.last).for_each(|job| rounder.forget(job.tensor));
        computed = (window, next);
    }
    Ok(sink.writer)
}

fn jobs(source: &dyn Source, plan: &Plan, tensor: usize) -> impl Iterator<Item = Job> {
    let (to, origin) = (&plan.tensors[tensor], plan.origins[tensor]);
    let from = &source.tensors()[origin];
    let copied = to.encoding == from.encoding && !matches!(to.encoding, Encoding::Plain(_));
    let (end, step) = if copied {
        (to.byte_len().unwrap_or(0), 4 * CHUNK_WEIGHTS)
    } else {
        (to.rows(), (CHUNK_WEIGHTS / to.cols() / GROUP_ROWS * GROUP_ROWS).max(GROUP_ROWS))
    };
    (0..end).step_by(step).map(move |start| {
        let range = start..end.min(start + step);
        Job { tensor, last: range.end == end, work: if copied { Work::Copy(range) } else { Work::Rows(range) } }
    })
}

fn convert<'a>(source: &'a dyn Source, plan: &Plan, rounder: &Rounder, job: &Job) -> Result<Output<'a>, ConvertError> {
    let (to, origin) = (&plan.tensors[job.tensor], plan.origins[job.tensor]);
    let rows = match &job.work {
        Work::Copy(range) => {
            let data = source.mapped(origin).expect("what is not plain lies in its file as it is");
            return Ok(Output { bytes: Cow::Borrowed(&data[range.clone()]), scales: Vec::new() });
        }
        Work::Rows(rows) => rows.clone(),
    };
    let bytes = if to.ty() == source.tensors()[origin].ty() {
        source.rows(origin, rows)
    } else {
        let values = source.values(origin, rows.clone());
        check_range(source, origin, to.ty(), rows.start, &values)?;
        Cow::Owned(rounder.round(plan, job.tensor, &values))
    };
    if to.encoding.is_packed() { Ok(packed_rows(to, &bytes)) } else { Ok(Output { bytes, scales: Vec::new() }) }
}

/// Whole rows, starting with a group, as the output of a packed tensor.
fn packed_rows(info: &TensorInfo, plain: &[u8]) -> Output<'static> {
    let layout = info.packed_layout();
    let groups = (plain.len() / layout.row_bytes()).div_ceil(GROUP_ROWS);
    let mut quants = vec![0; groups * layout.group_quant_bytes()];
    let mut scales = vec![0; groups * layout.group_scale_bytes()];
    for (i, rows) in plain.chunks(GROUP_ROWS * layout.row_bytes()).enumerate() {
        let quants = &mut quants[i * layout.group_quant_bytes()..][..layout.group_quant_bytes()];
        let scales = &mut scales[i * layout.group_scale_bytes()..][..layout.group_scale_bytes()];
        pack_group(&layout, rows, quants, scales);
    }
    Output { bytes: Cow::Owned(quants), scales }
}

/// From values to blocks.
struct Rounder {
    rounding: Rounding,
    /// For each tensor of the output its calibration, if the importance matrix has one: made when it is first needed,
    /// and dropped when the tensor is written.
    calibrations: Vec<Mutex<Option<Arc<Calibration>>>>,
}

impl Rounder {
    /// Whole rows of tensor number `tensor` of the plan, as rows of its type.
    fn round(&self, plan: &Plan, tensor: usize, values: &[f32]) -> Vec<u8> {
        let to = &plan.tensors[tensor];
        let mut out = vec![0; values.len() / to.ty().block_len() * to.ty().block_bytes()];
        match self.rounding {
            Rounding::Plain => blocks::quantize(to.ty(), values, &mut out),
            Rounding::Search => {
                let calibration = self.calibration(plan, tensor);
                search::quantize(to.ty(), to.cols(), values, calibration.as_deref(), &mut out)
            }
        }
        .expect("whole rows, of types whose blocks divide them; the plan has checked rules and calibrations");
        out
    }

    fn calibration(&self, plan: &Plan, tensor: usize) -> Option<Arc<Calibration>> {
        let to = &plan.tensors[tensor];
        let statistics = plan.imatrix.as_ref().filter(|_| !to.ty().is_float())?.find(&to.name)?;
        // The first one here prepares it, the others wait for it. A panic in another thread ends the conversion anyway.
        let mut slot = self.calibrations[tensor].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Some(slot.get_or_insert_with(|| statistics.calibration().into()).clone())
    }

    fn forget(&self, tensor: usize) {
        *self.calibrations[tensor].lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }
}

/// Refuses values that type `ty` cannot hold; they are those of whole rows, the first of them number `first_row`.
pub(super) fn check_range(
    source: &dyn Source,
    origin: usize,
    ty: TensorType,
    first_row: usize,
    values: &[f32],
) -> Result<(), ConvertError> {
    let from = &source.tensors()[origin];
    match out_of_range(ty, values) {
        None => Ok(()),
        Some(i) => Err(ConvertError::WeightOutOfRange {
            path: source.path().to_owned(),
            tensor: from.name.clone(),
            row: first_row + i / from.cols(),
            col: i % from.cols(),
            value: values[i],
            ty,
        }),
    }
}

/// The first value that F16, or the f16 scale of a block, could not hold. F32 and BF16 have the range of f32, so
/// nothing is refused for them; infinities and NaN stay what they are.
fn out_of_range(ty: TensorType, values: &[f32]) -> Option<usize> {
    if matches!(ty, TensorType::F32 | TensorType::BF16) {
        return None;
    }
    // From here on f16 rounds to infinity. Scales are no larger than the largest weight. Written so that NaN is found
    // too.
    const LIMIT: f32 = 65520.0;
    let fits = |v: &f32| v.abs() < LIMIT;
    // Without an early exit the common case is one pass at full speed.
    if values.iter().fold(true, |all, v| all & fits(v)) { None } else { values.iter().position(|v| !fits(v)) }
}

/// Takes the outputs of the jobs in order.
struct Sink<'a> {
    source: &'a dyn Source,
    plan: &'a Plan,
    writer: PartsWriter,
    progress: &'a (dyn Fn(ConvertProgress) + Sync),
    /// Scales of the packed matrix at hand.
    scales: Vec<u8>,
    /// Chunks written since pages of the source were given back.
    unreleased: usize,
    bytes: u64,
    total_bytes: u64,
}

impl Sink<'_> {
    fn write(&mut self, job: &Job, output: Output) -> Result<(), ConvertError> {
        let to = &self.plan.tensors[job.tensor];
        self.put(&output.bytes)?;
        self.scales.extend(&output.scales);
        if job.last && to.encoding.is_packed() && matches!(job.work, Work::Rows(_)) {
            let layout = to.packed_layout();
            let gap = layout.scales_offset() - layout.groups() * layout.group_quant_bytes();
            self.put(&vec![0; gap])?;
            let scales = std::mem::take(&mut self.scales);
            self.put(&scales)?;
            self.scales = scales;
            self.scales.clear();
        }
        self.unreleased += 1;
        if job.last || self.unreleased >= RELEASE_EVERY {
            self.source.release(self.plan.origins[job.tensor]);
            self.unreleased = 0;
        }
        (self.progress)(ConvertProgress { tensor: &to.name, bytes: self.bytes, total_bytes: self.total_bytes });
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        // After its last byte a tensor is complete, and an empty part would be taken for the next one's.
        if !bytes.is_empty() {
            self.bytes += bytes.len() as u64;
            self.writer.write_tensor_part(bytes)?;
        }
        Ok(())
    }
}
