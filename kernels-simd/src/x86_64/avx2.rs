//! AVX2, which has no dot product of bytes.
//!
//! Products go through `vpmaddubsw`, which multiplies unsigned by signed bytes and adds neighbours in i16 *with
//! saturation*. Small codes leave room there: several lines are summed in i16 before one `vpmaddwd` widens them.

use std::arch::x86_64::*;
use std::hint::black_box;

use crate::gemm::{Codes, offset, start};
use crate::operands::form::Form;
use crate::ops::roofline::{self, Int8Loop};
use crate::simd::{Simd, four};

use super::tile::{Dots, Products, Rows, WidenedTwice, even_columns, odd_columns};
use super::vectors::{Avx, pin};

/// A CPU with AVX2, FMA and F16C.
pub(crate) type Avx2 = Avx<Maddubs>;

/// Multiplication by `vpmaddubsw`.
#[derive(Clone, Copy)]
pub(crate) struct Maddubs;

/// The largest magnitude of a quantised activation.
const MAX_ACT: i32 = 127;

/// What [`Maddubs::sums`] takes from codes, so that eight lines of them, or four of a type with halves, fit sums of 16
/// bits, which may pass over their limits on the way: nothing, or a power of two.
const fn centre<F: Form>() -> i32 {
    if F::MINS > 0 && F::BITS == 5 { 16 } else { offset::<Avx2, F>() }
}

/// Whether the sums of `lines` lines fit: a lane takes two products of each.
const fn fits_i16<F: Form>(lines: usize) -> bool {
    let (low, high) = (centre::<F>(), (1 << F::BITS) - 1 - centre::<F>());
    let largest = if low > high { low } else { high };
    lines as i32 * 2 * largest * MAX_ACT <= i16::MAX as i32
}

/// Lines of `BITS`-bit codes whose products fit one i16: a lane of `vpmaddubsw` takes two products of a line.
const fn lines_per_i16<const BITS: u32>() -> usize {
    match BITS {
        4 => 8,
        5 => 4,
        6 => 2,
        _ => 1,
    }
}
const fn fits<const BITS: u32>() -> bool {
    lines_per_i16::<BITS>() as i32 * 2 * ((1 << BITS) - 1) * MAX_ACT <= i16::MAX as i32
}
const _: () = assert!(fits::<4>() && fits::<5>() && fits::<6>());
// Signed bytes: |code| ≤ 128 as an unsigned byte times the activation with the code's sign.
const _: () = assert!(2 * 128 * MAX_ACT <= i16::MAX as i32);

/// [`Products::sums`] of codes of 8 bits, which are widened to 16 if they are not yet.
#[inline(always)]
fn wide_sums<C: Codes, const N: usize, const R: usize>(cpu: Avx2, codes: &[u8], rows: Rows<'_, R>) -> Dots<R> {
    let mut sums = [[cpu.splat_i32(0); 2]; R];
    for j in 0..N {
        for odd in 0..2 {
            let mut lines = [cpu.splat_i32(0); 2];
            for part in 0..2 {
                lines[part] = match odd {
                    _ if C::BYTES == WidenedTwice::BYTES => C::line(cpu, codes, part, 2 * j + odd),
                    0 => even_columns(cpu, C::line(cpu, codes, part, j)),
                    _ => odd_columns(cpu, C::line(cpu, codes, part, j)),
                };
            }
            for r in 0..R {
                let act = cpu.splat_i32(rows.wide[r].two(odd, j));
                for part in 0..2 {
                    // SAFETY: an `Avx2` exists, so this CPU has AVX2; the operands are values.
                    unsafe {
                        let product = _mm256_madd_epi16(lines[part], act);
                        sums[r][part] = pin(_mm256_add_epi32(sums[r][part], product));
                    }
                }
            }
        }
    }
    sums
}

impl Products for Maddubs {
    const BYTE_OFFSET: i32 = 0;

    // `vpmaddubsw` wants an unsigned factor. To give the sign of a code to the activation takes an instruction for each
    // product, and of such products a sum of 16 bits holds but one line. Numbers of 16 bits have signs, and `vpmaddwd`
    // adds up their products in 32.
    const WIDE: bool = true;
    // Codes of IQ4 are looked up and then become numbers of 16 bits.
    const WIDENED_WORK: usize = 3;
    const ADDED_FROM: usize = 4;
    // Smaller ones have no activations in 16 bits.
    const ADDED_TILE: usize = 4;
    const MULTIPLIES_AND_ADDS: bool = false;

    #[inline(always)]
    fn bytes(_: Avx2, line: __m256i) -> __m256i {
        line
    }

    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(_: Avx2, init: __m256i, lines: &[__m256i; N], acts: &[i8]) -> __m256i {
        let acts: &[[i8; 4]; N] = acts.as_chunks::<4>().0.first_chunk().expect("4 activations per line");
        // SAFETY: an `Avx2` exists, so this CPU has AVX2; the operands are values.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut sum = init;
            if BITS == 8 {
                for j in 0..N {
                    let a = _mm256_set1_epi32(four(&acts[j]));
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(lines[j]), _mm256_sign_epi8(a, lines[j]));
                    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
                }
                return sum;
            }
            let run = lines_per_i16::<BITS>();
            let mut j = 0;
            while j < N {
                let mut narrow = _mm256_setzero_si256();
                for l in j..(j + run).min(N) {
                    let a = _mm256_set1_epi32(four(&acts[l]));
                    narrow = _mm256_add_epi16(narrow, _mm256_maddubs_epi16(lines[l], a));
                }
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, ones));
                j += run;
            }
            sum
        }
    }

    #[inline(always)]
    fn sums<C: Codes, F: Form, const N: usize, const R: usize>(
        cpu: Avx2,
        codes: &[u8],
        rows: Rows<'_, R>,
        from: usize,
    ) -> Dots<R> {
        if F::BITS == 8 {
            return wide_sums::<C, N, R>(cpu, codes, rows);
        }
        // SAFETY: an `Avx2` exists, so this CPU has AVX2; the operands are values.
        unsafe {
            let mut sums = [[_mm256_setzero_si256(); 2]; R];
            let centre = const { centre::<F>() };
            // Only types with halves come with four lines.
            const { assert!(F::BITS == 8 || (F::SCALES == 2) != (N == 4) || fits_i16::<F>(N)) };
            for r in 0..R {
                if centre != 0 {
                    let minus = rows.wide[r].minus(if N == 8 { 2 } else { from / 16 });
                    let start =
                        _mm256_sll_epi16(pin(_mm256_set1_epi32(minus)), _mm_cvtsi32_si128(centre.ilog2() as i32));
                    sums[r] = [start; 2];
                }
            }
            for j in 0..N {
                let lines = [C::line(cpu, codes, 0, from / 4 + j), C::line(cpu, codes, 1, from / 4 + j)];
                for r in 0..R {
                    let act = rows.q[r][from + 4 * j..].first_chunk().expect("4 activations per line");
                    let act = _mm256_set1_epi32(four(act));
                    for part in 0..2 {
                        sums[r][part] = pin(_mm256_add_epi16(sums[r][part], _mm256_maddubs_epi16(lines[part], act)));
                    }
                }
            }
            let extra = centre - const { offset::<Avx2, F>() };
            for r in 0..R {
                for part in 0..2 {
                    sums[r][part] = _mm256_madd_epi16(sums[r][part], _mm256_set1_epi16(1));
                    if extra != 0 {
                        let minus = start::<_, F>(cpu, rows.minus[r], extra);
                        sums[r][part] = _mm256_sub_epi32(sums[r][part], minus);
                    }
                }
            }
            sums
        }
    }

    /// As full tiles go about it: codes of 8 bits are widened to 16.
    #[inline(always)]
    fn int8_loop(cpu: Avx2, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        if bits != 8 {
            return roofline::int8(cpu, bits, how, rounds);
        }
        const SUMS: usize = 10;
        let codes = cpu.splat_i32(black_box(1));
        let mut sums = [codes; SUMS];
        for _ in 0..rounds {
            // Otherwise products of what does not change would be taken out of the loop.
            for (sum, act) in sums.iter_mut().zip(black_box(&[1; SUMS])) {
                // SAFETY: an `Avx2` exists, so this CPU has AVX2; the operands are values.
                unsafe { *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(codes, _mm256_set1_epi32(*act))) };
            }
        }
        for sum in sums {
            let mut lanes = [0; 8];
            cpu.store_i32(sum, &mut lanes);
            black_box(lanes);
        }
        (rounds * SUMS * 16) as u64
    }
}
