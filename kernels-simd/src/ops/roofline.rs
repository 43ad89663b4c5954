//! What a core can do at best: loops that read memory or multiply in registers and do nothing else.
//!
//! Their rates are the roofline beside which `quipu bench` shows a model's speed. They are written over the same traits
//! as the real kernels, so the roofline is that of the instruction set, not of another one that the CPU may have as
//! well.

use std::hint::black_box;

use crate::gemm::Gemm;
use crate::simd::{ActBlock, LINE, Simd};

/// Reads `x` from beginning to end, but for less than 256 bytes at either. The sum keeps the reads from being left out.
#[inline(always)]
pub(crate) fn read<S: Simd>(s: S, x: &[u8]) -> i32 {
    // SAFETY: four bytes are an i32, whatever they are.
    let (_, x, _) = unsafe { x.align_to::<i32>() };
    let mut sums = [s.splat_i32(0); 4];
    for part in x.chunks_exact(4 * S::LANES) {
        for i in 0..4 {
            sums[i] = s.add_i32(sums[i], s.load_i32(&part[i * S::LANES..]));
        }
    }
    let mut lanes = [0; 16];
    s.store_i32(s.add_i32(s.add_i32(sums[0], sums[1]), s.add_i32(sums[2], sums[3])), &mut lanes);
    lanes.iter().fold(0, |a, &b| a.wrapping_add(b))
}

/// An instruction set with a loop that multiplies bytes as fast as it can.
pub(crate) trait Roofline: Gemm {
    /// [`int8`], or a loop of what is faster.
    #[inline(always)]
    fn int8_loop(self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        int8(self, bits, how, rounds)
    }
}

/// How a loop that multiplies bytes can go about it. Sums wait for each other, so there must be many; registers are
/// few. Which is faster is the CPU's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8Loop {
    /// Eight lines of codes, four rows of activations.
    Long,
    /// Four lines of codes, ten rows of activations.
    Wide,
}

/// `rounds` times the products of codes in registers, of 4 or 8 bits, with activations in the first-level cache;
/// returns how many multiplications that were.
#[inline(always)]
pub(crate) fn int8<S: Gemm>(s: S, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
    match (bits, how) {
        (4, Int8Loop::Long) => dots::<S, 8, 4, 4>(s, rounds),
        (4, Int8Loop::Wide) => dots::<S, 4, 4, 10>(s, rounds),
        (_, Int8Loop::Long) => dots::<S, 8, 8, 4>(s, rounds),
        (_, Int8Loop::Wide) => dots::<S, 4, 8, 10>(s, rounds),
    }
}

#[inline(always)]
fn dots<S: Gemm, const N: usize, const BITS: u32, const SUMS: usize>(s: S, rounds: usize) -> u64 {
    let codes = black_box([1; 8 * LINE]);
    let acts: [ActBlock; SUMS] = [[1; 32]; SUMS];
    let lines: [S::Line; N] = std::array::from_fn(|j| s.line(&codes[LINE * j..], 0));
    let mut sums = [s.splat_i32(0); SUMS];
    for _ in 0..rounds {
        // Otherwise products of what does not change would be taken out of the loop.
        let acts = black_box(&acts);
        for (sum, acts) in sums.iter_mut().zip(acts) {
            *sum = s.dot::<N, BITS>(*sum, &lines, acts);
        }
    }
    for sum in sums {
        let mut lanes = [0; 16];
        s.store_i32(sum, &mut lanes);
        black_box(lanes);
    }
    (rounds * SUMS * N * 4 * S::LANES) as u64
}

/// `rounds` times fused multiplications and additions of f32 in registers; returns how many.
#[inline(always)]
pub(crate) fn float32<S: Simd>(s: S, rounds: usize) -> u64 {
    const SUMS: usize = 12;
    let factor = s.splat(black_box(0.5));
    let mut sums = [s.splat(1.0); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = s.fma(*sum, factor, factor);
        }
    }
    for sum in sums {
        let mut lanes = [0.0; 16];
        s.store(sum, &mut lanes);
        black_box(lanes);
    }
    (rounds * SUMS * S::LANES) as u64
}
