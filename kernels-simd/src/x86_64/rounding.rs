//! Activations to bytes, the same for all instruction sets: 256 bits have a block's bytes in one vector.

use std::arch::x86_64::*;

use crate::simd::ActBlock;

/// See [`Simd::largest`](crate::simd::Simd::largest).
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn largest(x: &[f32; 32]) -> f32 {
    // SAFETY: four loads of eight numbers of `x`; the rest is arithmetic that the CPU has.
    unsafe {
        let at = |i: usize| _mm256_andnot_ps(_mm256_set1_ps(-0.0), _mm256_loadu_ps(x.as_ptr().add(8 * i)));
        let eight = _mm256_max_ps(_mm256_max_ps(at(0), at(1)), _mm256_max_ps(at(2), at(3)));
        let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
    }
}

/// See [`Simd::round_block`](crate::simd::Simd::round_block).
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn round_block(x: &[f32; 32], scale: f32) -> (ActBlock, [i32; 2]) {
    let mut block = [0; 32];
    // SAFETY: four loads of eight numbers of `x` and one store of 32 bytes to `block`; the rest is arithmetic that the
    // CPU has.
    unsafe {
        let scale = _mm256_set1_ps(scale);
        // Converting rounds to even.
        let at = |i: usize| _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x.as_ptr().add(8 * i)), scale));
        // Packing saturates, and works in halves of 128 bits: fours of the first vector, the second, …, then the same
        // of the upper halves.
        let halves = _mm256_packs_epi16(_mm256_packs_epi32(at(0), at(1)), _mm256_packs_epi32(at(2), at(3)));
        let bytes = _mm256_permutevar8x32_epi32(halves, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        let bytes = _mm256_max_epi8(bytes, _mm256_set1_epi8(-127));
        _mm256_storeu_si256(block.as_mut_ptr().cast(), bytes);
        // Sums of eight bytes each, unsigned: 128 more than they are.
        let eights = _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
        let sum =
            |eights: __m128i| _mm_cvtsi128_si32(_mm_add_epi32(eights, _mm_unpackhi_epi64(eights, eights))) - 16 * 128;
        (block, [sum(_mm256_castsi256_si128(eights)), sum(_mm256_extracti128_si256::<1>(eights))])
    }
}
