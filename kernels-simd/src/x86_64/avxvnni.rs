//! AVX-VNNI: `vpdpbusd` on the eight lanes of AVX2, in the VEX encoding, for CPUs without AVX-512.

use std::arch::x86_64::*;

use crate::simd::{Kernel, call_with, four};

use super::avx2::{Avx, Products};

/// A CPU with AVX2, FMA, F16C and AVX-VNNI.
pub(crate) type AvxVnni = Avx<Dpbusd>;

impl AvxVnni {
    /// The proof, if this CPU has the features.
    pub(crate) fn detect() -> Option<AvxVnni> {
        Avx::when(crate::cpu::x86().avxvnni)
    }
}

/// Multiplication by `vpdpbusd`.
#[derive(Clone, Copy)]
pub(crate) struct Dpbusd;

impl Products for Dpbusd {
    // `vpdpbusd` multiplies unsigned by signed, so signed weights are moved up by 128.
    const BYTE_OFFSET: i32 = 128;

    #[inline(always)]
    fn bytes(_: AvxVnni, line: __m256i) -> __m256i {
        // SAFETY: an `AvxVnni` exists, so this CPU has AVX2; the operands are values.
        unsafe { _mm256_xor_si256(line, _mm256_set1_epi8(-128)) }
    }

    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(_: AvxVnni, init: __m256i, lines: &[__m256i; N], acts: &[i8]) -> __m256i {
        let acts: &[[i8; 4]; N] = acts.as_chunks::<4>().0.first_chunk().expect("4 activations per line");
        let mut sum = init;
        for j in 0..N {
            // SAFETY: an `AvxVnni` exists, so this CPU has AVX-VNNI; the operands are values.
            unsafe { sum = _mm256_dpbusd_avx_epi32(sum, lines[j], _mm256_set1_epi32(four(&acts[j]))) };
        }
        sum
    }

    call_with!(AvxVnni, "avx2,fma,f16c,avxvnni");
}
