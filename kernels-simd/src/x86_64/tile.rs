//! Products of the instruction sets of 256 bits, which differ in how they multiply bytes ([`Products`]); above all full
//! tiles.
//!
//! A line of codes is two of their registers, so the generic kernel, which keeps eight of those and goes through the
//! rows of activations, fetches all activations once for either part. This one takes a line at a time, both parts of
//! it, for four rows: a register of activations serves both parts, a line serves four rows, and the sums of all eight
//! stay in registers.

use std::arch::x86_64::*;

use crate::gemm::{Gemm, widened};
use crate::operands::activations::{Acts, TILE_ROWS, Tile, Wide};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::{BlockScales, GroupScales};
use crate::ops::blocks::scaled;
use crate::ops::roofline::{self, Int8Loop, Roofline};
use crate::simd::{ActBlock, LINE, Simd};

use super::vectors::Avx;

/// How an instruction set multiplies codes by activations.
pub(crate) trait Products: Copy {
    /// See [`Gemm::BYTE_OFFSET`].
    const BYTE_OFFSET: i32;
    /// See [`Gemm::WIDE`].
    const WIDE: bool;

    /// See [`Gemm::bytes`].
    fn bytes(cpu: Avx<Self>, line: __m256i) -> __m256i;

    /// See [`Gemm::dot`].
    fn dot<const N: usize, const BITS: u32>(
        cpu: Avx<Self>,
        init: __m256i,
        lines: &[__m256i; N],
        acts: &[i8],
    ) -> __m256i;

    /// For each of `rows`, the integer sums of `N` lines from column `from`, whose codes are at the head of `codes` as
    /// [`store_codes`] stored them, without the offset of the codes.
    fn sums<F: Form, const N: usize>(cpu: Avx<Self>, codes: &[u8], rows: Rows<'_>, from: usize) -> Sums;

    /// See [`Roofline::int8_loop`].
    #[inline(always)]
    fn int8_loop(cpu: Avx<Self>, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        roofline::int8(cpu, bits, how, rounds)
    }
}

impl<P: Products> Gemm for Avx<P> {
    const WIDE: bool = P::WIDE;
    const BYTE_OFFSET: i32 = P::BYTE_OFFSET;

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
        group_tile::<P, F>(self, codes, scales, tile, out);
    }
}

impl<P: Products> Roofline for Avx<P> {
    #[inline(always)]
    fn int8_loop(self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        P::int8_loop(self, bits, how, rounds)
    }
}

/// Rows of activations that are summed up together.
pub(super) const ROWS: usize = 4;

/// For each row, the sums of both parts of the outputs.
pub(super) type Sums = [[__m256i; 2]; ROWS];

/// Quantised activations of one block for [`ROWS`] rows, as [`Tile`] has them.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(super) q: &'a [ActBlock; ROWS],
    pub(super) minus: &'a [i32; ROWS],
    pub(super) minus_halves: &'a [[i32; 2]; ROWS],
    /// Zeros unless [`Products::WIDE`].
    pub(super) wide: &'a [Wide; ROWS],
}

impl<'a> Rows<'a> {
    /// Rows `first..first + ROWS` of `acts`, and of `wide` if there is any.
    #[inline(always)]
    fn of<P: Products>(acts: Acts<'a>, wide: &'a [Wide], first: usize) -> Rows<'a> {
        const NOT_WIDE: &[Wide; ROWS] = &[Wide::ZERO; ROWS];
        let rows = || {
            Some(Rows {
                q: acts.q[first..].first_chunk()?,
                minus: acts.minus[first..].first_chunk()?,
                minus_halves: acts.minus_halves[first..].first_chunk()?,
                wide: if P::WIDE { wide[first..].first_chunk()? } else { NOT_WIDE },
            })
        };
        rows().expect("a full tile")
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
            // SAFETY: an `Avx` exists, so this CPU has AVX2; the operands are values.
            let (even, odd) =
                unsafe { (_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(lines[j])), _mm256_srai_epi16::<8>(lines[j])) };
            cpu.store_line(even, &mut codes[2 * LINE * j..], sub);
            cpu.store_line(odd, &mut codes[2 * LINE * j + LINE..], sub);
        }
    }
}

/// The sums of the block `codes`: integers or, where halves have scales, the integers of both halves times these.
#[inline(always)]
fn sums<P: Products, F: Form>(
    cpu: Avx<P>,
    codes: &[u8],
    scales: BlockScales<'_>,
    rows: Rows<'_>,
) -> [[__m256; 2]; ROWS] {
    let mut out = [[cpu.splat(0.0); 2]; ROWS];
    if F::SCALES == 1 {
        let sums = P::sums::<F, 8>(cpu, codes, rows, 0);
        for r in 0..ROWS {
            out[r] = [cpu.to_f32(sums[r][0]), cpu.to_f32(sums[r][1])];
        }
        return out;
    }
    for half in 0..2 {
        let sums = P::sums::<F, 4>(cpu, &codes[4 * LINE * half..], rows, 16 * half);
        for part in 0..2 {
            let scale = cpu.load(&scales.d[half][8 * part..]);
            for r in 0..ROWS {
                let sum = cpu.to_f32(sums[r][part]);
                out[r][part] = if half == 0 { cpu.mul(sum, scale) } else { cpu.fma(sum, scale, out[r][part]) };
            }
        }
    }
    out
}

/// See [`Gemm::group_tile`].
#[inline(always)]
fn group_tile<P: Products, F: Form>(
    cpu: Avx<P>,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    let (blocks, bytes) = (tile.blocks, const { widened::<Avx<P>, F>() });
    assert!(tile.rows == TILE_ROWS && tile.q.len() == blocks * TILE_ROWS);
    assert!(codes.len() == blocks * bytes && scales.d.len() == F::SCALES * blocks);
    let mut acc = [[cpu.splat(0.0); 2]; TILE_ROWS];
    for (b, codes) in codes.chunks_exact(bytes).enumerate() {
        let scales = BlockScales::of::<F>(&scales.d, &scales.m, b);
        let acts = Acts::of::<F>(tile, b, TILE_ROWS);
        let wide = if P::WIDE { &tile.wide[b * TILE_ROWS..][..TILE_ROWS] } else { &[] };
        for first in (0..TILE_ROWS).step_by(ROWS) {
            let sums = sums::<P, F>(cpu, codes, scales, Rows::of::<P>(acts, wide, first));
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
