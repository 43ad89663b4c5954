//! The rows of activations that go into a product.

use quipu_kernels::Tile;

/// Activation rows as a product takes them: f32, and tiles of int8 where a weight matrix needs them.
#[derive(Clone, Copy)]
pub(crate) struct ProductInput<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) stride: usize,
    pub(crate) tiles: &'a [Tile],
}

/// Most bytes of activations that a product goes through for one group of weights and then for the next. 512 rows of a wide matrix are three
/// times that, more than a share of many a last-level cache: then every group would wait for memory.
const PANEL: usize = 4 << 20;

impl<'a> ProductInput<'a> {
    /// The same rows in parts of up to [`PANEL`] bytes, cut between tiles.
    pub(crate) fn panels(self) -> impl Iterator<Item = ProductInput<'a>> {
        // The first tile is the largest one.
        let (row_bytes, tile) = self.tiles.first().map_or((self.stride * 4, 1), |t| (t.bytes() / t.rows(), t.rows()));
        let most = (PANEL / row_bytes / tile).max(1);
        let (mut start, mut tiles) = (0, self.tiles.chunks(most));
        std::iter::from_fn(move || {
            let left = self.rows.checked_sub(start).filter(|left| *left > 0)?;
            let tiles = tiles.next().unwrap_or(&[]);
            let rows = if tiles.is_empty() { most.min(left) } else { tiles.iter().map(Tile::rows).sum() };
            let x = &self.x[start * self.stride..];
            start += rows;
            Some(ProductInput { x, rows, tiles, ..self })
        })
    }
}
