//! Quantised weights × int8 activations.
//!
//! For every output, 32-blocks in ascending order: `acc ← fma(d_w·d_x, f32(S_b), acc)` with the exact integer sum
//! `S_b`, or with a sum and a scale for each half `acc ← fma(fma(d_1, f32(S_1), d_0·f32(S_0)), d_x, acc)`, and for
//! types with a minimum `acc ← fma(m_w, d_x·Σq, acc)`, or that for either half: the arithmetic of `quipu_quant::dot`.
//!
//! Lanes are output rows. A block's eight lines of codes are held in registers while the rows of a [`Tile`] pass by,
//! and the offset of the codes (8 for Q4_0, 128 for Q8_0 where the CPU multiplies unsigned bytes) is taken back at no
//! cost by starting the integer sum at `−offset·Σq`.

use std::marker::PhantomData;
use std::ops::Range;

use quipu_quant::TensorType;

use crate::activations::{Acts, TILE_ROWS, Tile};
use crate::matrix::{MatMut, Weights};
use crate::simd::{Kernel, Simd};

use super::codes::{Codes, Lines, Packed2, Packed3, Packed4, Packed5, Packed6, Packed8, Table4, Widened};
use super::form::{Affine, Form, Halved, HalvedAffine, Scaled, offset, start, widened};
use super::scales::{
    BlockScales, EightBitHalves, FourBits, GroupScales, Plain, SUPER, Scaling, SixBitHalves, SixBitScales, SixBits,
    Unit, WithMin,
};

/// Memory that a worker keeps between products.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    groups: Vec<WidenedGroup>,
    unit: Unit,
}

/// Codes and scales of a group of 16 outputs, widened to what is multiplied.
#[derive(Clone, Debug, Default)]
struct WidenedGroup {
    scales: GroupScales,
    codes: Lines,
}

/// Bytes of widened codes that several groups have together: they stay in the second-level cache while the activations
/// pass by.
const WIDENED: usize = 560 << 10;

/// Bytes of the activations that pass by all of these groups before the next do: there, too. So megabytes of
/// activations come from the third level or from memory only once for all these groups.
const PASSING: usize = 256 << 10;

/// `acc` and the products of part `sub` of a block, whose codes are `lines`, with row `m` of `acts`.
#[inline(always)]
fn row<S: Simd, F: Form>(
    s: S,
    lines: &[S::Line; 8],
    sub: usize,
    scales: BlockScales<'_>,
    acts: Acts<'_>,
    m: usize,
    acc: S::V,
) -> S::V {
    let offset = const { offset::<S, F>() };
    let at = sub * S::LANES;
    let q = &acts.q[m];
    let sum = if F::SCALES == 2 {
        let (l0, l1) = (lines.first_chunk::<4>(), lines.last_chunk::<4>());
        let (Some(l0), Some(l1)) = (l0, l1) else { unreachable!("eight lines") };
        let [minus0, minus1] = acts.minus_halves[m];
        let (start0, start1) = (start::<S, F>(s, minus0, offset), start::<S, F>(s, minus1, offset));
        let (s0, s1) = match F::BITS {
            0..=4 => (s.dot::<4, 4>(start0, l0, &q[..16]), s.dot::<4, 4>(start1, l1, &q[16..])),
            _ => (s.dot::<4, 6>(start0, l0, &q[..16]), s.dot::<4, 6>(start1, l1, &q[16..])),
        };
        s.fma(s.to_f32(s1), s.load(&scales.d[1][at..]), s.mul(s.to_f32(s0), s.load(&scales.d[0][at..])))
    } else {
        let start = start::<S, F>(s, acts.minus[m], offset);
        s.to_f32(match F::BITS {
            4 => s.dot::<8, 4>(start, lines, q),
            5 => s.dot::<8, 5>(start, lines, q),
            _ => s.dot::<8, 8>(start, lines, q),
        })
    };
    scaled::<S, F>(s, sum, at, scales, acts, m, acc)
}

/// `acc` and the sums `sum` of a block for outputs `at..at + LANES` and row `m` of `acts`, scaled; and the minima.
/// `sum` are integers or, where the halves have scales, the integers of both times those.
#[inline(always)]
pub(crate) fn scaled<S: Simd, F: Form>(
    s: S,
    sum: S::V,
    at: usize,
    scales: BlockScales<'_>,
    acts: Acts<'_>,
    m: usize,
    acc: S::V,
) -> S::V {
    let d = s.splat(acts.d[m]);
    let mut acc = match F::SCALES {
        1 => s.fma(s.mul(s.load(&scales.d[0][at..]), d), sum, acc),
        _ => s.fma(sum, d, acc),
    };
    for i in 0..F::MINS {
        acc = s.fma(s.load(&scales.m[i][at..]), s.splat(acts.weighted[i * acts.q.len() + m]), acc);
    }
    acc
}

/// Adds the products of part `sub` of a block, whose codes are `lines`, with `acts`, which have `M` rows or, where `M =
/// 0`, any number.
///
/// Rows are spelled out where all sums fit into registers: the compiler leaves a loop of such a length as it is, and
/// then they are in memory.
#[inline(always)]
fn part<S: Simd, F: Form, const M: usize>(
    s: S,
    lines: [S::Line; 8],
    sub: usize,
    scales: BlockScales<'_>,
    acts: Acts<'_>,
    acc: &mut [S::V; TILE_ROWS],
) {
    const { assert!(matches!(M, 0 | 1 | 2 | 4 | 8)) };
    // Eight lines, and three vectors to calculate with.
    let in_registers = const { M > 0 && M * S::SUBS + 8 + 3 <= S::REGISTERS };
    macro_rules! rows {
        ($($m:expr),*) => {
            $(acc[$m] = row::<S, F>(s, &lines, sub, scales, acts, $m, acc[$m]);)*
        };
    }
    if !in_registers {
        for m in 0..acts.q.len() {
            rows!(m);
        }
        return;
    }
    rows!(0);
    if M >= 2 {
        rows!(1);
    }
    if M >= 4 {
        rows!(2, 3);
    }
    if M >= 8 {
        rows!(4, 5, 6, 7);
    }
}

/// Adds the products of a block, whose codes are in `codes`, with `acts`; its parts are spelled out like rows.
#[inline(always)]
fn block<S: Simd, C: Codes, F: Form, const M: usize>(
    s: S,
    codes: &[u8],
    scales: BlockScales<'_>,
    acts: Acts<'_>,
    acc: &mut [[S::V; TILE_ROWS]; 4],
) {
    part::<S, F, M>(s, C::lines(s, codes, 0), 0, scales, acts, &mut acc[0]);
    if S::SUBS > 1 {
        part::<S, F, M>(s, C::lines(s, codes, 1), 1, scales, acts, &mut acc[1]);
    }
    if S::SUBS > 2 {
        part::<S, F, M>(s, C::lines(s, codes, 2), 2, scales, acts, &mut acc[2]);
        part::<S, F, M>(s, C::lines(s, codes, 3), 3, scales, acts, &mut acc[3]);
    }
}

#[inline(always)]
fn store<S: Simd>(s: S, acc: &[[S::V; TILE_ROWS]; 4], rows: usize, out: &mut MatMut<'_>) {
    for m in 0..rows {
        let row = out.row(m);
        for sub in 0..S::SUBS {
            s.store(acc[sub][m], &mut row[sub * S::LANES..]);
        }
    }
}

/// One group of 16 outputs for a tile of [`TILE_ROWS`] rows, from widened codes and scales; `out` column 0 is the
/// group's first row.
#[inline(always)]
pub(crate) fn group_tile<S: Simd, F: Form>(
    s: S,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    let blocks = tile.blocks;
    assert!(tile.rows == TILE_ROWS && tile.q.len() == blocks * TILE_ROWS);
    assert!(codes.len() == blocks * Widened::BYTES && scales.d.len() == F::SCALES * blocks);
    let mut acc = [[s.splat(0.0); TILE_ROWS]; 4];
    for (b, codes) in codes.chunks_exact(Widened::BYTES).enumerate() {
        let scales = BlockScales::of::<F>(&scales.d, &scales.m, b);
        block::<S, Widened, F, TILE_ROWS>(s, codes, scales, Acts::of::<F>(tile, b, TILE_ROWS), &mut acc);
    }
    store(s, &acc, TILE_ROWS, out);
}

/// One group of 16 outputs for full tiles.
struct Tiles<'a, 'o, F> {
    group: &'a WidenedGroup,
    tiles: &'a [Tile],
    out: MatMut<'o>,
    form: PhantomData<F>,
}

impl<F: Form> Kernel for Tiles<'_, '_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Tiles { group: WidenedGroup { scales, codes }, tiles, mut out, .. } = self;
        if S::FULL_TILE > TILE_ROWS {
            s.large_tiles::<F>(codes.bytes(), scales, tiles, &mut out);
            return;
        }
        for (i, tile) in tiles.iter().enumerate() {
            let mut out = out.part(i * TILE_ROWS..(i + 1) * TILE_ROWS, 0..16);
            s.group_tile::<F>(codes.bytes(), scales, tile, &mut out);
        }
    }
}

/// One group of 16 outputs for a tile of `M` rows, or with `M = 0` as many as it has, with codes and scales widened on
/// the way: what a few rows of activations wait for is memory, and that flows best when both planes are read at the
/// pace of the arithmetic.
struct Stream<'a, 'o, C, K, F, const M: usize> {
    codes: &'a [u8],
    plane: &'a [u8],
    tile: &'a Tile,
    /// Where scales are widened to. Not the kernel's own: to fill it with zeros first would take as long as a short
    /// row.
    scales: &'a mut Unit,
    out: MatMut<'o>,
    ty: PhantomData<(C, K, F)>,
}

impl<C: Codes, K: Scaling, F: Form, const M: usize> Kernel for Stream<'_, '_, C, K, F, M> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Stream { codes, plane, tile, scales: unit, mut out, .. } = self;
        let (blocks, rows) = (tile.blocks, if M == 0 { tile.rows } else { M });
        assert!(rows == tile.rows && rows <= TILE_ROWS && tile.q.len() == blocks * rows);
        assert!(codes.len() == blocks * C::BYTES && plane.len() == blocks / K::BLOCKS * K::BYTES);
        let mut acc = [[s.splat(0.0); TILE_ROWS]; 4];
        // Scales of eight blocks at once, whole lines of memory: half a line between the lines of codes comes late (Zen
        // 4, one thread, Q4_0: 24 GB/s instead of 31).
        const { assert!(SUPER.is_multiple_of(K::BLOCKS)) };
        let supers = codes.chunks(C::BYTES * SUPER).zip(plane.chunks(K::BYTES * (SUPER / K::BLOCKS)));
        for (i, (codes, units)) in supers.enumerate() {
            for (u, bytes) in units.chunks_exact(K::BYTES).enumerate() {
                K::widen(s, bytes, unit, u * K::BLOCKS);
            }
            for (b, codes) in codes.chunks_exact(C::BYTES).enumerate() {
                let scales = BlockScales::of::<F>(&unit.d, &unit.m, b);
                block::<S, C, F, M>(s, codes, scales, Acts::of::<F>(tile, i * SUPER + b, rows), &mut acc);
            }
        }
        store(s, &acc, rows, &mut out);
    }
}

/// Widens the scales and the codes of a group, for full tiles.
struct Widen<'a, C, K, F> {
    codes: &'a [u8],
    plane: &'a [u8],
    out: &'a mut WidenedGroup,
    ty: PhantomData<(C, K, F)>,
}

impl<C: Codes, K: Scaling, F: Form> Kernel for Widen<'_, C, K, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let WidenedGroup { scales, codes } = self.out;
        scales.widen::<S, K>(s, self.plane);
        let codes = codes.room(self.codes.len() / C::BYTES * const { widened::<S, F>() });
        for (b, block) in self.codes.chunks_exact(C::BYTES).enumerate() {
            for sub in 0..S::SUBS {
                s.store_codes::<F>(&C::lines(s, block, sub), codes, b, sub);
            }
        }
    }
}

/// The product of `groups` with full tiles.
#[inline(always)]
fn full_tiles<S: Simd, C: Codes, K: Scaling, F: Form>(
    s: S,
    w: &Weights<'_>,
    groups: Range<usize>,
    tiles: &[Tile],
    widened_groups: &mut Vec<WidenedGroup>,
    out: &mut MatMut<'_>,
) {
    let [tile, ..] = tiles else { return };
    let at_once = (WIDENED / (tile.blocks * const { widened::<S, F>() })).max(1);
    let passing = (PASSING / tile.bytes()).max(1);
    for first in groups.clone().step_by(at_once) {
        let together = first..groups.end.min(first + at_once);
        if widened_groups.len() < together.len() {
            widened_groups.resize_with(together.len(), WidenedGroup::default);
        }
        for (g, out) in together.clone().zip(&mut *widened_groups) {
            let (codes, plane) = w.group(g);
            s.call(Widen { codes, plane, out, ty: PhantomData::<(C, K, F)> });
        }
        for (i, tiles) in tiles.chunks(passing).enumerate() {
            let row = i * passing * S::FULL_TILE;
            for (g, group) in together.clone().zip(&*widened_groups) {
                let col = 16 * (g - groups.start);
                let out = out.part(row..row + tiles.len() * S::FULL_TILE, col..col + 16);
                s.call(Tiles { group, tiles, out, form: PhantomData::<F> });
            }
        }
    }
}

/// The product of `groups` with `tiles`, full ones first.
#[inline(always)]
fn product<S: Simd, C: Codes, K: Scaling, F: Form>(
    s: S,
    w: &Weights<'_>,
    groups: Range<usize>,
    tiles: &[Tile],
    scratch: &mut Scratch,
    out: &mut MatMut<'_>,
) {
    const { assert!(C::BITS == F::BITS && K::SCALES == F::SCALES && K::MINS == F::MINS) };
    let full = tiles.iter().take_while(|tile| S::UNROLL && tile.rows == S::FULL_TILE).count();
    let (full, rest) = tiles.split_at(full);
    full_tiles::<S, C, K, F>(s, w, groups.clone(), full, &mut scratch.groups, out);
    for (i, g) in groups.enumerate() {
        let (codes, plane) = w.group(g);
        let mut row = full.len() * S::FULL_TILE;
        for tile in rest {
            let out = out.part(row..row + tile.rows, 16 * i..16 * i + 16);
            row += tile.rows;
            macro_rules! stream {
                ($rows:literal) => {
                    s.call(Stream::<C, K, F, $rows> {
                        codes,
                        plane,
                        tile,
                        scales: &mut scratch.unit,
                        out,
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
                4 => stream!(4),
                rows => {
                    assert!(S::FULL_TILE > TILE_ROWS && rows == TILE_ROWS, "no kernel for {rows} rows");
                    stream!(8);
                }
            }
        }
    }
}

/// `out[row][16·i + lane] = weights[16·(groups.start + i) + lane] · x[row]` for quantised weights.
#[inline(always)]
pub(crate) fn matmul<S: Simd>(
    s: S,
    w: &Weights<'_>,
    groups: Range<usize>,
    tiles: &[Tile],
    scratch: &mut Scratch,
    out: &mut MatMut<'_>,
) {
    use TensorType::*;
    macro_rules! product {
        ($codes:ty, $scales:ty, $form:ty) => {
            product::<S, $codes, $scales, $form>(s, w, groups, tiles, scratch, out)
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
        F32 | F16 | BF16 => unreachable!("float weights go through matmul_float"),
    }
}
