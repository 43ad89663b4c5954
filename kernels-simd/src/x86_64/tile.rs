//! Full tiles of the instruction sets of 256 bits.
//!
//! A line of codes is two of their registers, so the generic kernel, which keeps eight of those and goes through the
//! rows of activations, fetches all activations once for either part. This one takes a line at a time, both parts of
//! it, for four rows: a register of activations serves both parts, a line serves four rows, and the sums of all eight
//! stay in registers.

use std::arch::x86_64::*;

use crate::activations::{Acts, TILE_ROWS, Tile, Wide};
use crate::matrix::MatMut;
use crate::ops::form::{Form, widened};
use crate::ops::matmul_quant::scaled;
use crate::ops::scales::{BlockScales, GroupScales};
use crate::simd::{ActBlock, LINE, Simd};

use super::vectors::{Avx, Products};

/// Rows of activations that are summed up together.
pub(super) const ROWS: usize = 4;

/// For each row, the sums of both parts of the outputs.
pub(super) type Sums = [[__m256i; 2]; ROWS];

/// Quantised activations of one block for four rows, as [`Tile`] has them.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(super) q: &'a [ActBlock; ROWS],
    pub(super) minus: &'a [i32; ROWS],
    pub(super) minus_halves: &'a [[i32; 2]; ROWS],
    /// Zeros but for [`Products::WIDE`].
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
pub(super) fn store_codes<P: Products, F: Form>(
    cpu: Avx<P>,
    lines: &[__m256i; 8],
    codes: &mut [u8],
    block: usize,
    sub: usize,
) {
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

/// The sums of block `codes`: integers, or where its halves have scales, the integers of both times those.
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

/// As [`matmul_quant::group_tile`](crate::ops::matmul_quant::group_tile).
#[inline(always)]
pub(super) fn group_tile<P: Products, F: Form>(
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
