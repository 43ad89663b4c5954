//! What no output may hold: weights that are no numbers, and such as are too large for their type.

use std::ops::Range;

use quipu_quant::TensorType;
use quipu_quant::blocks::all_finite;
use quipu_quant::pack::group_is_finite;

use super::outcome::ConvertError;
use crate::source::{Encoding, Source, TensorInfo};

/// From here on f16 rounds to infinity. The scales of blocks are no larger than their largest weight.
const F16_LIMIT: f32 = 65520.0;

/// Whether a weight is a number that `ty`, or the f16 scale of its blocks, can hold. F32 and BF16 hold all that f32
/// does.
fn fits(ty: TensorType, value: f32) -> bool {
    // False for NaN, too.
    if matches!(ty, TensorType::F32 | TensorType::BF16) { value.is_finite() } else { value.abs() < F16_LIMIT }
}

/// Refuses values that do not fit into type `ty`; they are those of whole rows of tensor number `index`, the first of
/// them number `first_row`.
pub(super) fn check_values(
    source: &dyn Source,
    index: usize,
    ty: TensorType,
    first_row: usize,
    values: &[f32],
) -> Result<(), ConvertError> {
    // Without an early exit the common case is one pass at full speed.
    if values.iter().fold(true, |all, &value| all & fits(ty, value)) {
        return Ok(());
    }
    let first = values.iter().position(|&value| !fits(ty, value)).unwrap_or(0);
    Err(bad_weight(&source.tensors()[index], source, ty, (first_row, first), values[first]))
}

/// The bytes of whole rows of an output, as they are written.
pub(super) enum Written<'a> {
    /// Row after row.
    Plain(&'a [u8]),
    /// Groups of rows: codes, and scales.
    Packed(&'a [u8], &'a [u8]),
}

/// Refuses `rows` of tensor number `index` if what is written of them as `to` has weights that are no numbers.
pub(super) fn check_written(
    source: &dyn Source,
    index: usize,
    to: &TensorInfo,
    rows: Range<usize>,
    written: Written<'_>,
) -> Result<(), ConvertError> {
    let finite = match (written, to.encoding) {
        (Written::Packed(quants, scales), _) => {
            let layout = to.packed_layout();
            // Float types have no scales.
            let mut scales = scales.chunks_exact(layout.group_scale_bytes().max(1));
            quants.chunks_exact(layout.group_quant_bytes()).all(|group| {
                let scales = scales.next().unwrap_or_default();
                group_is_finite(&layout, group, scales)
            })
        }
        // Types without kernels have scales of several kinds, and are seldom copied.
        (Written::Plain(_), Encoding::Stored(_)) => source.values(index, rows.clone()).iter().all(|x| x.is_finite()),
        (Written::Plain(bytes), _) => all_finite(to.ty(), bytes),
    };
    if finite {
        return Ok(());
    }
    let values = source.values(index, rows.clone());
    // What was recoded may have been a number that is too large for the type in its place: the largest, then.
    let largest = || (0..values.len()).max_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
    let bad = values.iter().position(|value| !value.is_finite()).or_else(largest).unwrap_or(0);
    let value = values.get(bad).copied().unwrap_or(f32::NAN);
    Err(bad_weight(&source.tensors()[index], source, to.ty(), (rows.start, bad), value))
}

/// The error for the weight with number `at.1` of the rows from `at.0` on.
fn bad_weight(from: &TensorInfo, source: &dyn Source, ty: TensorType, at: (usize, usize), value: f32) -> ConvertError {
    let (path, tensor) = (source.path().to_owned(), from.name.clone());
    let (row, col) = (at.0 + at.1 / from.cols(), at.1 % from.cols());
    if value.is_finite() {
        ConvertError::WeightOutOfRange { path, tensor, row, col, value, ty }
    } else {
        ConvertError::NotFinite { path, tensor, row, col, value }
    }
}
