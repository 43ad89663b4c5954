//! The matrix instructions of ARMv8.6.

use std::arch::aarch64::*;

use super::dotprod;
use super::vectors::{Arm, Products};

/// A CPU with the dot product and the int8 matrix instructions.
pub(crate) type I8mm = Arm<Smmla>;

impl I8mm {
    /// The proof, if this CPU has the features.
    pub(crate) fn detect() -> Option<I8mm> {
        Arm::when(crate::cpu::arm().dotprod && crate::cpu::arm().i8mm)
    }
}

/// Multiplication by `sdot`.
#[derive(Clone, Copy)]
pub(crate) struct Smmla;

// SAFETY: `I8mm::detect` checks for the dot product and matrix instructions.
unsafe impl Products for Smmla {
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
}
