//! What Meta's Llama 3.2 in four bits have besides codes and scales: a low-rank matrix beside each (QLoRA: Dettmers et
//! al. 2023), or a turn of the inputs of the feed-forward layer's way down (SpinQuant: Liu et al. 2024).
//!
//! Both are put into the numbers of the matrix: `W + s · B · A`, and `W · H` where the model computes `W · (H x)` with
//! Hadamard's matrix `H` of the whole width over its root. `H` is its own mirror image, so a row of `W · H` is `H`
//! times the row. So the model runs without a step of its own; what is lost is that these matrices lie on no grid of
//! four bits.

use std::ops::Range;

use super::codes::number;
use crate::hf::stored::Stored;
use crate::map::MappedFile;

/// A low-rank matrix that is added.
#[derive(Clone, Debug)]
pub(super) struct LowRank {
    /// rank × columns.
    pub a: Stored,
    /// rows × rank.
    pub b: Stored,
    pub scale: f32,
}

/// A low-rank matrix whose numbers are at hand.
pub(super) struct OpenLowRank {
    a: Vec<f32>,
    b: Vec<f32>,
    rank: usize,
    first: usize,
    scale: f32,
}

impl LowRank {
    /// For some `rows`.
    pub fn open(&self, files: &[MappedFile], rows: Range<usize>) -> OpenLowRank {
        // The types were checked when the matrix was put together.
        let floats = |stored: &Stored, rows: Range<usize>| -> Vec<f32> {
            let bytes = stored.bytes(files, rows.clone());
            (0..rows.len() * stored.shape[1]).map(|at| number(stored.dtype, &bytes, at).unwrap_or(f32::NAN)).collect()
        };
        let rank = self.a.shape[0];
        let (a, b) = (floats(&self.a, 0..rank), floats(&self.b, rows.clone()));
        OpenLowRank { a, b, rank, first: rows.start, scale: self.scale }
    }
}

impl OpenLowRank {
    /// Adds its row `row` to `values`: the products in order of the rank, in F32, then the scale.
    pub fn add(&self, row: usize, values: &mut [f32]) {
        let cols = values.len();
        let mut sums = vec![0.0f32; cols];
        for (b, a) in self.b[(row - self.first) * self.rank..][..self.rank].iter().zip(self.a.chunks_exact(cols)) {
            sums.iter_mut().zip(a).for_each(|(sum, a)| *sum += b * a);
        }
        values.iter_mut().zip(sums).for_each(|(value, sum)| *value += self.scale * sum);
    }
}

/// Hadamard's matrix times `values`, whose number is a power of two, over its root (Sylvester's order of rows).
pub(super) fn turn(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            left.iter_mut().zip(right).for_each(|(l, r)| (*l, *r) = (*l + *r, *l - *r));
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f32).sqrt();
    values.iter_mut().for_each(|value| *value *= scale);
}
