//! Quantised weights × int8 activations.
//!
//! For every output, 32-blocks in ascending order: `acc ← fma(d_w·d_x, f32(S_b), acc)` with the exact integer sum `S_b`, and for
//! types with a minimum `acc ← fma(m_w, d_x·Σq, acc)`: the arithmetic of `quipu_quant::dot`.
//!
//! Lanes are output rows. A block's eight lines of codes are held in registers while the rows of a [`Tile`] pass by, and the
//! offset of the codes (8 for Q4_0, 128 for Q8_0 where the CPU multiplies unsigned bytes) is taken back at no cost by
//! starting the integer sum at `−offset·Σq`.

use quipu_quant::TensorType;

use crate::activations::{TILE_ROWS, Tile};
use crate::matrix::{MatMut, Weights};
use crate::simd::{LINE, Simd};

use super::scales::{GroupScales, Lanes, Plain, Scaling, SixBits, Unit, WithHalves, WithMin};

/// Where a block's eight lines of codes come from.
///
/// Vectors are gathered by loops and not by closures: a closure that LLVM leaves out of line loses the ISA's features.
pub(crate) trait Codes {
    /// Bits of a code; 8 stands for what [`Simd::bytes`] makes.
    const BITS: u32;
    /// Bytes of a block of 16 rows × 32 columns.
    const BYTES: usize;
    /// They were stored by [`Simd::store_codes`].
    const EXPANDED: bool = false;

    /// Part `sub` of the lines, in column order.
    fn lines<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8];
}

/// Four lines of nibbles.
#[inline(always)]
fn nibbles<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
    let mut lines = [s.line(block, sub); 8];
    for j in 0..4 {
        let pair = s.line(&block[LINE * j..], sub);
        lines[j] = s.low_nibbles(pair);
        lines[j + 4] = s.high_nibbles(pair);
    }
    lines
}

/// Q4_0, Q4_1, Q4_K.
pub(crate) struct Packed4;
impl Codes for Packed4 {
    const BITS: u32 = 4;
    const BYTES: usize = 4 * LINE;
    #[inline(always)]
    fn lines<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        nibbles(s, block, sub)
    }
}

/// Q5_0, Q5_1, Q5_K: a fifth line holds bit 4 of the codes.
pub(crate) struct Packed5;
impl Codes for Packed5 {
    const BITS: u32 = 5;
    const BYTES: usize = 5 * LINE;
    #[inline(always)]
    fn lines<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = nibbles(s, block, sub);
        let high = s.line(&block[4 * LINE..], sub);
        for j in 0..8 {
            lines[j] = s.or_high::<1>(lines[j], high, j as u32);
        }
        lines
    }
}

/// Q6_K: two more lines hold bits 4 and 5.
pub(crate) struct Packed6;
impl Codes for Packed6 {
    const BITS: u32 = 6;
    const BYTES: usize = 6 * LINE;
    #[inline(always)]
    fn lines<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = nibbles(s, block, sub);
        for j in 0..8 {
            let high = s.line(&block[LINE * (4 + j / 4)..], sub);
            lines[j] = s.or_high::<2>(lines[j], high, 2 * (j as u32 % 4));
        }
        lines
    }
}

/// Q8_0.
pub(crate) struct Packed8;
impl Codes for Packed8 {
    const BITS: u32 = 8;
    const BYTES: usize = 8 * LINE;
    #[inline(always)]
    fn lines<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = [s.line(block, sub); 8];
        for j in 0..8 {
            lines[j] = s.bytes(s.line(&block[LINE * j..], sub));
        }
        lines
    }
}

/// Codes that were widened to bytes before, as [`Simd::store_codes`] does unless an instruction set has a way of its own.
pub(crate) struct Expanded<const BITS: u32>;
impl<const BITS: u32> Codes for Expanded<BITS> {
    const BITS: u32 = BITS;
    const BYTES: usize = 8 * LINE;
    const EXPANDED: bool = true;
    #[inline(always)]
    fn lines<S: Simd>(s: S, block: &[u8], sub: usize) -> [S::Line; 8] {
        let mut lines = [s.line(block, sub); 8];
        for j in 0..8 {
            lines[j] = s.line(&block[LINE * j..], sub);
        }
        lines
    }
}

/// What is added to the values of a block to make codes: a type has either an offset or a minimum.
pub(crate) const fn offset<S: Simd, C: Codes, K: Scaling>() -> i32 {
    match C::BITS {
        _ if K::MIN => 0,
        8 => S::BYTE_OFFSET,
        bits => 1 << (bits - 1),
    }
}

/// From so many tiles on, widening a group's codes once beats widening them for every tile.
const EXPAND_FROM_TILES: usize = 3;

/// Memory that a worker keeps between products.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    scales: GroupScales,
    codes: Vec<u8>,
}

/// The scales of one block.
#[derive(Clone, Copy)]
struct BlockScales<'a> {
    d: &'a Lanes,
    m: &'a Lanes,
    halves: &'a [Lanes; 2],
}

impl<'a> BlockScales<'a> {
    /// Those of block `b`; what the type does not have stands in for itself and is not looked at.
    #[inline(always)]
    fn of<K: Scaling>(d: &'a [Lanes], m: &'a [Lanes], halves: &'a [[Lanes; 2]], b: usize) -> BlockScales<'a> {
        const NONE: &Lanes = &[0.0; 16];
        const NO_HALVES: &[Lanes; 2] = &[[0.0; 16]; 2];
        BlockScales {
            d: &d[b],
            m: if K::MIN { &m[b] } else { NONE },
            halves: if K::HALVES { &halves[b] } else { NO_HALVES },
        }
    }
}

/// Part `sub` of block `b`, its codes in `block`: adds its products with `rows` rows of `tile` to `acc`.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the body of a loop")]
fn block_part<S: Simd, C: Codes, K: Scaling>(
    s: S,
    block: &[u8],
    sub: usize,
    scales: BlockScales<'_>,
    tile: &Tile,
    b: usize,
    rows: usize,
    acc: &mut [S::V; TILE_ROWS],
) {
    let offset = const { offset::<S, C, K>() };
    let at = sub * S::LANES;
    let lines = C::lines(s, block, sub);
    let dw = s.load(&scales.d[at..]);
    for m in 0..rows {
        let at_m = b * rows + m;
        let (q, [h0, h1]) = (&tile.q[at_m], tile.halves[at_m]);
        let sum = if K::HALVES {
            let [first, second] = scales.halves;
            let (l0, l1) = (lines.first_chunk::<4>(), lines.last_chunk::<4>());
            let (Some(l0), Some(l1)) = (l0, l1) else { unreachable!("eight lines") };
            let s0 = s.to_f32(s.dot::<4, 6>(s.splat_i32(-offset * h0), l0, &q[..16]));
            let s1 = s.to_f32(s.dot::<4, 6>(s.splat_i32(-offset * h1), l1, &q[16..]));
            // Integers up to 2²⁴ (see `quipu_quant::dot`), so nothing is rounded; products of i32 are slow on many CPUs.
            s.fma(s0, s.load(&first[at..]), s.mul(s1, s.load(&second[at..])))
        } else {
            let init = s.splat_i32(-offset * (h0 + h1));
            s.to_f32(match C::BITS {
                4 => s.dot::<8, 4>(init, &lines, q),
                5 => s.dot::<8, 5>(init, &lines, q),
                _ => s.dot::<8, 8>(init, &lines, q),
            })
        };
        acc[m] = s.fma(s.mul(dw, s.splat(tile.d[at_m])), sum, acc[m]);
        if K::MIN {
            let mw = s.load(&scales.m[at..]);
            acc[m] = s.fma(mw, s.splat(tile.weighted[at_m]), acc[m]);
        }
    }
}

/// Adds the products of block `b` with `rows` rows of `tile` to `acc`.
#[inline(always)]
fn block<S: Simd, C: Codes, K: Scaling>(
    s: S,
    codes: &[u8],
    scales: BlockScales<'_>,
    tile: &Tile,
    b: usize,
    rows: usize,
    acc: &mut [[S::V; TILE_ROWS]; 4],
) {
    // Spelled out: the compiler would leave a loop of this length as it is, and then the sums would not be in registers.
    block_part::<S, C, K>(s, codes, 0, scales, tile, b, rows, &mut acc[0]);
    if S::SUBS > 1 {
        block_part::<S, C, K>(s, codes, 1, scales, tile, b, rows, &mut acc[1]);
    }
    if S::SUBS > 2 {
        block_part::<S, C, K>(s, codes, 2, scales, tile, b, rows, &mut acc[2]);
        block_part::<S, C, K>(s, codes, 3, scales, tile, b, rows, &mut acc[3]);
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

/// One group of 16 outputs for a tile of [`TILE_ROWS`] rows; `out` column 0 is the group's first row.
#[inline(always)]
pub(crate) fn group_tile<S: Simd, C: Codes, K: Scaling>(
    s: S,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    let blocks = tile.blocks;
    assert!(tile.rows == TILE_ROWS && tile.q.len() == blocks * TILE_ROWS);
    assert!(codes.len() == blocks * C::BYTES && scales.d.len() == blocks);
    let mut acc = [[s.splat(0.0); TILE_ROWS]; 4];
    for (b, codes) in codes.chunks_exact(C::BYTES).enumerate() {
        let scales = BlockScales::of::<K>(&scales.d, &scales.m, &scales.halves, b);
        block::<S, C, K>(s, codes, scales, tile, b, TILE_ROWS, &mut acc);
    }
    store(s, &acc, TILE_ROWS, out);
}

/// As [`group_tile`] for `M` rows, or with `M = 0` as many as the tile has, and with the scales widened on the way: what a few rows
/// of activations wait for is memory, and that flows best when both planes are read at the pace of the arithmetic.
#[inline(always)]
fn group_stream<S: Simd, C: Codes, K: Scaling, const M: usize>(
    s: S,
    codes: &[u8],
    plane: &[u8],
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    let (blocks, rows) = (tile.blocks, if M == 0 { tile.rows } else { M });
    assert!(rows == tile.rows && rows <= TILE_ROWS && tile.q.len() == blocks * rows);
    assert!(codes.len() == blocks * C::BYTES && plane.len() == blocks / K::BLOCKS * K::BYTES);
    let mut acc = [[s.splat(0.0); TILE_ROWS]; 4];
    let mut scales = Unit::default();
    for (i, (codes, unit)) in codes.chunks_exact(C::BYTES * K::BLOCKS).zip(plane.chunks_exact(K::BYTES)).enumerate() {
        K::widen(s, unit, &mut scales);
        for b in 0..K::BLOCKS {
            let (codes, scales) =
                (&codes[C::BYTES * b..], BlockScales::of::<K>(&scales.d, &scales.m, &scales.halves, b));
            block::<S, C, K>(s, codes, scales, tile, i * K::BLOCKS + b, rows, &mut acc);
        }
    }
    store(s, &acc, rows, out);
}

/// All tiles against one group. For full tiles the scales, for many of them also the codes, are widened once and first.
#[inline(always)]
fn group<S: Simd, C: Codes, E: Codes, K: Scaling>(
    s: S,
    (quants, plane): (&[u8], &[u8]),
    scratch: &mut Scratch,
    tiles: &[Tile],
    out: &mut MatMut<'_>,
    col: usize,
) {
    const { assert!(!C::EXPANDED && E::EXPANDED && C::BITS == E::BITS) };
    let Scratch { scales, codes } = scratch;
    let wider = C::BYTES != E::BYTES || S::REORDERS_CODES;
    // A large tile has rows enough to pay for widening at once, and its kernel knows no other codes.
    let is_large = |tile: &Tile| S::FULL_TILE > TILE_ROWS && tile.rows == S::FULL_TILE;
    let many = if S::FULL_TILE > TILE_ROWS { tiles.iter().any(is_large) } else { tiles.len() >= EXPAND_FROM_TILES };
    let expand = wider && many;
    if S::UNROLL && tiles.iter().any(|tile| tile.rows >= TILE_ROWS) {
        scales.widen::<S, K>(s, plane);
        if expand {
            codes.resize(quants.len() / C::BYTES * E::BYTES, 0);
            for (b, block) in quants.chunks_exact(C::BYTES).enumerate() {
                for sub in 0..S::SUBS {
                    s.store_codes(&C::lines(s, block, sub), const { offset::<S, C, K>() }, codes, b, sub);
                }
            }
        }
    }
    let (mut row, mut rest) = (0, tiles);
    while let Some((tile, others)) = rest.split_first() {
        let large = rest.iter().take_while(|tile| is_large(tile)).count();
        if large > 0 {
            let rows = large * S::FULL_TILE;
            let values = if expand { &codes[..] } else { quants };
            s.large_tiles::<K>(values, scales, &rest[..large], &mut out.part(row..row + rows, col..col + 16));
            row += rows;
            rest = &rest[large..];
            continue;
        }
        rest = others;
        let out = &mut out.part(row..row + tile.rows, col..col + 16);
        match tile.rows {
            1 if S::UNROLL => group_stream::<S, C, K, 1>(s, quants, plane, tile, out),
            2 if S::UNROLL => group_stream::<S, C, K, 2>(s, quants, plane, tile, out),
            4 if S::UNROLL => group_stream::<S, C, K, 4>(s, quants, plane, tile, out),
            TILE_ROWS if S::UNROLL && expand && S::FULL_TILE == TILE_ROWS => {
                s.group_tile::<E, K>(codes, scales, tile, out)
            }
            TILE_ROWS if S::UNROLL => s.group_tile::<C, K>(quants, scales, tile, out),
            _ => group_stream::<S, C, K, 0>(s, quants, plane, tile, out),
        }
        row += tile.rows;
    }
}

/// `out[row][16·i + lane] = weights[16·(groups.start + i) + lane] · x[row]` for quantised weights.
#[inline(always)]
pub(crate) fn matmul<S: Simd>(
    s: S,
    w: &Weights<'_>,
    groups: std::ops::Range<usize>,
    tiles: &[Tile],
    scratch: &mut Scratch,
    out: &mut MatMut<'_>,
) {
    use TensorType::*;
    for (i, g) in groups.enumerate() {
        let (planes, col) = (w.group(g), 16 * i);
        match w.ty() {
            Q4_0 => group::<S, Packed4, Expanded<4>, Plain>(s, planes, scratch, tiles, out, col),
            Q4_1 => group::<S, Packed4, Expanded<4>, WithMin>(s, planes, scratch, tiles, out, col),
            Q4_K => group::<S, Packed4, Expanded<4>, SixBits>(s, planes, scratch, tiles, out, col),
            Q5_0 => group::<S, Packed5, Expanded<5>, Plain>(s, planes, scratch, tiles, out, col),
            Q5_1 => group::<S, Packed5, Expanded<5>, WithMin>(s, planes, scratch, tiles, out, col),
            Q5_K => group::<S, Packed5, Expanded<5>, SixBits>(s, planes, scratch, tiles, out, col),
            Q6_K => group::<S, Packed6, Expanded<6>, WithHalves>(s, planes, scratch, tiles, out, col),
            Q8_0 => group::<S, Packed8, Expanded<8>, Plain>(s, planes, scratch, tiles, out, col),
            F32 | F16 | BF16 => unreachable!("float weights go through matmul_float"),
        }
    }
}
