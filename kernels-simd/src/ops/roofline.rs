//! What a core can do at best: loops that read memory or multiply in registers and do nothing else.
//!
//! Their rates are the roofline beside which `quipu bench` shows a model's speed. They are written over the same traits
//! as the real kernels, so the roofline is that of the instruction set, not of another one that the CPU may have as
//! well.

use std::hint::black_box;

use crate::gemm::Gemm;
use crate::simd::{ActBlock, LINE, Simd};

/// A way to read memory. Which is the fastest is the CPU's and its memory's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Four places are read in turns, a quarter of the whole apart, instead of one.
    pub four_places: bool,
    /// How many bytes ahead lines are prefetched; 0: not at all.
    pub ahead: usize,
}

impl Reading {
    /// Those that some machine is known to read fastest by.
    pub const ALL: [Reading; 7] = {
        const fn one(ahead: usize) -> Reading {
            Reading { four_places: false, ahead }
        }
        const fn four(ahead: usize) -> Reading {
            Reading { four_places: true, ahead }
        }
        [one(0), one(1 << 10), one(2 << 10), one(8 << 10), four(0), four(2 << 10), four(8 << 10)]
    };
}

/// Reads `x` from beginning to end, but for less than 256 bytes at either. The sum keeps the reads from being left out.
#[inline(always)]
pub(crate) fn read<S: Simd>(s: S, x: &[u8], how: Reading) -> i32 {
    // SAFETY: four bytes are an i32, whatever they are.
    let (_, x, _) = unsafe { x.align_to::<i32>() };
    match (how.four_places, how.ahead > 0) {
        (false, false) => sum::<S, 1, false>(s, x, 0),
        (false, true) => sum::<S, 1, true>(s, x, how.ahead),
        (true, false) => sum::<S, 4, false>(s, x, 0),
        (true, true) => sum::<S, 4, true>(s, x, how.ahead),
    }
}

#[inline(always)]
fn sum<S: Simd, const PLACES: usize, const PREFETCH: bool>(s: S, x: &[i32], ahead: usize) -> i32 {
    /// Numbers read at a time: four lines of the cache.
    const PART: usize = 4 * LINE / 4;
    let each = x.len() / PLACES / PART * PART;
    let mut sums = [s.splat_i32(0); 4];
    for at in (0..each).step_by(PART) {
        for place in 0..PLACES {
            let part = &x[place * each + at..][..PART];
            if PREFETCH {
                // SAFETY: an i32 is four bytes.
                let (_, bytes, _) = unsafe { part.align_to::<u8>() };
                for line in 0..4 {
                    s.prefetch(&bytes[LINE * line..], ahead);
                }
            }
            for i in 0..PART / S::LANES {
                sums[i % 4] = s.add_i32(sums[i % 4], s.load_i32(&part[i * S::LANES..]));
            }
        }
    }
    // What is no whole part of every place.
    for part in x[PLACES * each..].chunks_exact(PART) {
        for i in 0..PART / S::LANES {
            sums[i % 4] = s.add_i32(sums[i % 4], s.load_i32(&part[i * S::LANES..]));
        }
    }
    let mut lanes = [0; 16];
    s.store_i32(s.add_i32(s.add_i32(sums[0], sums[1]), s.add_i32(sums[2], sums[3])), &mut lanes);
    lanes.iter().fold(0, |a, &b| a.wrapping_add(b))
}

/// An instruction set with a loop that multiplies bytes as fast as it can.
pub(crate) trait Roofline: Gemm {
    /// [`Int8Loop::Registers`], if an instruction multiplies bytes and adds to a sum at once: then a loop has to do all
    /// of its products even when activations stay the same.
    #[inline(always)]
    fn in_registers(self, _rounds: usize) -> Option<u64> {
        None
    }

    /// [`int8`], or a loop of what is faster.
    #[inline(always)]
    fn int8_loop(self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        int8(self, bits, how, rounds)
    }
}

/// How a loop that multiplies bytes can go about it: how many lines of codes it keeps in registers, and how many sums
/// side by side, one for each row of activations. Sums wait for each other, so there must be many; registers are few.
/// Which is fastest is the CPU's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8Loop {
    /// Eight lines of codes, four rows of activations.
    Lines8Rows4,
    /// Eight lines of codes, sixteen rows of activations.
    Lines8Rows16,
    /// Four lines of codes, ten rows of activations.
    Lines4Rows10,
    /// Four lines of codes, twenty rows of activations.
    Lines4Rows20,
    /// Activations are in registers, too, the same for every sum: nothing is loaded. Only for instruction sets that
    /// multiply and add in one instruction; for others it is [`Int8Loop::Lines4Rows20`].
    Registers,
}

impl Int8Loop {
    /// All of them.
    pub const ALL: [Int8Loop; 5] = [
        Int8Loop::Lines8Rows4,
        Int8Loop::Lines8Rows16,
        Int8Loop::Lines4Rows10,
        Int8Loop::Lines4Rows20,
        Int8Loop::Registers,
    ];
}

/// `rounds` times the products of codes in registers, of 4 or 8 bits, with activations in the first-level cache or in
/// registers; returns how many multiplications that were.
#[inline(always)]
pub(crate) fn int8<S: Roofline>(s: S, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
    if how == Int8Loop::Registers
        && let Some(products) = s.in_registers(rounds)
    {
        return products;
    }
    match (bits, how) {
        (4, Int8Loop::Lines8Rows4) => dots::<S, 8, 4, 4>(s, rounds),
        (4, Int8Loop::Lines8Rows16) => dots::<S, 8, 4, 16>(s, rounds),
        (4, Int8Loop::Lines4Rows10) => dots::<S, 4, 4, 10>(s, rounds),
        (4, Int8Loop::Lines4Rows20 | Int8Loop::Registers) => dots::<S, 4, 4, 20>(s, rounds),
        (_, Int8Loop::Lines8Rows4) => dots::<S, 8, 8, 4>(s, rounds),
        (_, Int8Loop::Lines8Rows16) => dots::<S, 8, 8, 16>(s, rounds),
        (_, Int8Loop::Lines4Rows10) => dots::<S, 4, 8, 10>(s, rounds),
        (_, Int8Loop::Lines4Rows20 | Int8Loop::Registers) => dots::<S, 4, 8, 20>(s, rounds),
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

/// Products of `N` lines of codes with as many fours of activations, all of it in registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn held<S: Gemm, const N: usize, const SUMS: usize>(s: S, rounds: usize) -> u64 {
    let (codes, acts) = (black_box([1; 8 * LINE]), black_box([1; 32]));
    let lines: [S::Line; N] = std::array::from_fn(|j| s.line(&codes[LINE * j..], 0));
    // Sums that begin alike would all be one.
    let start = black_box([0; SUMS]);
    let mut sums: [S::I; SUMS] = std::array::from_fn(|i| s.splat_i32(start[i]));
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = s.dot::<N, 8>(*sum, &lines, &acts);
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
