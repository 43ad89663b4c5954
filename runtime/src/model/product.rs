//! The rows of activations that go into a product.

use quipu_kernels::{Scratch, Tile};

use super::adapted::{Part, Products};

/// Memory in which inputs are made ready for products; it is kept.
#[derive(Default)]
pub(super) struct InputBuffers {
    /// The input in int8.
    pub(super) tiles: Vec<Tile>,
    /// What adapters make of it, and where that stands.
    pub(super) hidden: Vec<f32>,
    pub(super) parts: Vec<Part>,
}

/// Memory of a worker in which products are computed; it is kept.
#[derive(Default)]
pub(crate) struct ProductScratch {
    pub(super) quant: Scratch,
    /// What an adapter adds.
    pub(super) low_rank: Vec<f32>,
}

/// Activation rows as a product takes them: f32, and tiles of int8 where a weight matrix needs them.
#[derive(Clone, Copy)]
pub(crate) struct ProductInput<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) stride: usize,
    pub(crate) tiles: &'a [Tile],
    /// The number of the first row.
    pub(crate) first: usize,
    /// What adapters make of the rows, by their numbers.
    pub(crate) low_rank: Products<'a>,
}

impl<'a> ProductInput<'a> {
    /// The same rows in parts of up to `panel` bytes ([`Tuning::panel`](quipu_kernels::Tuning::panel)), cut between
    /// tiles, all of about the same size. They are as few as possible, since weights are widened anew for each.
    pub(crate) fn panels(self, panel: usize) -> impl Iterator<Item = ProductInput<'a>> {
        // The first tile is the largest one.
        let (row_bytes, tile) = self.tiles.first().map_or((self.stride * 4, 1), |t| (t.bytes() / t.rows(), t.rows()));
        let most = (panel / row_bytes / tile).max(1);
        let count = if self.tiles.is_empty() { self.rows } else { self.tiles.len() };
        let most = count.div_ceil(count.div_ceil(most));
        let (mut start, mut tiles) = (0, self.tiles.chunks(most));
        std::iter::from_fn(move || {
            let left = self.rows.checked_sub(start).filter(|left| *left > 0)?;
            let tiles = tiles.next().unwrap_or(&[]);
            let rows = if tiles.is_empty() { most.min(left) } else { tiles.iter().map(Tile::rows).sum() };
            let x = &self.x[start * self.stride..];
            let first = self.first + start;
            start += rows;
            Some(ProductInput { x, rows, tiles, first, ..self })
        })
    }
}

#[cfg(test)]
mod tests {
    use quipu_kernels::Isa;

    use super::*;

    const PANEL: usize = 8 << 20;

    #[test]
    fn panels_are_all_rows_in_even_parts() {
        let kernels = Isa::best().kernels().unwrap();
        let (cols, rows) = (8192, 1025);
        let x = vec![1.0; rows * cols];
        let tiles = kernels.tiles(&x, rows, cols);
        for tiles in [&tiles[..], &[]] {
            let panels: Vec<_> = ProductInput { x: &x, rows, stride: cols, tiles, first: 0, low_rank: Products::NONE }
                .panels(PANEL)
                .collect();
            let mut start = 0;
            for panel in &panels {
                assert_eq!((panel.first, panel.x.as_ptr()), (start, &x[start * cols] as *const f32));
                assert!(tiles.is_empty() || panel.tiles.iter().map(Tile::rows).sum::<usize>() == panel.rows);
                start += panel.rows;
            }
            assert_eq!((start, panels.iter().map(|p| p.tiles.len()).sum::<usize>()), (rows, tiles.len()));
            let sizes = || panels.iter().map(|p| if tiles.is_empty() { p.rows } else { p.tiles.len() });
            assert!(
                sizes().max().unwrap() - sizes().min().unwrap() < panels.len(),
                "{:?}",
                sizes().collect::<Vec<_>>()
            );
            let bytes = |p: &ProductInput<'_>| match p.tiles {
                [] => p.rows * cols * 4,
                tiles => tiles.iter().map(Tile::bytes).sum(),
            };
            assert!(panels.len() > 1 && panels.iter().all(|p| bytes(p) <= PANEL));
        }
    }
}
