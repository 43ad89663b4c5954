//! AVX-512 (F, BW, DQ, VL) with VNNI: sixteen lanes, `vpdpbusd`; and what more a CPU may have for many rows of
//! activations ([`Tiles`]).

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::gemm::{Asked, Blocks, Codes, Gemm, Sums, WidenedGroup, offset};
use crate::operands::activations::{TILE_ROWS, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::GroupScales;
use crate::ops::blocks;
use crate::ops::roofline::{self, Int8Loop, Roofline};
use crate::simd::{ActBlock, LINE, Simd, four};

use super::{pairs, rounding};

/// Matrix instructions for tiles of more than [`TILE_ROWS`] rows of activations, or none.
pub(crate) trait Tiles: Copy {
    /// See [`Gemm::FULL_TILE`].
    const FULL_TILE: usize;
    /// See [`Gemm::STREAMED_WORK`].
    const STREAMED_WORK: usize;
    /// See [`Gemm::WIDENED_WORK`].
    const WIDENED_WORK: usize;

    /// See [`Gemm::store_codes`].
    fn codes(cpu: Avx512<Self>, line: __m512i, offset: i32) -> __m512i;

    /// See [`Gemm::group_tiles`].
    fn group_tiles<F: Form>(cpu: Avx512<Self>, groups: &[WidenedGroup<'_>], tiles: &[Tile], out: MatMut<'_>);

    /// See [`Roofline::int8_loop`].
    fn int8_loop(cpu: Avx512<Self>, bits: u32, how: Int8Loop, rounds: usize) -> u64;
}

/// A CPU that has AVX-512 F, BW, DQ, VL and VNNI, and `T`.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<T>(PhantomData<T>);

/// A CPU with AVX-512 F, BW, DQ, VL and VNNI.
pub(crate) type Avx512Vnni = Avx512<NoTiles>;

/// Vectors for any number of rows.
#[derive(Clone, Copy)]
pub(crate) struct NoTiles;

impl Tiles for NoTiles {
    const FULL_TILE: usize = TILE_ROWS;
    const STREAMED_WORK: usize = usize::MAX;
    const WIDENED_WORK: usize = 4;

    #[inline(always)]
    fn codes(_: Avx512Vnni, line: __m512i, _offset: i32) -> __m512i {
        line
    }
    #[inline(always)]
    fn group_tiles<F: Form>(cpu: Avx512Vnni, groups: &[WidenedGroup<'_>], tiles: &[Tile], out: MatMut<'_>) {
        pairs::group_tiles::<_, F>(cpu, groups, tiles, out);
    }
    #[inline(always)]
    fn int8_loop(cpu: Avx512Vnni, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        roofline::int8(cpu, bits, how, rounds)
    }
}

/// Wraps intrinsics in methods.
macro_rules! ops {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: `self` exists, so the features were found; the operands are values, not addresses.
            unsafe { $body }
        }
    )*};
}

impl<T: Copy> Simd for Avx512<T> {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    type V = __m512;
    type I = __m512i;
    type Line = __m512i;

    ops! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        abs(a: __m512) -> __m512 = _mm512_abs_ps(a);
        round(a: __m512) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
        zero_if_less(a: __m512, b: __m512, v: __m512) -> __m512 =
            _mm512_maskz_mov_ps(!_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), v);
        scale_by_power_of_two(v: __m512, n: __m512) -> __m512 = _mm512_castsi512_ps(
            _mm512_add_epi32(_mm512_castps_si512(v), _mm512_slli_epi32::<23>(_mm512_cvtps_epi32(n))));
        splat_i32(x: i32) -> __m512i = _mm512_set1_epi32(x);
        add_i32(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        to_f32(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        to_i32(a: __m512) -> __m512i = _mm512_cvtps_epi32(a);
        low_nibbles(line: __m512i) -> __m512i = _mm512_and_si512(line, _mm512_set1_epi8(15));
        high_nibbles(line: __m512i) -> __m512i = _mm512_and_si512(_mm512_srli_epi16::<4>(line), _mm512_set1_epi8(15));
    }

    #[inline(always)]
    unsafe fn new_unchecked() -> Avx512<T> {
        Avx512(PhantomData)
    }
    #[inline(always)]
    fn ask_for(self, line: *const u8) {
        // SAFETY: a prefetch may be of any address and does not fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[inline(always)]
    fn splat_shifted(self, x: i32, by: i32) -> __m512i {
        // SAFETY: `self` proves AVX-512F; the operands are values.
        unsafe {
            let x = _mm512_set1_epi32(x);
            match by {
                0 => x,
                1.. => _mm512_sll_epi32(x, _mm_cvtsi32_si128(by)),
                _ => _mm512_sra_epi32(x, _mm_cvtsi32_si128(-by)),
            }
        }
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> __m512 {
        let x: &[f32; 16] = x.first_chunk().expect("16 elements");
        // SAFETY: `x` is 64 readable bytes; `self` proves AVX-512F.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32]) {
        let out: &mut [f32; 16] = out.first_chunk_mut().expect("16 elements");
        // SAFETY: `out` is 64 writable bytes; `self` proves AVX-512F.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16]) -> __m512 {
        let x: &[u16; 16] = x.first_chunk().expect("16 elements");
        // SAFETY: `x` is 32 readable bytes; `self` proves AVX-512F.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16]) -> __m512 {
        let x: &[u16; 16] = x.first_chunk().expect("16 elements");
        // SAFETY: `x` is 32 readable bytes; `self` proves AVX-512F.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> __m512 {
        let x: &[u8; 16] = x.first_chunk().expect("16 elements");
        // SAFETY: `x` is 16 readable bytes; `self` proves AVX-512F.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8]) -> __m512 {
        let x: &[u8; 16] = x.first_chunk().expect("16 elements");
        // SAFETY: `x` is 16 readable bytes; `self` proves AVX-512F.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_nibbles<const HIGH: bool>(self, x: &[u8]) -> __m512 {
        let x: &[u8; 16] = x.first_chunk().expect("16 elements");
        // SAFETY: `x` is 16 readable bytes; `self` proves AVX-512F.
        unsafe {
            // The table is looked up by the lowest four bits of each lane.
            let table = _mm512_setr_ps(-8., -7., -6., -5., -4., -3., -2., -1., 0., 1., 2., 3., 4., 5., 6., 7.);
            let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let places = if HIGH { _mm512_srli_epi32::<4>(bytes) } else { bytes };
            _mm512_permutexvar_ps(places, table)
        }
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> __m512i {
        let x: &[i32; 16] = x.first_chunk().expect("16 elements");
        // SAFETY: `x` is 64 readable bytes; `self` proves AVX-512F.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_i32(self, v: __m512i, out: &mut [i32]) {
        let out: &mut [i32; 16] = out.first_chunk_mut().expect("16 elements");
        // SAFETY: `out` is 64 writable bytes; `self` proves AVX-512F.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), v) }
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
    fn line(self, bytes: &[u8], _sub: usize) -> __m512i {
        let line: &[u8; 64] = bytes.first_chunk().expect("a line");
        // SAFETY: `line` is 64 readable bytes; `self` proves AVX-512F.
        unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_line(self, line: __m512i, out: &mut [u8], _sub: usize) {
        let out: &mut [u8; 64] = out.first_chunk_mut().expect("a line");
        // SAFETY: `out` is 64 writable bytes; `self` proves AVX-512F.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), line) }
    }
    #[inline(always)]
    fn bits<const BITS: u32>(self, line: __m512i, shift: u32) -> __m512i {
        // SAFETY: `self` proves AVX-512BW; the operands are values.
        unsafe {
            // A 16-bit shift drags in bits of the neighbour, which the mask drops.
            let moved = _mm512_srl_epi16(line, _mm_cvtsi32_si128(shift as i32));
            _mm512_and_si512(moved, _mm512_set1_epi8((1i8 << BITS) - 1))
        }
    }
    #[inline(always)]
    fn or_bits<const BITS: u32, const AT: u32>(self, line: __m512i, high: __m512i, shift: u32) -> __m512i {
        // SAFETY: `self` proves AVX-512BW; the operands are values.
        unsafe {
            let (mask, up) = (_mm512_set1_epi8(((1i8 << BITS) - 1) << AT), AT as i32 - shift as i32);
            let moved = match up {
                0.. => _mm512_sll_epi16(high, _mm_cvtsi32_si128(up)),
                _ => _mm512_srl_epi16(high, _mm_cvtsi32_si128(-up)),
            };
            _mm512_or_si512(line, _mm512_and_si512(moved, mask))
        }
    }
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], line: __m512i) -> __m512i {
        // SAFETY: `table` is 16 readable bytes; `self` proves AVX-512BW.
        unsafe {
            let table = _mm_loadu_si128(table.as_ptr().cast());
            _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), line)
        }
    }
}

impl<T: Tiles> Gemm for Avx512<T> {
    const FULL_TILE: usize = T::FULL_TILE;
    const STREAMED_WORK: usize = T::STREAMED_WORK;
    const WIDENED_WORK: usize = T::WIDENED_WORK;
    const GROUPS: usize = 2;
    const ANY_ROWS: bool = true;
    const STREAMED_ROWS: usize = TILE_ROWS;
    // `vpdpbusd` multiplies unsigned by signed, so signed weights are moved up by 128.
    const BYTE_OFFSET: i32 = 128;

    #[inline(always)]
    fn bytes(self, line: __m512i) -> __m512i {
        // SAFETY: `self` proves AVX-512F; the operands are values.
        unsafe { _mm512_xor_si512(line, _mm512_set1_epi8(-128)) }
    }
    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(self, init: __m512i, lines: &[__m512i; N], acts: &[i8]) -> __m512i {
        let acts: &[[i8; 4]; N] = acts.as_chunks::<4>().0.first_chunk().expect("4 activations per line");
        let mut sum = init;
        for j in 0..N {
            // SAFETY: `self` proves AVX-512 VNNI; the operands are values.
            unsafe {
                let a = _mm512_set1_epi32(four(&acts[j]));
                sum = _mm512_dpbusd_epi32(sum, lines[j], a);
            }
        }
        sum
    }
    #[inline(always)]
    fn store_codes<F: Form>(self, lines: &[__m512i; 8], codes: &mut [u8], block: usize, _sub: usize) {
        let offset = const { offset::<Self, F>() };
        let codes = &mut codes[8 * LINE * block..][..8 * LINE];
        for j in 0..8 {
            self.store_line(T::codes(self, lines[j], offset), &mut codes[LINE * j..], 0);
        }
    }
    #[inline(always)]
    fn group_tile<F: Form>(self, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        blocks::group_tile::<Self, F>(self, codes, scales, tile, out);
    }
    #[inline(always)]
    fn group_tiles<F: Form>(self, groups: &[WidenedGroup<'_>], tiles: &[Tile], out: MatMut<'_>) {
        T::group_tiles::<F>(self, groups, tiles, out);
    }
    #[inline(always)]
    fn added_from<F: Form>() -> Option<usize> {
        // Measured on Zen 5: with minima and unusual codes eight rows at once are faster for longer. Of other codes 9
        // rows would take 7 % longer, 12 and 16 as long, and 32 take 3 % less, with Q8_0 12 %.
        let eights = F::MINS > 0 && F::BITS != 4 && T::FULL_TILE == TILE_ROWS;
        Some(if eights { 32 } else { 12 })
    }
    #[inline(always)]
    fn add_rows<C: Codes, Stored: Codes, F: Form, const R: usize>(
        self,
        groups: &[Blocks<'_>],
        tile: &Tile,
        block: usize,
        row: usize,
        ahead: Asked,
        sums: &mut [Sums],
    ) {
        pairs::add_rows::<_, C, Stored, F, R>(self, groups, tile, block, row, ahead, sums);
    }
}

impl<T: Tiles> Roofline for Avx512<T> {
    #[inline(always)]
    fn in_registers(self, rounds: usize) -> Option<u64> {
        Some(roofline::held::<Self, 4, 20>(self, rounds))
    }

    #[inline(always)]
    fn int8_loop(self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        T::int8_loop(self, bits, how, rounds)
    }
}
