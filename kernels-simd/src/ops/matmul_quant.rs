//! Quantised weights × int8 activations: which rows of activations meet which row groups of weights, and when.
//!
//! What one block of weights and a few rows of activations add to an output, and in which order, is in `blocks`.

use std::marker::PhantomData;
use std::ops::Range;

use quipu_quant::TensorType;

use crate::call::{Call, Kernel};
use crate::gemm::{Codes, Gemm, MOST_GROUPS, WidenedGroup, widened};
use crate::operands::activations::{Acts, TILE_ROWS, Tile};
use crate::operands::form::{Affine, Form, Halved, HalvedAffine, Scaled};
use crate::operands::matrix::{MatMut, Weights};
use crate::operands::scales::{
    BlockScales, EightBitHalves, FourBits, GroupScales, OneForAll, Plain, PowerOfTwo, SUPER, Scaling, SixBitHalves,
    SixBitScales, SixBits, SuperScales, WithMin,
};
use crate::simd::LINE;
use crate::tuning::{Ahead, Tuning};

use super::blocks::{block, store};
use super::codes::{Fp4, Lines, Packed2, Packed3, Packed4, Packed5, Packed6, Packed8, Table4, Ternary};
use super::stream_tiles::{StreamScratch, StreamTiles};

/// Memory for widened weights, which a worker keeps between products.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    groups: Vec<WidenedMemory>,
    scales: SuperScales,
    stream: StreamScratch,
}

/// Codes and scales of one row group, widened to what is multiplied.
#[derive(Clone, Debug, Default)]
struct WidenedMemory {
    scales: GroupScales,
    codes: Lines,
}

/// Row groups, widened, up to [`Gemm::GROUPS`] of them, times full tiles.
struct FullTiles<'a, 'o, F> {
    groups: &'a [WidenedMemory],
    tiles: &'a [Tile],
    out: MatMut<'o>,
    form: PhantomData<F>,
}

impl<S: Gemm, F: Form> Kernel<S> for FullTiles<'_, '_, F> {
    #[inline(always)]
    fn run(self, s: S) {
        let FullTiles { groups, tiles, out, .. } = self;
        let group = |i: usize| WidenedGroup { codes: groups[i].codes.bytes(), scales: &groups[i].scales };
        match groups.len() {
            1 => s.group_tiles::<F>(&[group(0)], tiles, out),
            _ => s.group_tiles::<F>(&[group(0), group(1)], tiles, out),
        }
    }
}

/// One row group times a tile of `M` rows or, with `M = 0`, of as many as it has. Codes and scales are widened on the
/// way: a few rows wait for memory, and that is fastest when both planes are read at the pace of the arithmetic.
struct Stream<'a, 'o, C, K, F, const M: usize> {
    codes: &'a [u8],
    plane: &'a [u8],
    tile: &'a Tile,
    /// Where scales are widened to. It comes from outside, since filling it with zeros first would take as long as a
    /// short row.
    scales: &'a mut SuperScales,
    out: MatMut<'o>,
    ahead: Ahead,
    ty: PhantomData<(C, K, F)>,
}

impl<S: Gemm, C: Codes, K: Scaling, F: Form, const M: usize> Kernel<S> for Stream<'_, '_, C, K, F, M> {
    #[inline(always)]
    fn run(self, s: S) {
        let Stream { codes, plane, tile, scales: widened, mut out, ahead, .. } = self;
        let (codes_ahead, scales_ahead) = (ahead.codes as usize, ahead.scales as usize);
        let (blocks, rows) = (tile.blocks, if M == 0 { tile.rows } else { M });
        assert!(rows == tile.rows && rows <= TILE_ROWS && tile.q.len() == blocks * rows);
        assert!(codes.len() == blocks * C::BYTES && plane.len() == blocks / K::BLOCKS * K::BYTES);
        let mut acc = [[s.splat(0.0); TILE_ROWS]; 4];
        // Scales of eight blocks at once, whole lines of memory: half a line between the lines of codes comes late (Zen
        // 4, one thread, Q4_0: 24 GB/s instead of 31).
        const { assert!(SUPER.is_multiple_of(K::BLOCKS)) };
        let supers = codes.chunks(C::BYTES * SUPER).zip(plane.chunks(K::BYTES * (SUPER / K::BLOCKS)));
        for (i, (codes, units)) in supers.enumerate() {
            for line in units.chunks(LINE) {
                s.prefetch(line, scales_ahead);
            }
            for (u, unit) in units.chunks_exact(K::BYTES).enumerate() {
                K::widen(s, unit, widened, u * K::BLOCKS);
            }
            for (b, codes) in codes.chunks_exact(C::BYTES).enumerate() {
                // Spaced out evenly: in bursts they would hold up each other.
                for line in 0..C::BYTES / LINE {
                    s.prefetch(&codes[line * LINE..], codes_ahead);
                }
                let scales = BlockScales::of::<F>(&widened.d, &widened.m, b);
                block::<S, C, F, M>(s, codes, scales, Acts::of::<F>(tile, i * SUPER + b, rows), &mut acc);
            }
        }
        store(s, &acc, rows, &mut out);
    }
}

/// Widens the scales and the codes of one row group for full tiles.
struct Widen<'a, C, K, F> {
    codes: &'a [u8],
    plane: &'a [u8],
    out: &'a mut WidenedMemory,
    ahead: Ahead,
    ty: PhantomData<(C, K, F)>,
}

impl<S: Gemm, C: Codes, K: Scaling, F: Form> Kernel<S> for Widen<'_, C, K, F> {
    #[inline(always)]
    fn run(self, s: S) {
        let WidenedMemory { scales, codes } = self.out;
        for line in self.plane.chunks(LINE) {
            s.prefetch(line, self.plane.len());
        }
        scales.widen::<S, K>(s, self.plane);
        let codes = codes.room(self.codes.len() / C::BYTES * const { widened::<S, F>() });
        for (b, block) in self.codes.chunks_exact(C::BYTES).enumerate() {
            for line in 0..C::BYTES / LINE {
                s.prefetch(&block[line * LINE..], self.ahead.codes as usize);
            }
            for sub in 0..S::SUBS {
                s.store_codes::<F>(&C::lines(s, block, sub), codes, b, sub);
            }
        }
    }
}

/// The product of `groups` with full tiles.
#[inline(always)]
fn full_tiles<S: Gemm + Call, C: Codes, K: Scaling, F: Form>(
    s: S,
    tuning: &Tuning,
    w: &Weights<'_>,
    groups: Range<usize>,
    tiles: &[Tile],
    widened_groups: &mut Vec<WidenedMemory>,
    out: &mut MatMut<'_>,
) {
    let [tile, ..] = tiles else { return };
    let at_once = tuning.widened as usize / (tile.blocks * const { widened::<S, F>() });
    let at_once = at_once.clamp(1, groups.len().max(1));
    let passing = (tuning.passing as usize / tile.bytes()).max(1);
    for first in groups.clone().step_by(at_once) {
        let together = first..groups.end.min(first + at_once);
        if widened_groups.len() < together.len() {
            widened_groups.resize_with(together.len(), WidenedMemory::default);
        }
        for (g, out) in together.clone().zip(&mut *widened_groups) {
            let (codes, plane) = w.group(g);
            s.widen(Widen { codes, plane, out, ahead: tuning.ahead(w.ty()), ty: PhantomData::<(C, K, F)> });
        }
        for (i, tiles) in tiles.chunks(passing).enumerate() {
            let row = i * passing * S::FULL_TILE;
            for (g, some) in together.clone().step_by(S::GROUPS).zip(widened_groups[..together.len()].chunks(S::GROUPS))
            {
                let col = 16 * (g - groups.start);
                let out = out.part(row..row + tiles.len() * S::FULL_TILE, col..col + 16 * some.len());
                s.full_tiles(FullTiles { groups: some, tiles, out, form: PhantomData::<F> });
            }
        }
    }
}

/// The product of `groups` with `tiles`, full ones first.
#[inline(always)]
fn product<S: Gemm + Call, C: Codes, K: Scaling, F: Form>(
    s: S,
    tuning: &Tuning,
    w: &Weights<'_>,
    groups: Range<usize>,
    tiles: &[Tile],
    scratch: &mut Scratch,
    out: &mut MatMut<'_>,
) {
    const { assert!(C::BITS == F::BITS && K::SCALES == F::SCALES && K::MINS == F::MINS) };
    let full = tiles.iter().take_while(|tile| S::UNROLL && tile.rows == S::FULL_TILE).count();
    let streamed = C::WORK < S::STREAMED_WORK && full * S::FULL_TILE <= tuning.streamed_rows as usize;
    let (full, ahead) = (if streamed { 0 } else { full }, tuning.ahead(w.ty()));
    let (full, rest) = tiles.split_at(full);
    full_tiles::<S, C, K, F>(s, tuning, w, groups.clone(), full, &mut scratch.groups, out);
    let mut rows = full.len() * S::FULL_TILE;
    let added = match S::added_from::<F>() {
        Some(from) if out.rows() - rows >= from => rest.partition_point(|tile| tile.rows >= S::ADDED_TILE),
        _ => 0,
    };
    let (added, rest) = rest.split_at(added);
    let start = rows;
    rows += added.iter().map(|tile| tile.rows).sum::<usize>();
    for (i, g) in groups.clone().enumerate() {
        if i % S::GROUPS == 0 && !added.is_empty() {
            let (two, n) = ([w.group(g), w.group((g + 1).min(groups.end - 1))], S::GROUPS.min(groups.end - g));
            const { assert!(S::GROUPS <= MOST_GROUPS && MOST_GROUPS == 2) };
            s.stream_tiles(StreamTiles::<C, K, F> {
                groups: &two[..n],
                tiles: added,
                scratch: &mut scratch.stream,
                out: out.part(start..rows, 16 * i..16 * (i + n)),
                ahead,
                ty: PhantomData,
            });
        }
        let (codes, plane) = w.group(g);
        let mut row = rows;
        for tile in rest {
            let out = out.part(row..row + tile.rows, 16 * i..16 * i + 16);
            row += tile.rows;
            macro_rules! stream {
                ($rows:literal) => {
                    s.stream(Stream::<C, K, F, $rows> {
                        codes,
                        plane,
                        tile,
                        scales: &mut scratch.scales,
                        out,
                        ahead,
                        ty: PhantomData,
                    })
                };
            }
            if !S::UNROLL {
                stream!(0);
                continue;
            }
            match tile.rows {
                1 => stream!(1),
                2 => stream!(2),
                3 => stream!(3),
                4 => stream!(4),
                5 if S::STREAMED_ROWS > 4 => stream!(5),
                6 if S::STREAMED_ROWS > 4 => stream!(6),
                7 if S::STREAMED_ROWS > 4 => stream!(7),
                TILE_ROWS if S::STREAMED_ROWS > 4 => stream!(8),
                rows => unreachable!("no kernel for {rows} rows"),
            }
        }
    }
}

/// `out[row][16·i + lane] = weights[16·(groups.start + i) + lane] · x[row]` for quantised weights.
#[inline(always)]
pub(crate) fn matmul<S: Gemm + Call>(
    s: S,
    tuning: &Tuning,
    w: &Weights<'_>,
    groups: Range<usize>,
    tiles: &[Tile],
    scratch: &mut Scratch,
    out: &mut MatMut<'_>,
) {
    use TensorType::*;
    macro_rules! product {
        ($codes:ty, $scales:ty, $form:ty) => {
            product::<S, $codes, $scales, $form>(s, tuning, w, groups, tiles, scratch, out)
        };
    }
    match w.ty() {
        Q4_0 => product!(Packed4, Plain, Scaled<4>),
        Q4_1 => product!(Packed4, WithMin, Affine<4>),
        Q4_K => product!(Packed4, SixBits, Affine<4>),
        Q5_0 => product!(Packed5, Plain, Scaled<5>),
        Q5_1 => product!(Packed5, WithMin, Affine<5>),
        Q5_K => product!(Packed5, SixBits, Affine<5>),
        Q2_K => product!(Packed2, FourBits, HalvedAffine<2>),
        Q3_K => product!(Packed3, SixBitHalves, Halved<3>),
        Q6_K => product!(Packed6, EightBitHalves, Halved<6>),
        Q8_0 => product!(Packed8, Plain, Scaled<8>),
        IQ4_NL => product!(Table4, Plain, Scaled<8>),
        IQ4_XS => product!(Table4, SixBitScales, Scaled<8>),
        TQ2_0 => product!(Ternary, OneForAll, Scaled<4>),
        MXFP4 => product!(Fp4, PowerOfTwo, Scaled<5>),
        F32 | F16 | BF16 => unreachable!("float weights go through matmul_float"),
    }
}
