//! The reference dot product. It is the definition: every kernel must give the same bits.
//!
//! A row is one chain of fused multiply-adds, starting from +0, over its blocks of 32 columns in ascending order. The
//! products within a block, or within each half of it where halves have scales of their own, are summed exactly, as
//! integers.

use half::{bf16, f16};

use crate::activations::{self, BLOCK};
use crate::blocks::{Block, Min, Scale, read_blocks, with_block};
use crate::types::TensorType;

// Every integer of magnitude up to 2²⁴ is an f32. The largest sum of a block is that of Q8_0: its bytes may be −128 in
// a file.
const _: () = assert!(32 * 128 * activations::MAX as i32 <= 1 << 24);

/// A row of activations as [`activations::quantize`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedRow {
    /// Values, one for each column.
    pub q: Vec<i8>,
    /// Scales, one for each 32 columns.
    pub d: Vec<f32>,
    /// Sums of the 32 values, one for each 32 columns.
    pub sum: Vec<i32>,
}

impl QuantizedRow {
    /// Quantises `x`.
    ///
    /// # Panics
    /// When the length of `x` is no multiple of 32.
    pub fn new(x: &[f32]) -> Self {
        let blocks = x.len() / BLOCK;
        let mut row = QuantizedRow { q: vec![0; x.len()], d: vec![0.0; blocks], sum: vec![0; blocks] };
        activations::quantize(x, &mut row.q, &mut row.d, &mut row.sum);
        row
    }
}

/// Dot product of a weight row of a block type with quantised activations.
///
/// For each 32 columns, with the weights as [`crate::blocks::Weights32`] and `S` the exact integer sum of `q · x.q`:
/// `acc = fma(scale · x.d, S, acc)`; where the halves have scales of their own, with a sum `S` for each, `acc =
/// fma(fma(scale₁, S₁, scale₀ · S₀), x.d, acc)`. Then for types with a minimum `acc = fma(min, x.d · x.sum, acc)`;
/// where the halves have minima of their own, that is done for the first 16 columns, with the sum of their `x.q` alone,
/// and then for the other 16.
///
/// # Panics
/// When `ty` is a float type or `row` does not have as many weights as `x`.
pub fn dot(ty: TensorType, row: &[u8], x: &QuantizedRow) -> f32 {
    assert_eq!(ty.row_bytes(x.q.len()), Some(row.len()), "bytes of a {ty} row of {} columns", x.q.len());
    with_block!(ty, dot_blocks(row, x), float: panic!("{ty} has no blocks"))
}

fn dot_blocks<B: Block>(row: &[u8], x: &QuantizedRow) -> f32 {
    let subs = B::TYPE.block_len() / BLOCK;
    let mut acc = 0.0_f32;
    for (b, block) in read_blocks::<B>(row).enumerate() {
        for sub in 0..subs {
            let i = b * subs + sub;
            let w = block.weights(sub);
            let (d, q) = (x.d[i], &x.q[i * BLOCK..(i + 1) * BLOCK]);
            acc = match w.scale {
                Scale::One(scale) => (scale * d).mul_add(integer_sum(&w.q, q), acc),
                Scale::Halves([first, second]) => {
                    let (w, q) = (w.q.split_at(BLOCK / 2), q.split_at(BLOCK / 2));
                    second.mul_add(integer_sum(w.1, q.1), first * integer_sum(w.0, q.0)).mul_add(d, acc)
                }
            };
            match w.min {
                Min::None => {}
                Min::One(min) => acc = min.mul_add(d * x.sum[i] as f32, acc),
                Min::Halves(mins) => {
                    for (min, q) in mins.into_iter().zip(q.chunks(BLOCK / 2)) {
                        let sum: i32 = q.iter().map(|&q| i32::from(q)).sum();
                        acc = min.mul_add(d * sum as f32, acc);
                    }
                }
            }
        }
    }
    acc
}

/// `Σ w[k] · x[k]`, exactly.
fn integer_sum(w: &[i8], x: &[i8]) -> f32 {
    w.iter().zip(x).map(|(&w, &x)| i32::from(w) * i32::from(x)).sum::<i32>() as f32
}

/// Dot product of a weight row of a float type with f32 activations: one chain `acc = fma(w[k], x[k], acc)` from +0, k
/// ascending.
///
/// # Panics
/// When `ty` is a block type or `row` does not have as many weights as `x`.
pub fn dot_f32(ty: TensorType, row: &[u8], x: &[f32]) -> f32 {
    fn chain<const N: usize>(row: &[u8], x: &[f32], weight: impl Fn([u8; N]) -> f32) -> f32 {
        row.as_chunks().0.iter().zip(x).fold(0.0, |acc, (&w, &x)| weight(w).mul_add(x, acc))
    }
    assert_eq!(ty.row_bytes(x.len()), Some(row.len()), "bytes of a {ty} row of {} columns", x.len());
    match ty {
        TensorType::F32 => chain(row, x, f32::from_le_bytes),
        TensorType::F16 => chain(row, x, |b| f16::from_le_bytes(b).to_f32()),
        TensorType::BF16 => chain(row, x, |b| bf16::from_le_bytes(b).to_f32()),
        _ => panic!("{ty} takes quantised activations"),
    }
}
