//! AVX-VNNI: `vpdpbusd` on the eight lanes of AVX2, in the VEX encoding, for CPUs without AVX-512.

use std::arch::x86_64::*;

use crate::gemm::{Codes, offset, start};
use crate::operands::form::Form;
use crate::simd::{Simd, four};

use super::tile::{Dots, Products, Rows};
use super::vectors::Avx;

/// A CPU with AVX2, FMA, F16C and AVX-VNNI.
pub(crate) type AvxVnni = Avx<Dpbusd>;

/// Multiplication by `vpdpbusd`.
#[derive(Clone, Copy)]
pub(crate) struct Dpbusd;

impl Products for Dpbusd {
    // `vpdpbusd` multiplies unsigned by signed, so signed weights are moved up by 128.
    const BYTE_OFFSET: i32 = 128;
    const WIDE: bool = false;
    const WIDENED_WORK: usize = 4;
    const ADDED_FROM: usize = 3;
    const ADDED_TILE: usize = 1;
    const MULTIPLIES_AND_ADDS: bool = true;

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

    #[inline(always)]
    fn sums<C: Codes, F: Form, const N: usize, const R: usize>(
        cpu: AvxVnni,
        codes: &[u8],
        rows: Rows<'_, R>,
        from: usize,
    ) -> Dots<R> {
        let offset = const { offset::<AvxVnni, F>() };
        let mut sums = [[cpu.splat_i32(0); 2]; R];
        for r in 0..R {
            let minus = if N == 8 { rows.minus[r] } else { rows.minus_halves[r][from / 16] };
            sums[r] = [start::<_, F>(cpu, minus, offset); 2];
        }
        for j in 0..N {
            let lines = [C::line(cpu, codes, 0, from / 4 + j), C::line(cpu, codes, 1, from / 4 + j)];
            for r in 0..R {
                let act = four(rows.q[r][from + 4 * j..].first_chunk().expect("4 activations per line"));
                for part in 0..2 {
                    let sum = &mut sums[r][part];
                    // SAFETY: an `AvxVnni` exists, so this CPU has AVX-VNNI; the operands are values.
                    unsafe { *sum = _mm256_dpbusd_avx_epi32(*sum, lines[part], _mm256_set1_epi32(act)) };
                }
            }
        }
        sums
    }
}
