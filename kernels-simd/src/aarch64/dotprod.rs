//! The dot product instructions of ARMv8.2: `sdot` multiplies 4 rows × 4 columns by 4 activations picked from a
//! register.

use std::arch::{aarch64::*, asm};

use crate::operands::activations::Tile;
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::GroupScales;

use super::tile::{self, Block, MAGIC_BITS, Products, RowProducts};
use super::vectors::Arm;

/// A CPU with the dot product instructions.
pub(crate) type DotProd = Arm<Sdot>;

/// Multiplication by `sdot`.
#[derive(Clone, Copy)]
pub(crate) struct Sdot;

/// `sum + Σ_i line[row][i] · acts[4·AT + i]`, per row. (The intrinsic is not stable.)
///
/// # Safety
/// The CPU has the dot product instructions, and they are enabled where this is inlined.
#[inline(always)]
unsafe fn sdot<const AT: usize>(mut sum: int32x4_t, line: int8x16_t, acts: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the caller has the instruction.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {line:v}.16b, {acts:v}.4b[{at}]",
            sum = inout(vreg) sum,
            line = in(vreg) line,
            acts = in(vreg) acts,
            at = const AT,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// `init + Σ` over lines `j` and bytes `i` of `lines[j][row][i] · acts[4j + i]`, per row.
///
/// # Safety
/// As [`sdot`].
#[inline(always)]
unsafe fn sum<const N: usize>(init: int32x4_t, lines: &[int8x16_t; N], acts: &[i8]) -> int32x4_t {
    const { assert!(N.is_multiple_of(4)) };
    let acts: &[[i8; 16]] = &acts.as_chunks().0[..N / 4];
    let mut sum = init;
    for (lines, acts) in lines.as_chunks::<4>().0.iter().zip(acts) {
        // SAFETY: `acts` is 16 readable bytes; the caller has the instruction.
        unsafe {
            let acts = vld1q_s8(acts.as_ptr());
            sum = sdot::<0>(sum, lines[0], acts);
            sum = sdot::<1>(sum, lines[1], acts);
            sum = sdot::<2>(sum, lines[2], acts);
            sum = sdot::<3>(sum, lines[3], acts);
        }
    }
    sum
}

/// [`Products::dot`] by `sdot`; all codes are below 128, so signed bytes hold them.
///
/// # Safety
/// As [`sdot`].
#[inline(always)]
pub(super) unsafe fn dot<const N: usize>(init: int32x4_t, lines: &[uint8x16_t; N], acts: &[i8]) -> int32x4_t {
    // SAFETY: NEON is part of every AArch64 target of this crate; the caller has the instruction.
    unsafe {
        let mut signed = [vdupq_n_s8(0); N];
        for j in 0..N {
            signed[j] = vreinterpretq_s8_u8(lines[j]);
        }
        sum(init, &signed, acts)
    }
}

impl Products for Sdot {
    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(
        _: DotProd,
        init: int32x4_t,
        lines: &[uint8x16_t; N],
        acts: &[i8],
    ) -> int32x4_t {
        // SAFETY: a `DotProd` exists, so this CPU has the instructions; tables enable them.
        unsafe { dot(init, lines, acts) }
    }

    #[inline(always)]
    unsafe fn group_tile<F: Form>(cpu: DotProd, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        // SAFETY: for the caller to see to.
        unsafe { tile::by_rows::<Sdot, F>(cpu, codes, scales, tile, out) }
    }
}

/// A row of a full tile in assembly: the sum over the first lines, then what is given, with more operands if it needs
/// them.
///
/// All of it is one block, for the compiler would put the sums of all rows first, and there are too few registers for
/// them. Loads are single, and each sum's start is loaded: what is scarce on a Cortex-A76 are slots to issue from and
/// pipes that multiply.
macro_rules! row {
    ($acc:ident, $values:ident, $from:expr, $block:ident, [$($template:literal,)*] $($operands:tt)*) => {
        asm!(
            "ldur {sum:q}, [{start}]",
            "ldur {a:q}, [{acts}, #{from}]",
            "sdot {sum:v}.4s, {l0:v}.16b, {a:v}.4b[0]",
            "sdot {sum:v}.4s, {l1:v}.16b, {a:v}.4b[1]",
            "sdot {sum:v}.4s, {l2:v}.16b, {a:v}.4b[2]",
            "sdot {sum:v}.4s, {l3:v}.16b, {a:v}.4b[3]",
            $($template,)*
            acc = inout(vreg) $acc,
            sum = out(vreg) _,
            a = out(vreg) _,
            start = in(reg) &raw const MAGIC_BITS,
            magic = in(vreg) $block.magic,
            acts = in(reg) $block.acts.as_ptr(),
            from = const $from,
            next = const $from + 16,
            l0 = in(vreg) $values[0],
            l1 = in(vreg) $values[1],
            l2 = in(vreg) $values[2],
            l3 = in(vreg) $values[3],
            l4 = in(vreg) $values[4],
            l5 = in(vreg) $values[5],
            l6 = in(vreg) $values[6],
            l7 = in(vreg) $values[7],
            dw = in(vreg) $block.scales[0],
            $($operands)*
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}

impl RowProducts for Sdot {
    #[inline(always)]
    unsafe fn row<F: Form, const FROM: usize, const LANE: i32>(
        _: DotProd,
        mut acc: float32x4_t,
        block: &Block<'_>,
        d: float32x4_t,
        weighted: [float32x4_t; 2],
    ) -> float32x4_t {
        let values = &block.values;
        // SAFETY: a `DotProd` exists, so this CPU has the instructions; the caller has enabled them. Reads a static,
        // the row of `block.acts` and `block.cancel`.
        unsafe {
            if F::SCALES == 2 {
                // The first sum is `magic` too large; with `cancel` added its product with the scale is right, and
                // rounded once.
                row!(acc, values, FROM, block, [
                    "ldur {a:q}, [{acts}, #{next}]",
                    "ldur {both:q}, [{cancel}]",
                    "fmla {both:v}.4s, {sum:v}.4s, {dw:v}.4s",
                    "ldur {sum:q}, [{start}]",
                    "sdot {sum:v}.4s, {l4:v}.16b, {a:v}.4b[0]",
                    "sdot {sum:v}.4s, {l5:v}.16b, {a:v}.4b[1]",
                    "sdot {sum:v}.4s, {l6:v}.16b, {a:v}.4b[2]",
                    "sdot {sum:v}.4s, {l7:v}.16b, {a:v}.4b[3]",
                    "fsub {sum:v}.4s, {sum:v}.4s, {magic:v}.4s",
                    "fmla {both:v}.4s, {sum:v}.4s, {second:v}.4s",
                    "fmla {acc:v}.4s, {both:v}.4s, {d:v}.s[{lane}]",
                ]
                    both = out(vreg) _,
                    cancel = in(reg) block.cancel,
                    second = in(vreg) block.scales[1],
                    d = in(vreg) d,
                    lane = const LANE,
                );
            } else {
                row!(acc, values, FROM, block, [
                    "ldur {a:q}, [{acts}, #{next}]",
                    "sdot {sum:v}.4s, {l4:v}.16b, {a:v}.4b[0]",
                    "sdot {sum:v}.4s, {l5:v}.16b, {a:v}.4b[1]",
                    "sdot {sum:v}.4s, {l6:v}.16b, {a:v}.4b[2]",
                    "sdot {sum:v}.4s, {l7:v}.16b, {a:v}.4b[3]",
                    "fmul {a:v}.4s, {dw:v}.4s, {d:v}.s[{lane}]",
                    "fsub {sum:v}.4s, {sum:v}.4s, {magic:v}.4s",
                    "fmla {acc:v}.4s, {a:v}.4s, {sum:v}.4s",
                ]
                    d = in(vreg) d,
                    lane = const LANE,
                );
            }
            for i in 0..F::MINS {
                acc = vfmaq_laneq_f32::<LANE>(acc, block.mins[i], weighted[i]);
            }
        }
        acc
    }
}
