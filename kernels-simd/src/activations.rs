//! Activations on their way into a product: f32 rows, and their int8 form in tiles.

use crate::simd::{ActBlock, Simd};

/// Rows of a full tile, but for instruction sets that make it larger ([`Simd::FULL_TILE`]).
pub(crate) const TILE_ROWS: usize = 8;

/// Rows of the next tile when `left` rows are left: a power of two.
#[inline(always)]
pub(crate) fn tile_rows<S: Simd>(_: S, left: usize) -> usize {
    const { assert!(S::FULL_TILE.is_power_of_two() && S::FULL_TILE >= TILE_ROWS) };
    1 << left.clamp(1, S::FULL_TILE).ilog2()
}

/// As many activation rows as there are kernels for ([`Kernels::tile_rows`](crate::Kernels::tile_rows)), in the int8 form of
/// `quipu_quant::activations`, block by block, rows side by side.
#[derive(Clone, Debug, Default)]
pub struct Tile {
    pub(crate) rows: usize,
    pub(crate) blocks: usize,
    /// (block, row, 32) values, or as [`Tile::put`] says.
    pub(crate) q: Vec<ActBlock>,
    /// (block, row) scales.
    pub(crate) d: Vec<f32>,
    /// (block, row) sums of the values of the first and second half of a block.
    pub(crate) halves: Vec<[i32; 2]>,
    /// (block, row) `d · Σq`: what a minimum is multiplied by.
    pub(crate) weighted: Vec<f32>,
}

impl Tile {
    /// Makes room for `rows` rows of `cols` elements; keeps its memory.
    ///
    /// # Panics
    /// When `cols` is no multiple of 32.
    pub(crate) fn resize(&mut self, rows: usize, cols: usize) {
        assert!(cols.is_multiple_of(32));
        self.rows = rows;
        self.blocks = cols / 32;
        let n = rows * self.blocks;
        self.q.resize(n, [0; 32]);
        self.d.resize(n, 0.0);
        self.halves.resize(n, [0; 2]);
        self.weighted.resize(n, 0.0);
    }

    /// Stores the values of row `row` in block `block`. A tile in pairs of rows has, for each block and each two rows, 8 columns of
    /// the one and 8 of the other in turn.
    #[inline(always)]
    pub(crate) fn put(&mut self, block: usize, row: usize, q: ActBlock, in_pairs: bool) {
        let at = block * self.rows;
        if !in_pairs {
            self.q[at + row] = q;
            return;
        }
        let pair = self.q[at + row / 2 * 2..][..2].as_flattened_mut();
        for (i, part) in q.chunks_exact(8).enumerate() {
            pair[16 * i + 8 * (row % 2)..][..8].copy_from_slice(part);
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
}
