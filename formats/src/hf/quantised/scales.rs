//! Scales and zero points: which one belongs to a weight.

use std::borrow::Cow;
use std::ops::Range;

use super::codes::{number, packed};
use crate::hf::stored::Stored;
use crate::map::MappedFile;
use crate::safetensors::Dtype;

/// The scales of a matrix: a grid, of which each covers `rows` × `cols` weights.
#[derive(Clone, Debug)]
pub(super) struct Scales {
    pub tensor: Stored,
    /// Rows and columns that share a scale.
    pub block: (usize, usize),
    /// Scales side by side.
    pub width: usize,
    /// The group of each column, where they are not in order (I32, one for each column).
    pub order: Option<Stored>,
}

/// Scales whose bytes are at hand.
pub(super) struct OpenScales<'a> {
    scales: &'a Scales,
    bytes: Cow<'a, [u8]>,
    order: Option<Vec<usize>>,
}

/// Zero points, one for each scale.
#[derive(Clone, Debug)]
pub(super) struct Zeros {
    pub tensor: Stored,
    /// Bits of packed ones, which lie one below the other.
    pub packed: Option<usize>,
}

/// Zero points whose bytes are at hand.
pub(super) struct OpenZeros<'a> {
    zeros: &'a Zeros,
    bytes: Cow<'a, [u8]>,
}

impl Scales {
    pub fn open<'a>(&'a self, files: &'a [MappedFile]) -> OpenScales<'a> {
        // Checked when the matrix was put together: every number is that of a group.
        let group = |b: &[u8]| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize;
        let order = self.order.as_ref().map(|order| order.all(files).chunks_exact(4).map(group).collect());
        OpenScales { scales: self, bytes: self.tensor.all(files), order }
    }

    /// The columns of a row of `cols` that have one scale each, with its number in the row. `order` has the group of
    /// each column.
    pub fn runs<'a>(
        &self,
        cols: usize,
        order: Option<&'a [usize]>,
    ) -> impl Iterator<Item = (Range<usize>, usize)> + 'a {
        let step = if order.is_some() { 1 } else { self.block.1 };
        (0..cols.div_ceil(step)).map(move |run| {
            let range = run * step..((run + 1) * step).min(cols);
            (range, order.map_or(run, |order| order[run]))
        })
    }
}

impl OpenScales<'_> {
    /// The group of each column, where they are not in order.
    pub fn groups(&self) -> Option<&[usize]> {
        self.order.as_deref()
    }

    /// The scale of group `group` of row `row`.
    pub fn of(&self, row: usize, group: usize) -> f32 {
        let at = row / self.scales.block.0 * self.scales.width + group;
        // The type was checked when the matrix was put together.
        number(self.scales.tensor.dtype, &self.bytes, at).unwrap_or(f32::NAN)
    }
}

impl Zeros {
    pub fn open<'a>(&'a self, files: &'a [MappedFile]) -> OpenZeros<'a> {
        OpenZeros { zeros: self, bytes: self.tensor.all(files) }
    }
}

impl OpenZeros<'_> {
    /// The zero point that belongs to the scale of group `group` of row `row`.
    pub fn of(&self, scales: &Scales, row: usize, group: usize) -> f32 {
        let row = row / scales.block.0;
        match self.zeros.packed {
            // Words of 32 bits, each with the codes of some rows; below it stands the word of the next.
            Some(bits) => packed(bits, row, |byte| {
                let at = (byte / 4 * scales.width + group) * 4 + byte % 4;
                self.bytes.get(at).copied().unwrap_or(0)
            }),
            None => number(self.zeros.tensor.dtype, &self.bytes, row * scales.width + group).unwrap_or(f32::NAN),
        }
    }
}

/// Whether scales can have this type.
pub(super) fn is_scale(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E8M0 | Dtype::U8)
}
