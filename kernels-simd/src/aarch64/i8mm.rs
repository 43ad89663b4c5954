//! The int8 matrix instructions of ARMv8.6: `smmla` multiplies 2 rows of weights × 8 columns by 2 rows of activations × 8 columns.
//!
//! They pay where activations come in pairs of rows, in full tiles; fewer rows go by `sdot`. The activations of a full tile stand
//! in pairs of rows from the start, and so do expanded codes, so there is nothing to shuffle.

use std::arch::{aarch64::*, asm};

use crate::activations::{TILE_ROWS, Tile};
use crate::matrix::MatMut;
use crate::ops::matmul_quant::{self, Codes, Scaling};
use crate::ops::scales::GroupScales;
use crate::simd::Simd;

use super::dotprod;
use super::tile::{self, Operands, from_magic, magic_bits, scaled_halves};
use super::vectors::{Arm, Products};

/// A CPU with the dot product and the int8 matrix instructions.
pub(crate) type I8mm = Arm<Smmla>;

impl I8mm {
    /// The proof, if this CPU has the features.
    pub(crate) fn detect() -> Option<I8mm> {
        Arm::when(crate::cpu::arm().dotprod && crate::cpu::arm().i8mm)
    }
}

/// Multiplication by `smmla`, and by `sdot` where rows are few.
#[derive(Clone, Copy)]
pub(crate) struct Smmla;

impl Products for Smmla {
    const PAIRS_ROWS: bool = true;

    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(
        _: I8mm,
        init: int32x4_t,
        lines: &[uint8x16_t; N],
        acts: &[i8],
    ) -> int32x4_t {
        // SAFETY: an `I8mm` exists, so this CPU has the instructions; tables enable them.
        unsafe { dotprod::dot(init, lines, acts) }
    }

    /// Rows 0 and 1 × 8 columns, four times, then rows 2 and 3.
    #[inline(always)]
    fn operands(lines: Operands) -> Operands {
        // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
        unsafe {
            let mut pairs = lines;
            for i in 0..4 {
                let (even, odd) = (vreinterpretq_s32_s8(lines[2 * i]), vreinterpretq_s32_s8(lines[2 * i + 1]));
                pairs[i] = vreinterpretq_s8_s32(vzip1q_s32(even, odd));
                pairs[4 + i] = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
            }
            pairs
        }
    }

    #[inline(always)]
    fn group_tile<C: Codes, K: Scaling, const M: usize>(
        cpu: I8mm,
        codes: &[u8],
        scales: &GroupScales,
        tile: &Tile,
        out: &mut MatMut<'_>,
    ) {
        // SAFETY: an `I8mm` exists, so this CPU has the instructions.
        unsafe { group_tile::<C, K, M>(cpu, codes, scales, tile, out) }
    }
}

#[target_feature(enable = "neon,dotprod,i8mm")]
#[inline(never)]
fn group_tile<C: Codes, K: Scaling, const M: usize>(
    cpu: I8mm,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    if M == TILE_ROWS {
        // SAFETY: what an `I8mm` stands for is enabled for this function.
        unsafe { by_pairs::<C, K>(cpu, codes, scales, tile, out) }
    } else {
        matmul_quant::group_tile::<I8mm, C, K, M>(cpu, codes, scales, tile, out);
    }
}

/// `sum[2i + j] + Σ_k a[8i + k] · b[8j + k]`. (The intrinsic is not stable.)
///
/// # Safety
/// The CPU has the int8 matrix instructions, and they are enabled where this is inlined.
#[inline(always)]
unsafe fn smmla(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the caller has the instruction.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Four numbers of output rows as the sums have them: one pair of rows, each twice, then the other.
#[inline(always)]
fn twice(rows: float32x4_t) -> [float32x4_t; 2] {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operand is a value.
    unsafe { [vzip1q_f32(rows, rows), vzip2q_f32(rows, rows)] }
}

/// The numbers of two rows of activations as the sums have them: both, twice.
#[inline(always)]
fn both_twice(x: &[f32]) -> float32x4_t {
    let x: &[f32; 2] = x.first_chunk().expect("a number per row");
    // SAFETY: `x` is 8 readable bytes; NEON is part of every AArch64 target of this crate.
    unsafe { vreinterpretq_f32_f64(vld1q_dup_f64(x.as_ptr().cast())) }
}

/// One group of 16 outputs for a full tile: [`tile::by_rows`] with 2 × 2 outputs to a vector.
///
/// # Safety
/// What `cpu` stands for is enabled where this is inlined.
#[inline(always)]
unsafe fn by_pairs<C: Codes, K: Scaling>(
    cpu: I8mm,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    const PAIRS: usize = TILE_ROWS / 2;
    tile::check::<C, K>(codes, scales, tile);
    let blocks = tile.blocks;
    for sub in 0..4 {
        // For each pair of rows of activations, two pairs of output rows.
        let mut acc = [[cpu.splat(0.0); 2]; PAIRS];
        for b in 0..blocks {
            let values = tile::operands::<Smmla, C, K>(cpu, codes, blocks, b, sub);
            let dw = twice(cpu.load(&scales.d[b][4 * sub..]));
            let (acts, _) = tile.q[TILE_ROWS * b..][..TILE_ROWS].as_flattened().as_chunks::<64>();
            for p in 0..PAIRS {
                let d = both_twice(&tile.d[TILE_ROWS * b + 2 * p..]);
                // SAFETY: `acts` are readable bytes; an `I8mm` exists, so this CPU has the instructions; the caller enabled them.
                unsafe {
                    let acts: &[i8; 64] = &acts[p];
                    let mut a = [vdupq_n_s8(0); 4];
                    for i in 0..4 {
                        a[i] = vld1q_s8(acts[16 * i..].as_ptr());
                    }
                    for r in 0..2 {
                        let w = &values[4 * r..][..4];
                        let sum = if K::HALVES {
                            let mut halves = [cpu.splat(0.0); 2];
                            for h in 0..2 {
                                let first = smmla(magic_bits(), w[2 * h], a[2 * h]);
                                halves[h] = from_magic(cpu, smmla(first, w[2 * h + 1], a[2 * h + 1]));
                            }
                            let [s0, s1] = &scales.halves[b];
                            let s0 = twice(cpu.to_f32(cpu.load_i32(&s0[4 * sub..])));
                            let s1 = twice(cpu.to_f32(cpu.load_i32(&s1[4 * sub..])));
                            scaled_halves(halves[0], halves[1], s0[r], s1[r])
                        } else {
                            let mut sum = magic_bits();
                            for i in 0..4 {
                                sum = smmla(sum, w[i], a[i]);
                            }
                            from_magic(cpu, sum)
                        };
                        acc[p][r] = cpu.fma(cpu.mul(dw[r], d), sum, acc[p][r]);
                    }
                }
                if K::MIN {
                    let mw = twice(cpu.load(&scales.m[b][4 * sub..]));
                    let weighted = both_twice(&tile.weighted[TILE_ROWS * b + 2 * p..]);
                    for r in 0..2 {
                        acc[p][r] = cpu.fma(mw[r], weighted, acc[p][r]);
                    }
                }
            }
        }
        for p in 0..PAIRS {
            // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
            let (even, odd) = unsafe { (vuzp1q_f32(acc[p][0], acc[p][1]), vuzp2q_f32(acc[p][0], acc[p][1])) };
            cpu.store(even, &mut out.row(2 * p)[4 * sub..]);
            cpu.store(odd, &mut out.row(2 * p + 1)[4 * sub..]);
        }
    }
}
