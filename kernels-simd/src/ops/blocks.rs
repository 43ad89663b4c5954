//! The innermost work of a quantised product: one block of 16 outputs × 32 columns and a few rows of activations.
//!
//! For every output, blocks in ascending order: `acc ← fma(d_w·d_x, f32(S_b), acc)` with the exact integer sum `S_b`,
//! or with a sum and a scale for each half `acc ← fma(fma(d_1, f32(S_1), d_0·f32(S_0)), d_x, acc)`, and for types with
//! a minimum `acc ← fma(m_w, d_x·Σq, acc)`, or that for either half: the arithmetic of `quipu_quant::dot`.
//!
//! Lanes are output rows. A block's eight lines of codes are held in registers while the rows of a [`Tile`] pass by,
//! and the offset of the codes (8 for Q4_0, 128 for Q8_0 where the CPU multiplies unsigned bytes) is taken back at no
//! cost by starting the integer sum at `−offset·Σq`.

use crate::gemm::{Codes, Gemm, offset, start};
use crate::operands::activations::{Acts, TILE_ROWS, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::{BlockScales, GroupScales};
use crate::simd::Simd;

use super::codes::Widened;

/// `acc` and the products of part `sub` of a block, whose codes are `lines`, with row `m` of `acts`.
#[inline(always)]
fn row<S: Gemm, F: Form>(
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
/// `sum` are integers or, where halves have scales, the integers of both halves times these.
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
fn part<S: Gemm, F: Form, const M: usize>(
    s: S,
    lines: [S::Line; 8],
    sub: usize,
    scales: BlockScales<'_>,
    acts: Acts<'_>,
    acc: &mut [S::V; TILE_ROWS],
) {
    const { assert!(M <= TILE_ROWS) };
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
    if M >= 3 {
        rows!(2);
    }
    if M >= 4 {
        rows!(3);
    }
    if M >= 5 {
        rows!(4);
    }
    if M >= 6 {
        rows!(5);
    }
    if M >= 7 {
        rows!(6);
    }
    if M >= 8 {
        rows!(7);
    }
}

/// Adds the products of a block, whose codes are in `codes`, with `acts`; its parts are spelled out like rows.
#[inline(always)]
pub(crate) fn block<S: Gemm, C: Codes, F: Form, const M: usize>(
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
pub(crate) fn store<S: Simd>(s: S, acc: &[[S::V; TILE_ROWS]; 4], rows: usize, out: &mut MatMut<'_>) {
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
pub(crate) fn group_tile<S: Gemm, F: Form>(
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
