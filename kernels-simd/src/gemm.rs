//! Matrix products: how an instruction set multiplies codes by quantised activations, and in which tiles.

use crate::operands::activations::{HALVES_OFFSET, TILE_ROWS, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::{GroupScales, RowScales};
use crate::simd::{LINE, Simd};

/// Where a block's eight lines of codes come from.
pub(crate) trait Codes {
    /// See [`Form::BITS`].
    const BITS: u32;
    /// Bytes of a block of 16 rows × 32 columns.
    const BYTES: usize;
    /// Whether they are what [`Gemm::store_codes`] stored.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const WIDENED: bool = false;
    /// How much work it is to make a line: about so many instructions.
    const WORK: usize;

    /// Part `sub` of the lines, in column order.
    fn lines<S: Gemm>(s: S, block: &[u8], sub: usize) -> [S::Line; 8];
    /// Part `sub` of line `j`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    fn line<S: Gemm>(s: S, block: &[u8], sub: usize, j: usize) -> S::Line;
}

/// What an instruction set does for products of quantised weights with int8 activations. As [`Simd`], all of it is
/// inlined.
pub(crate) trait Gemm: Simd {
    /// Rows of activations in a full tile: a power of two, [`TILE_ROWS`] or more.
    const FULL_TILE: usize = TILE_ROWS;
    /// Weights whose codes take less work than this ([`Codes::WORK`]) can be widened on the way for full tiles, too, as
    /// for a few rows, and not only first. Up to how many rows that pays, `Tuning` says.
    const STREAMED_WORK: usize = 0;
    /// Whether tiles can have 5, 6 or 7 rows, so that none of these numbers takes as long as a larger one.
    const ANY_ROWS: bool = false;
    /// The most rows of a tile whose sums stay in registers as weights stream by. A larger tile is for
    /// [`Gemm::add_rows`], or full.
    const STREAMED_ROWS: usize = 4;
    /// From how much work on ([`Codes::WORK`]) lines of codes are widened once for all rows that pass by, if these are
    /// more than [`Gemm::add_rows`] takes at once, and not anew each time.
    const WIDENED_WORK: usize = 4;
    /// The fewest rows of a tile for [`Gemm::add_rows`]. Weights are read once more for each smaller one.
    const ADDED_TILE: usize = 1;
    /// Row groups that [`Gemm::add_rows`] and [`Gemm::group_tiles`] take at once, up to [`MOST_GROUPS`].
    const GROUPS: usize = 1;
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

    /// The same for tiles of [`Gemm::FULL_TILE`] rows and up to [`Gemm::GROUPS`] groups: `out` has the rows of all
    /// tiles, one tile after the other.
    #[inline(always)]
    fn group_tiles<F: Form>(self, groups: &[WidenedGroup<'_>], tiles: &[Tile], out: MatMut<'_>) {
        tile_by_tile::<Self, F>(self, groups, tiles, out);
    }

    /// From how many rows on (but for full tiles whose weights are widened first) products with codes of the form `F`
    /// are made by [`Gemm::add_rows`] as weights stream by; `None` if never.
    #[inline(always)]
    fn added_from<F: Form>() -> Option<usize> {
        None
    }

    /// Adds to `sums` of `R` rows, which are row `row` of `tile` and those after it, the products of the blocks
    /// `groups`, which are block `block` and those after it. `sums` are (row, group).
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
        let _ = (groups, tile, block, row, ahead, sums);
        unreachable!("no product has so many rows: `added_from`")
    }
}

/// The most that [`Gemm::GROUPS`] can be.
pub(crate) const MOST_GROUPS: usize = 2;

/// Rows that [`Gemm::add_rows`] takes at once.
pub(crate) const ADDED: usize = 4;

/// One row group: its codes as [`Gemm::store_codes`] stored them, and its scales.
#[derive(Clone, Copy)]
pub(crate) struct WidenedGroup<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a GroupScales,
}

impl<'a> WidenedGroup<'a> {
    /// All of its blocks.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    #[inline(always)]
    pub(crate) fn blocks(self) -> Blocks<'a> {
        Blocks { codes: self.codes, d: &self.scales.d, m: &self.scales.m, stored: &[] }
    }
}

/// Some blocks of a row group: their codes, whatever these come from, their scales and minima, and where memory has the
/// codes, if more of them are to be [asked for](Asked).
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[derive(Clone, Copy, Default)]
pub(crate) struct Blocks<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) d: &'a [RowScales],
    pub(crate) m: &'a [RowScales],
    pub(crate) stored: &'a [u8],
}

/// Which codes are asked for ahead of the arithmetic, block by block: of the lines `bytes` after those of a block, line
/// `first` and then each `step`-th one. When rows pass by the same blocks in several parts, each asks for a part.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) bytes: usize,
    pub(crate) first: usize,
    pub(crate) step: usize,
}

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
impl Asked {
    /// None.
    pub(crate) const NOTHING: Asked = Asked { bytes: 0, first: usize::MAX, step: 1 };

    /// Asks for the lines of block `b` of those that are `stored`, of `BYTES` bytes each.
    #[inline(always)]
    pub(crate) fn ask<S: Simd, C: Codes>(self, s: S, stored: &[u8], b: usize) {
        let mut line = self.first;
        while line < C::BYTES / LINE {
            s.prefetch(stored, b * C::BYTES + line * LINE + self.bytes);
            line += self.step;
        }
    }
}

/// Sums of one row and the sixteen outputs of a group, in a line of the cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Sums(pub(crate) [f32; 16]);

/// [`Gemm::group_tiles`] by [`Gemm::group_tile`].
#[inline(always)]
pub(crate) fn tile_by_tile<S: Gemm, F: Form>(s: S, groups: &[WidenedGroup<'_>], tiles: &[Tile], mut out: MatMut<'_>) {
    for (g, group) in groups.iter().enumerate() {
        for (i, tile) in tiles.iter().enumerate() {
            let mut out = out.part(i * TILE_ROWS..(i + 1) * TILE_ROWS, 16 * g..16 * (g + 1));
            s.group_tile::<F>(group.codes, group.scales, tile, &mut out);
        }
    }
}

/// Rows of the next tile when `left` rows are left: a power of two, or 3, or with [`Gemm::ANY_ROWS`] any number of
/// them below [`TILE_ROWS`].
#[inline(always)]
pub(crate) fn tile_rows<S: Gemm>(_: S, left: usize) -> usize {
    const { assert!(S::FULL_TILE.is_power_of_two() && S::FULL_TILE >= TILE_ROWS) };
    if left == 3 || S::ANY_ROWS && (1..TILE_ROWS).contains(&left) {
        left
    } else {
        1 << left.clamp(1, S::FULL_TILE).ilog2()
    }
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
