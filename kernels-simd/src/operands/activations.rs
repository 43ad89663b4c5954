//! Activations on their way into a product: their int8 form, in tiles of a few rows.

use crate::simd::ActBlock;

use super::form::Form;

/// Rows of a full tile, unless an instruction set makes it larger (`Gemm::FULL_TILE`).
pub(crate) const TILE_ROWS: usize = 8;

/// The factor that is in [`Tile::minus_halves`] already: the offset of Q6_K's codes, so that the two sums of each of
/// its blocks start from a number as it is loaded. The one shift that other types take for a block costs nothing, but
/// two shifts cost AVX-512 5 %.
pub(crate) const HALVES_OFFSET: i32 = 32;
const _: () = assert!(HALVES_OFFSET.is_positive() && HALVES_OFFSET.count_ones() == 1);

/// The activations of one block of one row in 16 bits, and what sums of 16 bits start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide {
    /// Those of even columns, then those of odd ones.
    columns: [[i16; 16]; 2],
    /// For the first half of the block, for the second and for the whole, `−Σ` of every four columns' first two and
    /// last two.
    minus: [[i16; 2]; 3],
}

impl Wide {
    pub(crate) const ZERO: Wide = Wide { columns: [[0; 16]; 2], minus: [[0; 2]; 3] };

    #[inline(always)]
    fn new(q: &ActBlock) -> Wide {
        let (mut wide, mut twos) = (Wide::ZERO, [0; 16]);
        for (i, &[even, odd]) in q.as_chunks::<2>().0.iter().enumerate() {
            // Shifts, which a compiler turns into shifts of vectors.
            let both = i16::from_le_bytes([even as u8, odd as u8]);
            wide.columns[0][i] = both << 8 >> 8;
            wide.columns[1][i] = both >> 8;
            twos[i] = wide.columns[0][i] + wide.columns[1][i];
        }
        for (minus, t) in wide.minus.iter_mut().zip(twos.as_chunks::<8>().0) {
            *minus = [-(t[0] + t[2] + t[4] + t[6]), -(t[1] + t[3] + t[5] + t[7])];
        }
        let [first, second, _] = wide.minus;
        wide.minus[2] = [first[0] + second[0], first[1] + second[1]];
        wide
    }
}

#[cfg(target_arch = "x86_64")]
impl Wide {
    /// Of four columns from `4 j` on the even ones or the odd ones, two numbers of 16 bits.
    #[inline(always)]
    pub(crate) fn two(&self, odd: usize, j: usize) -> i32 {
        pair(self.columns[odd].as_chunks().0[j])
    }

    /// What sums start from: the numbers for half 0 or 1 or, with 2, for the whole block.
    #[inline(always)]
    pub(crate) fn minus(&self, part: usize) -> i32 {
        pair(self.minus[part])
    }
}

/// Two numbers of 16 bits in one of 32.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pair([low, high]: [i16; 2]) -> i32 {
    i32::from(low as u16) | i32::from(high) << 16
}

/// A few rows of activations in int8 (`quipu_quant::activations`), as many as there is a kernel for
/// (`Kernels::tile_rows`): block by block of 32 columns, and in a block the rows side by side.
#[derive(Clone, Debug, Default)]
pub struct Tile {
    pub(crate) rows: usize,
    pub(crate) blocks: usize,
    /// (block, row, 32) values, or as [`Tile::put`] says.
    pub(crate) q: Vec<ActBlock>,
    /// (block, row) scales.
    pub(crate) d: Vec<f32>,
    /// (block, row) `−Σq`: times the offset of the codes it is what a sum of products starts from.
    pub(crate) minus: Vec<i32>,
    /// (block, row) `−Σq` of either half of a block, times [`HALVES_OFFSET`].
    pub(crate) minus_halves: Vec<[i32; 2]>,
    /// (block, row) `d · Σq`: what a minimum is multiplied by.
    weighted: Vec<f32>,
    /// (block, half, row) `d · Σq` of either half of a block.
    weighted_halves: Vec<f32>,
    /// (block, row) the same activations in 16 bits: in tiles of `Gemm::ADDED_TILE` rows or more, where `Gemm::WIDE`.
    pub(crate) wide: Vec<Wide>,
    /// (block, number, pair of rows) a number of both rows, twice, where rows stand in pairs; the numbers are `d`,
    /// `weighted` and both `weighted_halves`.
    pub(crate) paired: Vec<[[[f32; 4]; TILE_ROWS / 2]; 4]>,
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
        self.minus.resize(n, 0);
        self.minus_halves.resize(n, [0; 2]);
        self.weighted.resize(n, 0.0);
        self.weighted_halves.resize(2 * n, 0.0);
    }

    /// Makes room for what only some tiles have: numbers of pairs of rows, activations in 16 bits.
    pub(crate) fn resize_more(&mut self, in_pairs: bool, wide: bool) {
        self.wide.resize(if wide { self.blocks * self.rows } else { 0 }, Wide::ZERO);
        self.paired.resize(if in_pairs { self.blocks } else { 0 }, [[[0.0; 4]; TILE_ROWS / 2]; 4]);
    }

    /// Stores row `row` of block `block`: its values, their scale and the sums of both halves. Where rows stand in
    /// pairs, 8 columns of the one and 8 of the other follow each other in turn.
    #[inline(always)]
    pub(crate) fn put(&mut self, block: usize, row: usize, q: ActBlock, d: f32, halves: [i32; 2], in_pairs: bool) {
        let at = block * self.rows;
        let sum = halves[0] + halves[1];
        let weighted = d * sum as f32;
        let weighted_halves = [d * halves[0] as f32, d * halves[1] as f32];
        self.d[at + row] = d;
        self.minus[at + row] = -sum;
        self.minus_halves[at + row] = [-HALVES_OFFSET * halves[0], -HALVES_OFFSET * halves[1]];
        self.weighted[at + row] = weighted;
        self.weighted_halves[2 * at + row] = weighted_halves[0];
        self.weighted_halves[2 * at + self.rows + row] = weighted_halves[1];
        if let Some(wide) = self.wide.get_mut(at + row) {
            *wide = Wide::new(&q);
        }
        if !in_pairs {
            self.q[at + row] = q;
            return;
        }
        let pair = self.q[at + row / 2 * 2..][..2].as_flattened_mut();
        for (i, part) in q.chunks_exact(8).enumerate() {
            pair[16 * i + 8 * (row % 2)..][..8].copy_from_slice(part);
        }
        let paired = &mut self.paired[block];
        for (numbers, x) in paired.iter_mut().zip([d, weighted, weighted_halves[0], weighted_halves[1]]) {
            let lanes = &mut numbers[row / 2];
            lanes[row % 2] = x;
            lanes[row % 2 + 2] = x;
        }
    }

    /// (block, minimum, row) what the minima of the form `F` are multiplied by; empty if it has none.
    #[inline(always)]
    pub(crate) fn weighted<F: Form>(&self) -> &[f32] {
        match F::MINS {
            0 => &[],
            1 => &self.weighted,
            _ => &self.weighted_halves,
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of memory that a product reads of it.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.q[..])
            + size_of_val(&self.d[..])
            + size_of_val(&self.minus[..])
            + size_of_val(&self.minus_halves[..])
            + size_of_val(&self.weighted[..])
            + size_of_val(&self.weighted_halves[..])
            + size_of_val(&self.wide[..])
            + size_of_val(&self.paired[..])
    }
}

/// Quantised activations of one block, row by row: see [`Tile`].
#[derive(Clone, Copy)]
pub(crate) struct Acts<'a> {
    pub(crate) q: &'a [ActBlock],
    pub(crate) d: &'a [f32],
    pub(crate) minus: &'a [i32],
    pub(crate) minus_halves: &'a [[i32; 2]],
    /// (minimum, row).
    pub(crate) weighted: &'a [f32],
}

impl<'a> Acts<'a> {
    /// Those of block `b` of a tile with `rows` rows.
    #[inline(always)]
    pub(crate) fn of<F: Form>(tile: &'a Tile, b: usize, rows: usize) -> Acts<'a> {
        let at = b * rows..(b + 1) * rows;
        Acts {
            q: &tile.q[at.clone()],
            d: &tile.d[at.clone()],
            minus: &tile.minus[at.clone()],
            minus_halves: &tile.minus_halves[at],
            weighted: &tile.weighted::<F>()[F::MINS * b * rows..][..F::MINS * rows],
        }
    }
}
