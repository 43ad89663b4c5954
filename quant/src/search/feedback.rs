//! Rounding column by column, each error passed on to the columns behind it in the window.
//!
//! The codes of a row depend on each other one after the other, but rows do not depend on each other: sixteen of them
//! are rounded side by side. Every weight still takes the errors of the columns before it one by one, in their order,
//! so the result does not depend on who its neighbours are.

use super::block::{Search, search_block};
use super::calibration::{Calibration, WINDOW};
use super::fit;
use crate::blocks::SUB;

/// Rows side by side.
pub(super) const ROWS: usize = 16;

/// The columns of a window, for each row.
type Window = [[f32; WINDOW]; ROWS];

/// Rounds up to [`ROWS`] rows to blocks, by a calibration that knows products.
pub(super) fn quantize_rows<B: Search>(calibration: &Calibration, src: &[f32], dst: &mut [u8]) {
    let (cols, n) = (calibration.cols(), B::TYPE.block_len());
    let mut window: Window = [[0.0; WINDOW]; ROWS];
    let rows = src.len() / cols;
    let row_bytes = cols / n * size_of::<B>();
    for (i, (weights, feedback)) in calibration.weights().chunks(WINDOW).zip(calibration.feedback()).enumerate() {
        let len = weights.len();
        for (to, row) in window.iter_mut().zip(src.chunks_exact(cols)) {
            to[..len].copy_from_slice(&row[i * WINDOW..][..len]);
        }
        for start in (0..len).step_by(n) {
            let mut blocks = [B::zeroed(); ROWS];
            for (block, x) in blocks.iter_mut().zip(&mut window[..rows]) {
                let x = &mut x[start..start + n];
                // Only nonsensical weights and products make values that are not finite.
                x.iter_mut().for_each(|x| *x = if x.is_finite() { *x } else { 0.0 });
                *block = search_block(x, &weights[start..start + n], calibration.effort());
            }
            for sub in 0..n / SUB {
                round_in_turn(&mut blocks, sub, &mut window, start + sub * SUB, len, feedback);
            }
            for (row, block) in dst.chunks_exact_mut(row_bytes).zip(&blocks) {
                let at = (i * WINDOW + start) / n * size_of::<B>();
                row[at..at + size_of::<B>()].copy_from_slice(bytemuck::bytes_of(block));
            }
        }
    }
}

/// Sets the codes of sub-block `sub` of each row, which begins at column `first` of the window, and passes the errors
/// on as far as column `len`.
fn round_in_turn<B: Search>(
    blocks: &mut [B; ROWS],
    sub: usize,
    window: &mut Window,
    first: usize,
    len: usize,
    feedback: &[f32],
) {
    // For each half of the sub-block and each row.
    let (mut scales, mut inverses, mut mins) = ([[0.0; ROWS]; 2], [[0.0; ROWS]; 2], [[0.0; ROWS]; 2]);
    for (r, block) in blocks.iter().enumerate() {
        let (scale, min) = block.scales(sub);
        for half in 0..2 {
            scales[half][r] = scale.of(half);
            inverses[half][r] = fit::inverse(scales[half][r]);
            mins[half][r] = min.of(half);
        }
    }
    let mut columns = [[0.0; ROWS]; SUB];
    for (r, row) in window.iter().enumerate() {
        for k in 0..SUB {
            columns[k][r] = row[first + k];
        }
    }
    let mut errors = [[0.0; ROWS]; SUB];
    let mut codes = [[0; ROWS]; SUB];
    for k in 0..SUB {
        let (scale, inverse, min) = (&scales[k / 16], &inverses[k / 16], &mins[k / 16]);
        let mut error = [0.0; ROWS];
        for r in 0..ROWS {
            let x = columns[k][r];
            let q = B::nearest((x - min[r]) * inverse[r]);
            codes[k][r] = B::code(q);
            error[r] = x - (scale[r] * q + min[r]);
        }
        errors[k] = error;
        let row = &feedback[(first + k) * WINDOW + first..][..SUB];
        for (column, u) in columns[k + 1..].iter_mut().zip(&row[k + 1..]) {
            for r in 0..ROWS {
                column[r] -= error[r] * u;
            }
        }
    }
    for (r, block) in blocks.iter_mut().enumerate() {
        let mut of_row = [0; SUB];
        for k in 0..SUB {
            of_row[k] = codes[k][r];
        }
        block.set_codes(sub, &of_row);
    }
    let rows = &feedback[first * WINDOW..][..SUB * WINDOW];
    for from in (first + SUB..len).step_by(COLUMNS) {
        pass_on(&errors, rows, from, window);
    }
}

/// Columns that take errors together.
const COLUMNS: usize = 8;

/// Passes the errors of a sub-block on to the columns from number `from` on: all errors to a few columns of a few rows
/// at a time, which stay in registers meanwhile. `feedback` are the sub-block's rows of it.
#[inline(always)]
fn pass_on(errors: &[[f32; ROWS]; SUB], feedback: &[f32], from: usize, window: &mut Window) {
    const TOGETHER: usize = 4;
    for (i, rows) in window.as_chunks_mut::<TOGETHER>().0.iter_mut().enumerate() {
        let mut now = [[0.0; COLUMNS]; TOGETHER];
        for (now, row) in now.iter_mut().zip(rows.iter()) {
            now.copy_from_slice(&row[from..from + COLUMNS]);
        }
        for (errors, u) in errors.iter().zip(feedback.chunks_exact(WINDOW)) {
            let (errors, u) = (&errors[i * TOGETHER..][..TOGETHER], &u[from..from + COLUMNS]);
            for r in 0..TOGETHER {
                for k in 0..COLUMNS {
                    now[r][k] -= errors[r] * u[k];
                }
            }
        }
        for (now, row) in now.iter().zip(rows.iter_mut()) {
            row[from..from + COLUMNS].copy_from_slice(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use quipu_test_random::Random;

    use super::*;
    use crate::search::quantize;
    use crate::types::TensorType;

    /// A row becomes the same blocks alone, among fifteen others, and after a group that is full.
    #[test]
    fn rows_do_not_know_of_each_other() {
        let mut random = Random::new(1);
        let cols = 512;
        let inputs = random.numbers(40 * cols);
        let product = |i: usize, j: usize| inputs.chunks(cols).map(|x| x[i] * x[j]).sum::<f32>() / 40.0;
        let gram: Vec<f32> =
            (0..cols * WINDOW).map(|n| product(n / WINDOW, n / WINDOW / WINDOW * WINDOW + n % WINDOW)).collect();
        let squares: Vec<f32> = (0..cols).map(|i| product(i, i)).collect();
        let calibration = Calibration::from_products(&squares, &gram, 40.0).unwrap();
        let weights = random.numbers((2 * ROWS + 3) * cols);
        for ty in TensorType::ALL.into_iter().filter(|ty| !ty.is_float()) {
            let rounded = |weights: &[f32]| {
                let mut bytes = vec![0; ty.row_bytes(weights.len()).unwrap()];
                quantize(ty, cols, weights, Some(&calibration), &mut bytes).unwrap();
                bytes
            };
            let together = rounded(&weights);
            let alone: Vec<u8> = weights.chunks(cols).flat_map(rounded).collect();
            assert!(together == alone, "{ty}");
        }
    }
}
