//! Matrix products: how an instruction set multiplies codes by quantised activations, and in which tiles.

use crate::operands::activations::{HALVES_OFFSET, TILE_ROWS, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::GroupScales;
use crate::simd::{LINE, Simd};

/// What an instruction set does for products of quantised weights with int8 activations. As [`Simd`], all of it is
/// inlined.
pub(crate) trait Gemm: Simd {
    /// Rows of activations in a full tile: a power of two, [`TILE_ROWS`] or more.
    const FULL_TILE: usize = TILE_ROWS;
    /// Whether weights can be widened on the way for full tiles, too, as for a few rows, and not only first: where they
    /// have [`TILE_ROWS`] rows that do not stand in pairs. Up to how many rows that pays, `Tuning` says.
    const STREAMS_TILES: bool = false;
    /// Whether quantised activations of a full tile stand in pairs of rows: see [`Tile::put`].
    const PAIRS_ROWS: bool = false;
    /// Whether full tiles have activations in 16 bits, too ([`Wide`](crate::operands::activations::Wide)), and codes
    /// of 8 bits are widened to 16 for them by [`Gemm::store_codes`].
    const WIDE: bool = false;
    /// What [`Gemm::bytes`] adds to signed bytes to make codes for [`Gemm::dot`].
    const BYTE_OFFSET: i32;

    /// Signed bytes as codes for [`Gemm::dot`] with `BITS = 8`: every byte plus [`Gemm::BYTE_OFFSET`].
    fn bytes(self, line: Self::Line) -> Self::Line;

    /// `init + Σ` over lines `j` and bytes `i` of `lines[j][row][i] · acts[4j + i]`, per row. The codes are unsigned
    /// and below `2^BITS`; for `BITS = 8` they are what [`Gemm::bytes`] made. `N` is 8 or 4 and `acts` has `4 N`
    /// elements.
    fn dot<const N: usize, const BITS: u32>(self, init: Self::I, lines: &[Self::Line; N], acts: &[i8]) -> Self::I;

    /// Stores part `sub` of the lines of block `block`, which are codes of the form `F`, in `codes`, which has room for
    /// all blocks of a group, for [`Gemm::group_tiles`].
    #[inline(always)]
    fn store_codes<F: Form>(self, lines: &[Self::Line; 8], codes: &mut [u8], block: usize, sub: usize) {
        let codes = &mut codes[8 * LINE * block..][..8 * LINE];
        for j in 0..8 {
            self.store_line(lines[j], &mut codes[LINE * j..], sub);
        }
    }

    /// One group of 16 outputs for a tile of [`TILE_ROWS`] rows, which are those of `out`. `codes` are as
    /// [`Gemm::store_codes`] stored them.
    fn group_tile<F: Form>(self, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>);

    /// The same for tiles of [`Gemm::FULL_TILE`] rows: `out` has the rows of all of them, one tile after the other.
    #[inline(always)]
    fn group_tiles<F: Form>(self, codes: &[u8], scales: &GroupScales, tiles: &[Tile], out: MatMut<'_>) {
        tile_by_tile::<Self, F>(self, codes, scales, tiles, out);
    }
}

/// [`Gemm::group_tiles`] by [`Gemm::group_tile`].
#[inline(always)]
pub(crate) fn tile_by_tile<S: Gemm, F: Form>(
    s: S,
    codes: &[u8],
    scales: &GroupScales,
    tiles: &[Tile],
    mut out: MatMut<'_>,
) {
    for (i, tile) in tiles.iter().enumerate() {
        let mut out = out.part(i * TILE_ROWS..(i + 1) * TILE_ROWS, 0..16);
        s.group_tile::<F>(codes, scales, tile, &mut out);
    }
}

/// Rows of the next tile when `left` rows are left: a power of two.
#[inline(always)]
pub(crate) fn tile_rows<S: Gemm>(_: S, left: usize) -> usize {
    const { assert!(S::FULL_TILE.is_power_of_two() && S::FULL_TILE >= TILE_ROWS) };
    1 << left.clamp(1, S::FULL_TILE).ilog2()
}

/// What is added to the values of a block to make codes: nothing or a power of two. A type has either an offset or a
/// minimum.
pub(crate) const fn offset<S: Gemm, F: Form>() -> i32 {
    assert!(S::BYTE_OFFSET.count_ones() <= 1);
    match F::BITS {
        _ if F::MINS > 0 => 0,
        8 => S::BYTE_OFFSET,
        bits => 1 << (bits - 1),
    }
}

/// Bytes of a block of 16 rows × 32 columns in the memory that [`Gemm::store_codes`] fills.
pub(crate) const fn widened<S: Gemm, F: Form>() -> usize {
    if S::WIDE && F::BITS == 8 { 2 * 8 * LINE } else { 8 * LINE }
}

/// What a sum starts from so that `offset` is taken from all codes; `minus` is what a [`Tile`] has as `minus` or, where
/// halves have scales, as `minus_halves`.
#[inline(always)]
pub(crate) fn start<S: Gemm, F: Form>(s: S, minus: i32, offset: i32) -> S::I {
    if offset == 0 {
        return s.splat_i32(0);
    }
    let included = if F::SCALES == 2 { HALVES_OFFSET } else { 1 };
    s.splat_shifted(minus, offset.ilog2() as i32 - included.ilog2() as i32)
}
