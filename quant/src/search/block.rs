//! One block by search: what each block type brings, and what is the same for all.

use super::fit::{self, Codes, Grid};
use crate::blocks::{Block, SUB};

/// How much work the search for scales does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// All starts and rounds that gain something.
    Full,
    /// A few starts. They bring most of the gain where the codes are set one by one afterwards, each making up for the
    /// errors before it.
    Brief,
}

impl Effort {
    /// The most steps from the best start towards its minimum; two or three nearly always reach it.
    pub fn steps(self) -> usize {
        match self {
            Effort::Full => 8,
            Effort::Brief => 2,
        }
    }
}

/// A block type that a search is known for.
pub(crate) trait Search: Block {
    /// Whether, without a calibration, the errors of large weights count more. Measured: this helps the blocks of 32,
    /// whose largest weights are rounded badly otherwise, and harms those of 256.
    const COUNT_BY_SIZE: bool;

    /// The values of the codes that are used, where these are consecutive integers.
    const CODES: Codes = {
        let (zero, count) = (Self::ZERO as f32, (1 << Self::BITS) as f32);
        match Self::BITS {
            8 => Codes { lo: -127.0, hi: 127.0 },
            _ => Codes { lo: -zero, hi: count - 1.0 - zero },
        }
    };

    /// The nearest value of a code.
    fn nearest(v: f32) -> f32 {
        Self::CODES.nearest(v)
    }

    /// The stored code for a value that [`Search::nearest`] gave.
    fn code(q: f32) -> u8 {
        fit::low_byte(q).wrapping_add(Self::ZERO)
    }

    /// The block for the values `x`, whose squared errors are weighted by `w`; both are as long as the block. Values
    /// are finite and of a size that f16 scales can hold. The largest `w` is 1, and all are positive.
    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self;

    /// The block by ggml's plain rule, where there is one.
    fn plain(_x: &[f32]) -> Option<Self> {
        None
    }
}

/// The better of two blocks: the one that the search finds, and the plain one. A brief search does not try the latter.
pub(super) fn search_block<B: Search>(x: &[f32], w: &[f32], effort: Effort) -> B {
    /// Below, every f16 scale is 0; above, squares leave the range of f32.
    const SIZES: std::ops::Range<f32> = 1e-12..1e15;
    /// The least weight of a squared error, as a fraction of the largest; smaller ones are raised to it.
    const LEAST: f32 = 1e-6;
    let largest = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    if !SIZES.contains(&largest) {
        return B::plain(x).unwrap_or_else(|| zero_block());
    }
    let heaviest = w.iter().fold(0.0, |max: f32, &w| max.max(w));
    let mut weights = [1.0; 256];
    let weights = &mut weights[..x.len()];
    if heaviest > 0.0 && heaviest.is_finite() {
        weights.iter_mut().zip(w).for_each(|(to, &w)| *to = (w / heaviest).max(LEAST));
    }
    let found = B::search(x, weights, effort);
    if effort == Effort::Brief {
        return found;
    }
    match B::plain(x) {
        Some(plain) if weighted_error(&plain, x, weights) < weighted_error(&found, x, weights) => plain,
        _ => found,
    }
}

/// A block of zeros.
fn zero_block<B: Block>() -> B {
    let mut block = B::zeroed();
    for sub in 0..B::TYPE.block_len() / SUB {
        block.set_codes(sub, &[B::ZERO; SUB]);
    }
    block
}

/// `Σ w·(x − value)²`.
pub(super) fn weighted_error<B: Block>(block: &B, x: &[f32], w: &[f32]) -> f64 {
    let mut values = [0.0; 256];
    block.dequantize(&mut values[..x.len()]);
    let error = |((x, w), v): ((&f32, &f32), &f32)| f64::from(*w) * (f64::from(*x) - f64::from(*v)).powi(2);
    x.iter().zip(w).zip(&values).map(error).sum()
}

/// Sets the codes of all sub-blocks to the nearest ones for the block's scales.
pub(super) fn set_nearest_codes<B: Search>(block: &mut B, x: &[f32]) {
    for (sub, x) in x.as_chunks::<SUB>().0.iter().enumerate() {
        let (scale, min) = block.scales(sub);
        let inverse = [fit::inverse(scale.of(0)), fit::inverse(scale.of(1))];
        let mut codes = [0; SUB];
        for k in 0..SUB {
            codes[k] = B::code(B::nearest((x[k] - min.of(k / 16)) * inverse[k / 16]));
        }
        block.set_codes(sub, &codes);
    }
}
