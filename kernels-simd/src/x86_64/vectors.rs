//! Eight lanes by AVX2, FMA and F16C, the same for all instruction sets of 256 bits. How these multiply bytes is in
//! `tile`.

use std::arch::{asm, x86_64::*};
use std::marker::PhantomData;

use crate::simd::{ActBlock, Simd};

use super::rounding;

/// A CPU that has AVX2, FMA, F16C and what `P` multiplies with.
#[derive(Clone, Copy)]
pub(crate) struct Avx<P>(PhantomData<P>);

/// Wraps intrinsics in methods.
macro_rules! ops {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: `self` exists, so AVX2, FMA and F16C were found; the operands are values, not addresses.
            unsafe { $body }
        }
    )*};
}

impl<P: Copy> Simd for Avx<P> {
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    type V = __m256;
    type I = __m256i;
    type Line = __m256i;

    ops! {
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        abs(a: __m256) -> __m256 = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        round(a: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        zero_if_less(a: __m256, b: __m256, v: __m256) -> __m256 = _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b), v);
        scale_by_power_of_two(v: __m256, n: __m256) -> __m256 = _mm256_castsi256_ps(
            _mm256_add_epi32(_mm256_castps_si256(v), _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n))));
        splat_i32(x: i32) -> __m256i = _mm256_set1_epi32(x);
        add_i32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
        to_f32(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
        to_i32(a: __m256) -> __m256i = _mm256_cvtps_epi32(a);
        low_nibbles(line: __m256i) -> __m256i = _mm256_and_si256(line, _mm256_set1_epi8(15));
        high_nibbles(line: __m256i) -> __m256i = _mm256_and_si256(_mm256_srli_epi16::<4>(line), _mm256_set1_epi8(15));
    }

    #[inline(always)]
    unsafe fn new_unchecked() -> Avx<P> {
        Avx(PhantomData)
    }
    #[inline(always)]
    fn ask_for(self, line: *const u8) {
        // SAFETY: a prefetch may be of any address and does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[inline(always)]
    fn splat_shifted(self, x: i32, by: i32) -> __m256i {
        // SAFETY: `self` proves AVX2; the operands are values.
        unsafe {
            let x = pin(_mm256_set1_epi32(x));
            match by {
                0 => x,
                1.. => _mm256_sll_epi32(x, _mm_cvtsi32_si128(by)),
                _ => _mm256_sra_epi32(x, _mm_cvtsi32_si128(-by)),
            }
        }
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m256 {
        let x: &[f32; 8] = x.first_chunk().expect("8 elements");
        // SAFETY: `x` is 32 readable bytes; `self` proves AVX.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m256, out: &mut [f32]) {
        let out: &mut [f32; 8] = out.first_chunk_mut().expect("8 elements");
        // SAFETY: `out` is 32 writable bytes; `self` proves AVX.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16]) -> __m256 {
        let x: &[u16; 8] = x.first_chunk().expect("8 elements");
        // SAFETY: `x` is 16 readable bytes; `self` proves F16C.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16]) -> __m256 {
        let x: &[u16; 8] = x.first_chunk().expect("8 elements");
        // SAFETY: `x` is 16 readable bytes; `self` proves AVX2.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> __m256 {
        let x: &[u8; 8] = x.first_chunk().expect("8 elements");
        // SAFETY: `x` is 8 readable bytes; `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8]) -> __m256 {
        let x: &[u8; 8] = x.first_chunk().expect("8 elements");
        // SAFETY: `x` is 8 readable bytes; `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_nibbles<const HIGH: bool>(self, x: &[u8]) -> __m256 {
        let x: &[u8; 8] = x.first_chunk().expect("8 elements");
        // SAFETY: `x` is 8 readable bytes; `self` proves AVX2.
        unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast()));
            let codes =
                if HIGH { _mm256_srli_epi32::<4>(bytes) } else { _mm256_and_si256(bytes, _mm256_set1_epi32(15)) };
            _mm256_cvtepi32_ps(_mm256_sub_epi32(codes, _mm256_set1_epi32(8)))
        }
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> __m256i {
        let x: &[i32; 8] = x.first_chunk().expect("8 elements");
        // SAFETY: `x` is 32 readable bytes; `self` proves AVX.
        unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_i32(self, v: __m256i, out: &mut [i32]) {
        let out: &mut [i32; 8] = out.first_chunk_mut().expect("8 elements");
        // SAFETY: `out` is 32 writable bytes; `self` proves AVX.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), v) }
    }
    #[inline(always)]
    fn largest(self, x: &[f32; 32]) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe { rounding::largest(x) }
    }
    #[inline(always)]
    fn round_block(self, x: &[f32; 32], scale: f32) -> (ActBlock, [i32; 2]) {
        // SAFETY: `self` proves AVX2.
        unsafe { rounding::round_block(x, scale) }
    }
    #[inline(always)]
    fn line(self, bytes: &[u8], sub: usize) -> __m256i {
        let part: &[u8; 32] = bytes[32 * sub..].first_chunk().expect("a line");
        // SAFETY: `part` is 32 readable bytes; `self` proves AVX.
        unsafe { _mm256_loadu_si256(part.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_line(self, line: __m256i, out: &mut [u8], sub: usize) {
        let part: &mut [u8; 32] = out[32 * sub..].first_chunk_mut().expect("a line");
        // SAFETY: `part` is 32 writable bytes; `self` proves AVX.
        unsafe { _mm256_storeu_si256(part.as_mut_ptr().cast(), line) }
    }
    #[inline(always)]
    fn bits<const BITS: u32>(self, line: __m256i, shift: u32) -> __m256i {
        // SAFETY: `self` proves AVX2; the operands are values.
        unsafe {
            // A 16-bit shift drags in bits of the neighbour, which the mask drops.
            let moved = _mm256_srl_epi16(line, _mm_cvtsi32_si128(shift as i32));
            _mm256_and_si256(moved, _mm256_set1_epi8((1i8 << BITS) - 1))
        }
    }
    #[inline(always)]
    fn or_bits<const BITS: u32, const AT: u32>(self, line: __m256i, high: __m256i, shift: u32) -> __m256i {
        // SAFETY: `self` proves AVX2; the operands are values.
        unsafe {
            let (mask, up) = (_mm256_set1_epi8(((1i8 << BITS) - 1) << AT), AT as i32 - shift as i32);
            let moved = match up {
                0.. => _mm256_sll_epi16(high, _mm_cvtsi32_si128(up)),
                _ => _mm256_srl_epi16(high, _mm_cvtsi32_si128(-up)),
            };
            _mm256_or_si256(line, _mm256_and_si256(moved, mask))
        }
    }
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], line: __m256i) -> __m256i {
        // SAFETY: `table` is 16 readable bytes; `self` proves AVX2.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), line)
        }
    }
}

/// `x`, which the compiler takes for another value: a sum that goes through here is added up in the order that is
/// written, where else the compiler would make a tree of it that does not fit into the registers; and a number that is
/// broadcast is not calculated with before, in a general register, from which it is a long way to a vector.
///
/// # Safety
/// The CPU has AVX2.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pin(mut x: __m256i) -> __m256i {
    // SAFETY: no instructions.
    unsafe { asm!("/* {} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}
