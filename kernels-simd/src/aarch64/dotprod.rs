//! The dot product instructions of ARMv8.2: `sdot` multiplies 4 rows × 4 columns by 4 activations picked from a register.

use std::arch::{aarch64::*, asm};

use crate::activations::{TILE_ROWS, Tile};
use crate::matrix::MatMut;
use crate::ops::matmul_quant::{self, Codes, Scaling};
use crate::ops::scales::GroupScales;

use super::tile::{self, RowProducts, from_magic, magic_bits};
use super::vectors::{Arm, Products};

/// A CPU with the dot product instructions.
pub(crate) type DotProd = Arm<Sdot>;

impl DotProd {
    /// The proof, if this CPU has the feature.
    pub(crate) fn detect() -> Option<DotProd> {
        Arm::when(crate::cpu::arm().dotprod)
    }
}

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
    fn group_tile<C: Codes, K: Scaling, const M: usize>(
        cpu: DotProd,
        codes: &[u8],
        scales: &GroupScales,
        tile: &Tile,
        out: &mut MatMut<'_>,
    ) {
        // SAFETY: a `DotProd` exists, so this CPU has the instructions.
        unsafe { group_tile::<C, K, M>(cpu, codes, scales, tile, out) }
    }
}

#[target_feature(enable = "neon,dotprod")]
#[inline(never)]
fn group_tile<C: Codes, K: Scaling, const M: usize>(
    cpu: DotProd,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    if M == TILE_ROWS {
        // SAFETY: what a `DotProd` stands for is enabled for this function.
        unsafe { tile::by_rows::<Sdot, C, K>(cpu, codes, scales, tile, out) }
    } else {
        matmul_quant::group_tile::<DotProd, C, K, M>(cpu, codes, scales, tile, out);
    }
}

impl RowProducts for Sdot {
    #[inline(always)]
    unsafe fn exact<const N: usize>(cpu: DotProd, values: &[int8x16_t; N], acts: &[i8], _: i32) -> float32x4_t {
        // SAFETY: a `DotProd` exists, so this CPU has the instructions; the caller has enabled them.
        from_magic(cpu, unsafe { sum(magic_bits(), values, acts) })
    }
}
