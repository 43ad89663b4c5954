//! Products of the instruction sets of 256 bits, which differ in how they multiply bytes ([`Products`]); above all full
//! tiles.
//!
//! A line of codes is two of their registers, so the generic kernel, which keeps eight of those and goes through the
//! rows of activations, fetches all activations once for either part. This one takes a line at a time, both parts of
//! it, for four rows: a register of activations serves both parts, a line serves four rows, and the sums of all eight
//! stay in registers.

use std::arch::x86_64::*;

use crate::gemm::{ADDED, Asked, Blocks, Codes, Gemm, Sums, widened};
use crate::operands::activations::{Acts, TILE_ROWS, Tile, Wide};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::{BlockScales, GroupScales};
use crate::ops::blocks::scaled;
use crate::ops::codes::Widened;
use crate::ops::roofline::{self, Int8Loop, Roofline};
use crate::simd::{ActBlock, LINE, Simd};

use super::vectors::Avx;

/// How an instruction set multiplies codes by activations.
pub(crate) trait Products: Copy {
    /// See [`Gemm::BYTE_OFFSET`].
    const BYTE_OFFSET: i32;
    /// See [`Gemm::WIDE`].
    const WIDE: bool;
    /// See [`Gemm::WIDENED_WORK`].
    const WIDENED_WORK: usize;
    /// See [`Gemm::added_from`].
    const ADDED_FROM: usize;
    /// See [`Gemm::ADDED_TILE`].
    const ADDED_TILE: usize;
    /// See [`Roofline::in_registers`].
    const MULTIPLIES_AND_ADDS: bool;

    /// See [`Gemm::bytes`].
    fn bytes(cpu: Avx<Self>, line: __m256i) -> __m256i;

    /// See [`Gemm::dot`].
    fn dot<const N: usize, const BITS: u32>(
        cpu: Avx<Self>,
        init: __m256i,
        lines: &[__m256i; N],
        acts: &[i8],
    ) -> __m256i;

    /// For each of `rows`, the integer sums of `N` lines of the block `codes` from column `from`, without the offset of
    /// the codes.
    fn sums<C: Codes, F: Form, const N: usize, const R: usize>(
        cpu: Avx<Self>,
        codes: &[u8],
        rows: Rows<'_, R>,
        from: usize,
    ) -> Dots<R>;

    /// See [`Roofline::int8_loop`].
    #[inline(always)]
    fn int8_loop(cpu: Avx<Self>, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        roofline::int8(cpu, bits, how, rounds)
    }
}

impl<P: Products> Gemm for Avx<P> {
    const WIDE: bool = P::WIDE;
    const BYTE_OFFSET: i32 = P::BYTE_OFFSET;
    const STREAMED_WORK: usize = usize::MAX;
    const WIDENED_WORK: usize = P::WIDENED_WORK;
    const ADDED_TILE: usize = P::ADDED_TILE;
    const ANY_ROWS: bool = true;

    #[inline(always)]
    fn bytes(self, line: __m256i) -> __m256i {
        P::bytes(self, line)
    }
    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(self, init: __m256i, lines: &[__m256i; N], acts: &[i8]) -> __m256i {
        P::dot::<N, BITS>(self, init, lines, acts)
    }
    #[inline(always)]
    fn store_codes<F: Form>(self, lines: &[__m256i; 8], codes: &mut [u8], block: usize, sub: usize) {
        store_codes::<P, F>(self, lines, codes, block, sub);
    }
    #[inline(always)]
    fn group_tile<F: Form>(self, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        if const { widened::<Self, F>() == WidenedTwice::BYTES } {
            group_tile::<P, WidenedTwice, F>(self, codes, scales, tile, out);
        } else {
            group_tile::<P, Widened, F>(self, codes, scales, tile, out);
        }
    }
    #[inline(always)]
    fn added_from<F: Form>() -> Option<usize> {
        Some(P::ADDED_FROM)
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
        let [group] = groups else { unreachable!("one group") };
        if const { C::WIDENED && widened::<Self, F>() == WidenedTwice::BYTES } {
            add_rows::<P, WidenedTwice, Stored, F, R>(self, *group, tile, block, row, ahead, sums);
        } else {
            add_rows::<P, C, Stored, F, R>(self, *group, tile, block, row, ahead, sums);
        }
    }
}

impl<P: Products> Roofline for Avx<P> {
    #[inline(always)]
    fn in_registers(self, rounds: usize) -> Option<u64> {
        if P::MULTIPLIES_AND_ADDS { Some(roofline::held::<Self, 2, 10>(self, rounds)) } else { None }
    }

    #[inline(always)]
    fn int8_loop(self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        P::int8_loop(self, bits, how, rounds)
    }
}

/// Rows of activations that are summed up together.
const ROWS: usize = ADDED;

/// For each row, the sums of both parts of the outputs.
pub(super) type Dots<const R: usize> = [[__m256i; 2]; R];

/// Quantised activations of one block for `R` rows, as [`Tile`] has them.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, const R: usize> {
    pub(super) q: &'a [ActBlock; R],
    pub(super) minus: &'a [i32; R],
    pub(super) minus_halves: &'a [[i32; 2]; R],
    /// Zeros unless [`Products::WIDE`].
    pub(super) wide: &'a [Wide; R],
}

impl<'a, const R: usize> Rows<'a, R> {
    const NOT_WIDE: &'static [Wide; R] = &[Wide::ZERO; R];

    /// Rows `first..first + R` of `acts`, and of `wide` if there is any.
    #[inline(always)]
    fn of<P: Products>(acts: Acts<'a>, wide: &'a [Wide], first: usize) -> Rows<'a, R> {
        // No closure, which would stay a function of its own in the midst of the hottest loop.
        let few = "rows of a tile";
        Rows {
            q: acts.q[first..].first_chunk().expect(few),
            minus: acts.minus[first..].first_chunk().expect(few),
            minus_halves: acts.minus_halves[first..].first_chunk().expect(few),
            wide: if P::WIDE { wide[first..].first_chunk().expect(few) } else { Self::NOT_WIDE },
        }
    }
}

/// Stores part `sub` of block `block` in `codes`: lines as they are, or, where codes of 8 bits are widened to 16, two
/// lines for each, the codes of even columns and of odd ones.
#[inline(always)]
fn store_codes<P: Products, F: Form>(cpu: Avx<P>, lines: &[__m256i; 8], codes: &mut [u8], block: usize, sub: usize) {
    let bytes = const { widened::<Avx<P>, F>() };
    let codes = &mut codes[bytes * block..][..bytes];
    for j in 0..8 {
        if bytes == 8 * LINE {
            cpu.store_line(lines[j], &mut codes[LINE * j..], sub);
        } else {
            let [even, odd] = [even_columns(cpu, lines[j]), odd_columns(cpu, lines[j])];
            cpu.store_line(even, &mut codes[2 * LINE * j..], sub);
            cpu.store_line(odd, &mut codes[2 * LINE * j + LINE..], sub);
        }
    }
}

/// The signed bytes of even columns in 16 bits.
#[inline(always)]
pub(super) fn even_columns<P: Products>(_: Avx<P>, line: __m256i) -> __m256i {
    // SAFETY: an `Avx` exists, so this CPU has AVX2; the operands are values.
    unsafe { _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(line)) }
}

/// The signed bytes of odd columns in 16 bits.
#[inline(always)]
pub(super) fn odd_columns<P: Products>(_: Avx<P>, line: __m256i) -> __m256i {
    // SAFETY: an `Avx` exists, so this CPU has AVX2; the operands are values.
    unsafe { _mm256_srai_epi16::<8>(line) }
}

/// Codes of 8 bits that were widened to 16 by [`store_codes`]: two lines for each, of even columns and of odd ones.
pub(super) struct WidenedTwice;
impl Codes for WidenedTwice {
    const BITS: u32 = 8;
    const BYTES: usize = 2 * 8 * LINE;
    const WORK: usize = 0;
    #[inline(always)]
    fn lines<S: Gemm>(_: S, _: &[u8], _: usize) -> [S::Line; 8] {
        unreachable!("there are sixteen")
    }
    #[inline(always)]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line {
        s.line(&block[LINE * j..], sub)
    }
}

/// The sums of the block `codes`: integers or, where halves have scales, the integers of both halves times these.
#[inline(always)]
fn sums<P: Products, C: Codes, F: Form, const R: usize>(
    cpu: Avx<P>,
    codes: &[u8],
    scales: BlockScales<'_>,
    rows: Rows<'_, R>,
) -> [[__m256; 2]; R] {
    let mut out = [[cpu.splat(0.0); 2]; R];
    if F::SCALES == 1 {
        let sums = P::sums::<C, F, 8, R>(cpu, codes, rows, 0);
        for r in 0..R {
            out[r] = [cpu.to_f32(sums[r][0]), cpu.to_f32(sums[r][1])];
        }
        return out;
    }
    for half in 0..2 {
        let sums = P::sums::<C, F, 4, R>(cpu, codes, rows, 16 * half);
        for part in 0..2 {
            let scale = cpu.load(&scales.d[half][8 * part..]);
            for r in 0..R {
                let sum = cpu.to_f32(sums[r][part]);
                out[r][part] = if half == 0 { cpu.mul(sum, scale) } else { cpu.fma(sum, scale, out[r][part]) };
            }
        }
    }
    out
}

/// See [`Gemm::group_tile`].
#[inline(always)]
fn group_tile<P: Products, C: Codes, F: Form>(
    cpu: Avx<P>,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    let (blocks, bytes) = (tile.blocks, C::BYTES);
    assert!(tile.rows == TILE_ROWS && tile.q.len() == blocks * TILE_ROWS);
    assert!(codes.len() == blocks * bytes && scales.d.len() == F::SCALES * blocks);
    let mut acc = [[cpu.splat(0.0); 2]; TILE_ROWS];
    for (b, codes) in codes.chunks_exact(bytes).enumerate() {
        let scales = BlockScales::of::<F>(&scales.d, &scales.m, b);
        let acts = Acts::of::<F>(tile, b, TILE_ROWS);
        let wide = if P::WIDE { &tile.wide[b * TILE_ROWS..][..TILE_ROWS] } else { &[] };
        for first in (0..TILE_ROWS).step_by(ROWS) {
            let sums = sums::<P, C, F, ROWS>(cpu, codes, scales, Rows::of::<P>(acts, wide, first));
            for r in 0..ROWS {
                for part in 0..2 {
                    let acc = &mut acc[first + r][part];
                    *acc = scaled::<_, F>(cpu, sums[r][part], 8 * part, scales, acts, first + r, *acc);
                }
            }
        }
    }
    for (m, acc) in acc.iter().enumerate() {
        let row = out.row(m);
        cpu.store(acc[0], row);
        cpu.store(acc[1], &mut row[8..]);
    }
}

/// See [`Gemm::add_rows`].
#[inline(always)]
fn add_rows<P: Products, C: Codes, Stored: Codes, F: Form, const R: usize>(
    cpu: Avx<P>,
    group: Blocks<'_>,
    tile: &Tile,
    block: usize,
    row: usize,
    ahead: Asked,
    out: &mut [Sums],
) {
    let rows = tile.rows;
    let mut acc = [[cpu.splat(0.0); 2]; R];
    for r in 0..R {
        acc[r] = [cpu.load(&out[r].0), cpu.load(&out[r].0[8..])];
    }
    for (b, codes) in group.codes.chunks_exact(C::BYTES).enumerate() {
        ahead.ask::<_, Stored>(cpu, group.stored, b);
        let scales = BlockScales::of::<F>(group.d, group.m, b);
        let acts = Acts::of::<F>(tile, block + b, rows);
        let wide = if P::WIDE { &tile.wide[(block + b) * rows..][..rows] } else { &[] };
        let sums = sums::<P, C, F, R>(cpu, codes, scales, Rows::of::<P>(acts, wide, row));
        for r in 0..R {
            for part in 0..2 {
                acc[r][part] = scaled::<_, F>(cpu, sums[r][part], 8 * part, scales, acts, row + r, acc[r][part]);
            }
        }
    }
    for r in 0..R {
        cpu.store(acc[r][0], &mut out[r].0);
        cpu.store(acc[r][1], &mut out[r].0[8..]);
    }
}
