//! Quantising by search: the scales and minima with the least weighted squared error, and codes that make up for each
//! other's errors.
//!
//! ggml's plain rule ([`crate::blocks::quantize`]) takes the scale from the largest weight and rounds each weight by
//! itself. Here
//!
//! - the scales are searched for (`fit`: one group of weights; `block32`, `super_block`: whole blocks); the squared
//!   error of a weight is weighted by what is known of the activations that it multiplies;
//! - with a [`Calibration`] that knows the products of activations, the error of each weight is passed on to the
//!   weights after it in its window of [`WINDOW`] columns ([`calibration`]).
//!
//! Where errors are not passed on, the plain block is tried, too, so that the weighted error is never larger than the
//! plain rule's.

mod block;
mod block32;
pub mod calibration;
mod feedback;
mod few_bits;
mod few_levels;
mod fit;
mod iq4;
mod super_block;

pub use calibration::{Calibration, WINDOW};
pub(crate) use super_block::pack_6_bits;

use self::block::{Effort, Search, search_block};
use self::feedback::ROWS;
use crate::blocks::{self, BlockError, with_block};
use crate::types::TensorType;

/// Turns f32 values into blocks whose weighted squared error is as small as the search can make it.
///
/// ```
/// use quipu_quant::TensorType;
/// use quipu_quant::search::{Calibration, quantize};
///
/// // One row, whose inputs are mostly in the first half of its columns.
/// let (cols, ty) = (256, TensorType::Q4_K);
/// let weights: Vec<f32> = (0..cols).map(|i| (i as f32).sin()).collect();
/// let squares: Vec<f32> = (0..cols).map(|i| if i < cols / 2 { 4.0 } else { 0.1 }).collect();
/// let mut row = vec![0; ty.row_bytes(cols).expect("a whole block")];
/// quantize(ty, cols, &weights, Some(&Calibration::from_squares(&squares)), &mut row)?;
/// # Ok::<(), quipu_quant::blocks::BlockError>(())
/// ```
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

/// The weights of the squared errors without a calibration: `√(m + x²)` for the value `x`, where `m` is the mean square
/// of its window of 256 columns; 1 for all, unless [`Search::COUNT_BY_SIZE`].
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
