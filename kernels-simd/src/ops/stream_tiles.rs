//! Weights that stream by from memory and meet more rows of activations than registers have sums for.
//!
//! Rows pass by four at a time, all of them by the same few blocks, which are in the first-level cache by then. So
//! weights are read from memory once, at the pace of the arithmetic, and a row more never costs more than it takes to
//! multiply it.

use std::marker::PhantomData;

use crate::call::Kernel;
use crate::gemm::{ADDED, Asked, Blocks, Codes, Gemm, MOST_GROUPS, Sums, widened};
use crate::operands::activations::Tile;
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::{SUPER, Scaling, SuperScales};
use crate::simd::LINE;
use crate::tuning::Ahead;

use super::codes::{Lines, Widened};

/// Memory for widened scales and for sums, which a worker keeps between products.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamScratch {
    scales: [SuperScales; MOST_GROUPS],
    codes: [Lines; MOST_GROUPS],
    sums: Vec<Sums>,
}

/// Row groups, up to [`Gemm::GROUPS`] of them, times `tiles`.
pub(crate) struct StreamTiles<'a, 'o, C, K, F> {
    /// Codes and scales of each group.
    pub(crate) groups: &'a [(&'a [u8], &'a [u8])],
    pub(crate) tiles: &'a [Tile],
    pub(crate) scratch: &'a mut StreamScratch,
    pub(crate) out: MatMut<'o>,
    pub(crate) ahead: Ahead,
    pub(crate) ty: PhantomData<(C, K, F)>,
}

impl<S: Gemm, C: Codes, K: Scaling, F: Form> Kernel<S> for StreamTiles<'_, '_, C, K, F> {
    #[inline(always)]
    fn run(self, s: S) {
        let StreamTiles { groups, tiles, scratch, mut out, ahead, .. } = self;
        let StreamScratch { scales, codes, sums } = scratch;
        let (n, blocks) = (groups.len(), groups[0].0.len() / C::BYTES);
        assert!((1..=S::GROUPS).contains(&n) && tiles.iter().all(|t| t.blocks == blocks));
        assert!(groups.iter().all(|g| g.0.len() == blocks * C::BYTES && g.1.len() == blocks / K::BLOCKS * K::BYTES));
        sums.clear();
        sums.resize(n * out.rows(), Sums::default());
        for first in (0..blocks).step_by(SUPER) {
            let count = SUPER.min(blocks - first);
            for (scales, (_, plane)) in scales.iter_mut().zip(groups) {
                let units = &plane[first / K::BLOCKS * K::BYTES..][..count / K::BLOCKS * K::BYTES];
                let bytes = beyond(plane.len(), first / K::BLOCKS * K::BYTES, ahead.scales, n);
                for line in units.chunks(LINE) {
                    s.prefetch(line, bytes);
                }
                for (u, unit) in units.chunks_exact(K::BYTES).enumerate() {
                    K::widen(s, unit, scales, u * K::BLOCKS);
                }
            }
            // Measured on Zen 5: 16 rows of Q6_K, Q5_K or IQ4_XS take a fifth less time with AVX2, of Q6_K a tenth less
            // with AVX-VNNI, and 32 a tenth less with AVX-512. Types with less work would lose up to 15 %.
            let widens = const { C::WORK >= S::WIDENED_WORK } && out.rows() > ADDED;
            let mut now = [Blocks::default(); MOST_GROUPS];
            for (g, room) in codes.iter_mut().enumerate().take(n) {
                let stored = &groups[g].0[first * C::BYTES..][..count * C::BYTES];
                now[g] = Blocks {
                    codes: if widens { widen::<S, C, F>(s, stored, room) } else { stored },
                    d: &scales[g].d[..F::SCALES * count],
                    m: &scales[g].m[..F::MINS * count],
                    stored,
                };
            }
            let bytes = beyond(blocks * C::BYTES, first * C::BYTES, ahead.codes, n);
            if widens {
                add_tiles::<S, Widened, C, F>(s, &now[..n], tiles, first, bytes, sums);
            } else {
                add_tiles::<S, C, C, F>(s, &now[..n], tiles, first, bytes, sums);
            }
        }
        for (r, sums) in sums.chunks_exact(n).enumerate() {
            let (row, _) = out.row(r).as_chunks_mut::<16>();
            for (out, sums) in row.iter_mut().zip(sums) {
                *out = sums.0;
            }
        }
    }
}

/// Widens the codes of some blocks into `room`.
#[inline(always)]
fn widen<'r, S: Gemm, C: Codes, F: Form>(s: S, stored: &[u8], room: &'r mut Lines) -> &'r [u8] {
    let out = room.room(stored.len() / C::BYTES * const { widened::<S, F>() });
    for (b, block) in stored.chunks_exact(C::BYTES).enumerate() {
        for sub in 0..S::SUBS {
            s.store_codes::<F>(&C::lines(s, block, sub), out, b, sub);
        }
    }
    out
}

/// From byte `at` of a group of `len` bytes, how far it is to the byte that is read `ahead` bytes later, when `groups`
/// are read side by side.
#[inline(always)]
fn beyond(len: usize, at: usize, ahead: u32, groups: usize) -> usize {
    let ahead = ahead as usize;
    if at + ahead < len { ahead } else { ahead + (groups - 1) * len }
}

/// Adds the products of some blocks of `groups` with all rows of `tiles`.
#[inline(always)]
fn add_tiles<S: Gemm, C: Codes, Stored: Codes, F: Form>(
    s: S,
    groups: &[Blocks<'_>],
    tiles: &[Tile],
    block: usize,
    codes_ahead: usize,
    sums: &mut [Sums],
) {
    let step = tiles.iter().map(|tile| tile.rows.div_ceil(ADDED)).sum();
    let (mut first, mut done) = (0, 0);
    for tile in tiles {
        for row in (0..tile.rows).step_by(ADDED) {
            let ahead = Asked { bytes: codes_ahead, first: done, step };
            let sums = &mut sums[(first + row) * groups.len()..];
            macro_rules! rows {
                ($rows:expr) => {
                    s.add_rows::<C, Stored, F, { $rows }>(groups, tile, block, row, ahead, sums)
                };
            }
            match tile.rows - row {
                1 => rows!(1),
                2 => rows!(2),
                3 => rows!(3),
                _ => rows!(ADDED),
            }
            done += 1;
        }
        first += tile.rows;
    }
}
