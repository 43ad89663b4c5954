//! The dot product instructions of ARMv8.2: `sdot` multiplies 4 rows × 4 columns by 4 activations picked from a register.

use std::arch::{aarch64::*, asm};

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
unsafe fn sdot<const AT: usize>(mut sum: int32x4_t, line: uint8x16_t, acts: int8x16_t) -> int32x4_t {
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

/// [`Products::dot`] by `sdot`; all codes are below 128, so signed bytes hold them.
///
/// # Safety
/// As [`sdot`].
#[inline(always)]
pub(super) unsafe fn dot<const N: usize>(init: int32x4_t, lines: &[uint8x16_t; N], acts: &[i8]) -> int32x4_t {
    const { assert!(N.is_multiple_of(4)) };
    let acts = &acts.as_chunks::<16>().0[..N / 4];
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

// SAFETY: `DotProd::detect` checks for the dot product instructions.
unsafe impl Products for Sdot {
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
}
