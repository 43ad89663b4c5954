//! The int8 matrix instructions of ARMv8.6: `smmla` multiplies 2 rows of weights × 8 columns by 2 rows of activations ×
//! 8 columns.
//!
//! They pay where activations come in pairs of rows, in full tiles; fewer rows go by `sdot`. The activations of a full
//! tile stand in pairs of rows from the start, and so do expanded codes, so there is nothing to shuffle.

use std::arch::{aarch64::*, asm};

use crate::operands::activations::{TILE_ROWS, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::GroupScales;
use crate::simd::{ActBlock, Simd};

use super::dotprod;
use super::tile::{Blocks, MAGIC_BITS, Operands, Products, from_magic};
use super::vectors::Arm;

/// A CPU with the dot product and the int8 matrix instructions.
pub(crate) type I8mm = Arm<Smmla>;

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
    unsafe fn group_tile<F: Form>(cpu: I8mm, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        // SAFETY: for the caller to see to.
        unsafe { by_pairs::<F>(cpu, codes, scales, tile, out) }
    }
}

/// Sixteen columns of a pair of rows of activations, from `FROM` on, against two pairs of output rows: for the output
/// rows `2r` and `2r + 1`, `sums[r][2i + j] + Σ_k values[r][8i + k] · acts[8j + k]`. (The intrinsics are not stable.)
///
/// # Safety
/// The CPU has the int8 matrix instructions, and they are enabled where this is inlined; `acts` has 32 bytes from
/// `FROM` on.
#[inline(always)]
unsafe fn smmla<const FROM: usize>(
    sums: [int32x4_t; 2],
    values: [[int8x16_t; 2]; 2],
    acts: &[ActBlock; TILE_ROWS],
) -> [int32x4_t; 2] {
    let [mut s0, mut s1] = sums;
    // SAFETY: reads 32 bytes of `acts`; the caller has the instruction.
    unsafe {
        asm!(
            "ldur {a:q}, [{acts}, #{from}]",
            "ldur {b:q}, [{acts}, #{next}]",
            "smmla {s0:v}.4s, {v00:v}.16b, {a:v}.16b",
            "smmla {s1:v}.4s, {v10:v}.16b, {a:v}.16b",
            "smmla {s0:v}.4s, {v01:v}.16b, {b:v}.16b",
            "smmla {s1:v}.4s, {v11:v}.16b, {b:v}.16b",
            s0 = inout(vreg) s0,
            s1 = inout(vreg) s1,
            acts = in(reg) acts.as_ptr(),
            from = const FROM,
            next = const FROM + 16,
            a = out(vreg) _,
            b = out(vreg) _,
            v00 = in(vreg) values[0][0],
            v01 = in(vreg) values[0][1],
            v10 = in(vreg) values[1][0],
            v11 = in(vreg) values[1][1],
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [s0, s1]
}

/// Two vectors, loaded anew each time, which takes no pipe that multiplies; a copy of a register would.
///
/// # Safety
/// Both pointers are to sixteen readable bytes.
#[inline(always)]
unsafe fn load_anew(from: [*const float32x4_t; 2]) -> [float32x4_t; 2] {
    let (x0, x1);
    // SAFETY: what the caller says.
    unsafe {
        // Not `pure`, so that the compiler does not keep a register to copy from.
        asm!(
            "ldur {x0:q}, [{from0}]",
            "ldur {x1:q}, [{from1}]",
            x0 = out(vreg) x0,
            x1 = out(vreg) x1,
            from0 = in(reg) from[0],
            from1 = in(reg) from[1],
            options(readonly, nostack, preserves_flags),
        );
    }
    [x0, x1]
}

/// What two sums start from.
///
/// # Safety
/// None but that of NEON.
#[inline(always)]
unsafe fn magic() -> [int32x4_t; 2] {
    // SAFETY: both pointers are to a static of sixteen bytes.
    unsafe {
        let [m0, m1] = load_anew([(&raw const MAGIC_BITS).cast(); 2]);
        [vreinterpretq_s32_f32(m0), vreinterpretq_s32_f32(m1)]
    }
}

/// Four numbers of output rows as the sums have them: one pair of rows, each twice, then the other.
#[inline(always)]
fn twice(rows: float32x4_t) -> [float32x4_t; 2] {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operand is a value.
    unsafe { [vzip1q_f32(rows, rows), vzip2q_f32(rows, rows)] }
}

/// Pairs of rows in a full tile.
const PAIRS: usize = TILE_ROWS / 2;

/// One group of 16 outputs for a full tile: `tile::by_rows` with 2 × 2 outputs to a vector.
///
/// # Safety
/// What `cpu` stands for is enabled where this is inlined.
#[inline(always)]
unsafe fn by_pairs<F: Form>(cpu: I8mm, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
    for sub in 0..4 {
        let blocks = Blocks::new::<F>(codes, scales, tile, sub);
        let paired = &tile.paired[..blocks.len()];
        // For each pair of rows of activations, two pairs of output rows.
        let mut acc = [[cpu.splat(0.0); 2]; PAIRS];
        for b in 0..blocks.len() {
            let mut cancel = cpu.splat(0.0);
            let x = blocks.block::<Smmla, F>(cpu, b, &mut cancel);
            let (v, acts) = (&x.values, x.acts);
            let (dw, second, cancel) = (twice(x.scales[0]), twice(x.scales[1]), twice(*x.cancel));
            let minima = [twice(x.mins[0]), twice(x.mins[1])];
            let [d, weighted, first_half, second_half] = &paired[b];
            let weighted = if F::MINS == 2 { [first_half, second_half] } else { [weighted; 2] };
            macro_rules! pair {
                ($p:literal) => {
                    // SAFETY: an `I8mm` exists, so this CPU has the instructions; the caller enabled them.
                    unsafe {
                        let mut sums = smmla::<{ 64 * $p }>(magic(), [[v[0], v[1]], [v[4], v[5]]], acts);
                        let mut halves = [x.magic; 2];
                        if F::SCALES == 2 {
                            halves = load_anew([&raw const cancel[0], &raw const cancel[1]]);
                            for r in 0..2 {
                                halves[r] = vfmaq_f32(halves[r], vreinterpretq_f32_s32(sums[r]), dw[r]);
                            }
                            sums = magic();
                        }
                        let sums = smmla::<{ 64 * $p + 32 }>(sums, [[v[2], v[3]], [v[6], v[7]]], acts);
                        for r in 0..2 {
                            let (sum, d) = (from_magic(cpu, sums[r]), cpu.load(&d[$p]));
                            acc[$p][r] = if F::SCALES == 2 {
                                cpu.fma(cpu.fma(sum, second[r], halves[r]), d, acc[$p][r])
                            } else {
                                cpu.fma(cpu.mul(dw[r], d), sum, acc[$p][r])
                            };
                            for i in 0..F::MINS {
                                acc[$p][r] = cpu.fma(minima[i][r], cpu.load(&weighted[i][$p]), acc[$p][r]);
                            }
                        }
                    }
                };
            }
            pair!(0);
            pair!(1);
            pair!(2);
            pair!(3);
        }
        for p in 0..PAIRS {
            // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
            let (even, odd) = unsafe { (vuzp1q_f32(acc[p][0], acc[p][1]), vuzp2q_f32(acc[p][0], acc[p][1])) };
            cpu.store(even, &mut out.row(2 * p)[4 * sub..]);
            cpu.store(odd, &mut out.row(2 * p + 1)[4 * sub..]);
        }
    }
}
