//! Quantising by search: the scale, and the minimum, with the least weighted squared error, and codes that know of each
//! other.
//!
//! ggml's plain rule ([`crate::blocks::quantize`]) takes the scale from the largest weight and rounds each weight by
//! itself. Here
//!
//! - the scales are searched for (`fit`: one group of weights; `block32`, `super_block`: whole blocks), where the error
//!   of a weight counts by what is known of the activations that it will meet;
//! - with a [`Calibration`] that knows how activations go together, the error of each weight is made good, as far as it
//!   can be, by the weights still to be rounded in its window of [`WINDOW`] columns ([`calibration`]).
//!
//! The plain block stands as a candidate, so that by the measure that is searched for nothing gets worse.

mod block32;
pub mod calibration;
mod feedback;
mod few_bits;
mod fit;
mod iq4;
mod super_block;

pub use calibration::{Calibration, WINDOW};
pub(crate) use super_block::pack_6_bits;

use crate::TensorType;
use crate::blocks::{self, Block, BlockError, SUB, with_block};
use feedback::ROWS;
use fit::{Codes, Grid};

/// Turns f32 values into blocks whose weighted squared error is as small as the search can make it.
///
/// `src` is whole rows of `cols` finite values, `dst` the bytes of their blocks. Types without blocks are rounded to
/// nearest. A value that is not finite gives an unspecified block.
///
/// # Errors
/// [`BlockError::Length`] when the lengths do not fit together, or the calibration is for another number of columns.
pub fn quantize(
    ty: TensorType,
    cols: usize,
    src: &[f32],
    calibration: Option<&Calibration>,
    dst: &mut [u8],
) -> Result<(), BlockError> {
    fn rows<B: Search>(cols: usize, src: &[f32], calibration: Option<&Calibration>, dst: &mut [u8]) {
        let row_bytes = cols / B::TYPE.block_len() * B::TYPE.block_bytes();
        if let Some(calibration) = calibration.filter(|c| !c.feedback().is_empty()) {
            let together = src.chunks(ROWS * cols).zip(dst.chunks_mut(ROWS * row_bytes));
            return together.for_each(|(x, out)| feedback::quantize_rows::<B>(calibration, x, out));
        }
        let mut by_size = vec![1.0; cols];
        for (x, out) in src.chunks_exact(cols).zip(dst.chunks_exact_mut(row_bytes)) {
            let weights = match calibration {
                Some(calibration) => calibration.weights(),
                None => {
                    weigh_by_size::<B>(x, &mut by_size);
                    &by_size
                }
            };
            search_blocks::<B>(x, weights, out);
        }
    }
    if ty.is_float() {
        return blocks::quantize(ty, src, dst);
    }
    blocks::check_lengths(ty, src.len(), dst.len())?;
    let found = calibration.map_or(cols, Calibration::cols);
    if cols == 0 || !cols.is_multiple_of(ty.block_len()) || !src.len().is_multiple_of(cols) || found != cols {
        return Err(BlockError::Length { ty, what: "number of columns", expected: found, found: cols });
    }
    with_block!(ty, rows(cols, src, calibration, dst), float: unreachable!("handled above"));
    Ok(())
}

/// What the search for scales is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// All starts and rounds that gain something.
    Full,
    /// A few starts: where codes are set one by one afterwards, each after the errors before it, most of the gain is
    /// there.
    Brief,
}

impl Effort {
    /// Most steps from the best start to its minimum; two or three nearly always lead there.
    fn steps(self) -> usize {
        match self {
            Effort::Full => 8,
            Effort::Brief => 2,
        }
    }
}

/// A block type that a search is known for.
pub(crate) trait Search: Block {
    /// Whether weights that no calibration speaks of count by their size. Measured: it helps the blocks of 32, whose
    /// largest weights come off badly otherwise, and harms those of 256.
    const COUNT_BY_SIZE: bool;

    /// Values of the codes that are used, where they are integers one after the other.
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

    /// The block for the values `x` whose squared errors count `w`; both as long as the block. Values are finite and of
    /// a size that f16 scales can hold, the largest weight is 1 and all are positive.
    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self;

    /// The block by ggml's plain rule, where there is one.
    fn plain(_x: &[f32]) -> Option<Self> {
        None
    }
}

/// Without a calibration: the root of the squares' mean over 256 columns, and of the weight itself.
fn weigh_by_size<B: Search>(x: &[f32], w: &mut [f32]) {
    if !B::COUNT_BY_SIZE {
        return w.fill(1.0);
    }
    for (x, w) in x.chunks(WINDOW).zip(w.chunks_mut(WINDOW)) {
        let mean = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
        for (x, w) in x.iter().zip(w) {
            *w = (mean + x * x).sqrt();
        }
    }
}

fn search_blocks<B: Search>(x: &[f32], w: &[f32], out: &mut [u8]) {
    let n = B::TYPE.block_len();
    for ((x, w), out) in x.chunks_exact(n).zip(w.chunks_exact(n)).zip(out.chunks_exact_mut(size_of::<B>())) {
        out.copy_from_slice(bytemuck::bytes_of(&search_block::<B>(x, w, Effort::Full)));
    }
}

/// The better one of the block that the search finds and the plain one.
fn search_block<B: Search>(x: &[f32], w: &[f32], effort: Effort) -> B {
    /// Below, every f16 scale is 0; above, squares leave the range of f32.
    const SIZES: std::ops::Range<f32> = 1e-12..1e15;
    /// Weights further below the largest than this count as much as this.
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
fn weighted_error<B: Block>(block: &B, x: &[f32], w: &[f32]) -> f64 {
    let mut values = [0.0; 256];
    block.dequantize(&mut values[..x.len()]);
    let error = |((x, w), v): ((&f32, &f32), &f32)| f64::from(*w) * (f64::from(*x) - f64::from(*v)).powi(2);
    x.iter().zip(w).zip(&values).map(error).sum()
}

/// Sets the codes of all sub-blocks to the nearest ones for the block's scales.
fn set_nearest_codes<B: Search>(block: &mut B, x: &[f32]) {
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
