//! From the rows of the source to the bytes of the output, a few chunks at a time.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use quipu_quant::blocks;
use quipu_quant::pack::{GROUP_ROWS, pack_group};
use quipu_quant::search;
use quipu_quant::search::Calibration;
use rayon::prelude::*;

use super::numbers::{Written, check_values, check_written};
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
    /// Whole groups of 16 but for the tensor's end.
    rows: Range<usize>,
    last: bool,
}

/// The result of a job.
struct Output<'a> {
    bytes: Cow<'a, [u8]>,
    /// For a packed matrix: the scales of these rows, which have to wait for the end of the quants.
    scales: Cow<'a, [u8]>,
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
    let jobs: Vec<Job> = (0..plan.tensors.len()).flat_map(|tensor| jobs(plan, tensor)).collect();
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

fn jobs(plan: &Plan, tensor: usize) -> impl Iterator<Item = Job> {
    let to = &plan.tensors[tensor];
    let (end, step) = (to.rows(), (CHUNK_WEIGHTS / to.cols() / GROUP_ROWS * GROUP_ROWS).max(GROUP_ROWS));
    // An expert's rows are rounded by themselves.
    let unit = if to.shape.len() == 3 { to.shape[1] } else { end };
    (0..end).step_by(unit).flat_map(move |first| {
        (first..first + unit).step_by(step).map(move |start| {
            let rows = start..(first + unit).min(start + step);
            Job { tensor, last: rows.end == end, rows }
        })
    })
}

fn convert<'a>(source: &'a dyn Source, plan: &Plan, rounder: &Rounder, job: &Job) -> Result<Output<'a>, ConvertError> {
    let (to, origin, rows) = (&plan.tensors[job.tensor], plan.origins[job.tensor], job.rows.clone());
    let from = &source.tensors()[origin];
    let copied = to.encoding == from.encoding && !matches!(to.encoding, Encoding::Plain(_));
    let output = if copied {
        let data = source.mapped(origin).expect("what is not plain lies in its file as it is");
        copied_rows(to, data, rows.clone())
    } else {
        let bytes = if to.ty() == from.ty() {
            source.rows(origin, rows.clone())
        } else {
            let values = source.values(origin, rows.clone());
            check_values(source, origin, to.ty(), rows.start, &values)?;
            Cow::Owned(rounder.round(plan, job, &values))
        };
        if to.encoding.is_packed() { packed_rows(to, &bytes) } else { Output { bytes, scales: Cow::Borrowed(&[]) } }
    };
    let written = match to.encoding {
        Encoding::Packed(_) => Written::Packed(&output.bytes, &output.scales),
        _ => Written::Plain(&output.bytes),
    };
    check_written(source, origin, to, rows, written)?;
    Ok(output)
}

/// Whole rows, starting with a group, as they lie in their file, whose bytes are `data`.
fn copied_rows<'a>(info: &TensorInfo, data: &'a [u8], rows: Range<usize>) -> Output<'a> {
    if !info.encoding.is_packed() {
        return Output { bytes: Cow::Borrowed(info.bytes_of(data, rows)), scales: Cow::Borrowed(&[]) };
    }
    let groups = rows.start / GROUP_ROWS..rows.end.div_ceil(GROUP_ROWS);
    let (quants, scales) = info.packed_layout().groups_of(data, groups);
    Output { bytes: Cow::Borrowed(quants), scales: Cow::Borrowed(scales) }
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
    Output { bytes: Cow::Owned(quants), scales: Cow::Owned(scales) }
}

/// From values to blocks.
struct Rounder {
    rounding: Rounding,
    /// For each tensor of the output its calibration, if the importance matrix has one: made when it is first needed,
    /// and dropped when the tensor is written.
    calibrations: Vec<Mutex<Option<Arc<Calibration>>>>,
}

impl Rounder {
    /// The rows of `job` as rows of its tensor's type.
    fn round(&self, plan: &Plan, job: &Job, values: &[f32]) -> Vec<u8> {
        let to = &plan.tensors[job.tensor];
        let mut out = vec![0; values.len() / to.ty().block_len() * to.ty().block_bytes()];
        match self.rounding {
            Rounding::Plain => blocks::quantize(to.ty(), values, &mut out),
            Rounding::Search => {
                let calibration = self.calibration(plan, job);
                search::quantize(to.ty(), to.cols(), values, calibration.as_deref(), &mut out)
            }
        }
        .expect("whole rows, of types whose blocks divide them; the plan has checked rules and calibrations");
        out
    }

    fn calibration(&self, plan: &Plan, job: &Job) -> Option<Arc<Calibration>> {
        let to = &plan.tensors[job.tensor];
        let statistics = plan.imatrix.as_ref().filter(|_| !to.ty().is_float())?.find_row(to, job.rows.start)?;
        // Without products it is made in no time.
        if to.shape.len() == 3 {
            return Some(statistics.calibration().into());
        }
        // The first one here prepares it, the others wait for it. A panic in another thread ends the conversion anyway.
        let mut slot = self.calibrations[job.tensor].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Some(slot.get_or_insert_with(|| statistics.calibration().into()).clone())
    }

    fn forget(&self, tensor: usize) {
        *self.calibrations[tensor].lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }
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
        self.scales.extend_from_slice(&output.scales);
        if job.last && to.encoding.is_packed() {
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
