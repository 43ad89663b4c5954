//! Attention over one segment of a KV cache in 8 or 4 bits.
//!
//! Elements of a head come in blocks of 32 with a scale each, position by position. Scores are products of quantised
//! weights with quantised activations, `matmul_quant`'s: keys are the weights and positions their rows. Values are
//! accumulated over positions in order: `acc ← fma(w·d, code, acc)`, where `w` is the position's weight and `d` the
//! scale of its block, and `w·d` one multiplication.

use std::marker::PhantomData;
use std::ops::Range;

use crate::call::{Call, Kernel};
use crate::operands::activations::Tile;
use crate::operands::matrix::Weights;
use crate::simd::{LINE, Simd};
use crate::tuning::Tuning;

use super::attention::{MOST_ROWS, SEGMENT, STATE_HEAD, merge_rows, passes, softmax, state_len};
use super::elementwise::soft_cap;
use super::matmul_quant::Scratch;

/// Elements of a head that share a scale.
const BLOCK: usize = 32;

/// One kv head's keys and values for [`SEGMENT`] positions, in 8 or 4 bits.
#[derive(Clone, Copy, Debug)]
pub struct QuantSegment<'a> {
    /// The keys: [`SEGMENT`] rows of as many columns as a head has elements, padded to a multiple of 32. Q8_0 or Q4_0.
    pub keys: Weights<'a>,
    /// Codes of the values, position by position: of 32 elements 32 signed bytes or, in 4 bits, 16 bytes, of which byte
    /// `i` has element `i` in its low half and `i + 16` in its high one, each plus 8.
    pub values: &'a [u8],
    /// Bits of a code of the values: 8 or 4.
    pub value_bits: usize,
    /// Their scales, binary16 as bits: block by block of 32 elements those of all positions.
    pub scales: &'a [u16],
    /// What will be read next, the keys of the head's next segment, or nothing: it is asked for in time.
    pub next: &'a [u8],
}

/// The rows of queries that look at a segment.
#[derive(Clone, Debug)]
pub struct QuantQueries<'a> {
    /// Rows × head_dim, padded to a multiple of 32, scaled already, in int8; the largest tiles first.
    pub tiles: &'a [Tile],
    /// The rows that look, of those that the tiles have together.
    pub rows: Range<usize>,
    /// The positions of the segment that each of them sees, at least one of 0..[`SEGMENT`].
    pub visible: &'a [Range<usize>],
    /// Elements of a head.
    pub head_dim: usize,
    /// See [`Queries::soft_cap`](super::attention::Queries::soft_cap).
    pub soft_cap: Option<f32>,
}

/// Memory for scores and weights, which a worker keeps between segments.
#[derive(Clone, Debug, Default)]
pub struct QuantScratch {
    pub(crate) product: Scratch,
    /// (row, position).
    pub(crate) scores: Vec<[f32; SEGMENT]>,
    /// (block, row, position).
    weights: Vec<[f32; SEGMENT]>,
    state: Vec<f32>,
}

/// How the values of a type are stored.
trait Codes {
    /// Bytes of a block.
    const BYTES: usize;

    /// Elements from `16 · half + lane` on of the block at the head of `block`; `HIGH` says whether `half` is 1.
    fn load<S: Simd, const HIGH: bool>(s: S, block: &[u8], lane: usize) -> S::V;
}

struct Eight;
impl Codes for Eight {
    const BYTES: usize = BLOCK;

    #[inline(always)]
    fn load<S: Simd, const HIGH: bool>(s: S, block: &[u8], lane: usize) -> S::V {
        s.load_i8(&block[16 * HIGH as usize + lane..])
    }
}

struct Four;
impl Codes for Four {
    const BYTES: usize = BLOCK / 2;

    #[inline(always)]
    fn load<S: Simd, const HIGH: bool>(s: S, block: &[u8], lane: usize) -> S::V {
        s.load_nibbles::<HIGH>(&block[lane..])
    }
}

/// (block, row, position): the weight of a position times the scale of the block there.
#[derive(Clone, Copy)]
struct RowWeights<'a> {
    of: &'a [[f32; SEGMENT]],
    /// Rows of a block.
    stride: usize,
}

/// What is asked for ahead while values are read.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    bytes: usize,
    then: &'a [u8],
}

/// `out_r += Σ_p weight_r,p · code_p` for half `HIGH` of a block, or all `HALVES` from there on, over `positions`,
/// ascending.
#[inline(always)]
fn values<S: Simd, C: Codes, const R: usize, const HALVES: usize, const HIGH: bool>(
    s: S,
    weights: RowWeights<'_>,
    codes: &[u8],
    (block, row_bytes): (usize, usize),
    positions: Range<usize>,
    ahead: Ahead<'_>,
    out: &mut [&mut [f32]; R],
) {
    // Half `half` of those in flight: its place in the row, its block among them.
    let first = HIGH as usize;
    let mut acc = [[[s.splat(0.0); 4]; HALVES]; R];
    for r in 0..R {
        for h in 0..HALVES {
            for sub in 0..S::SUBS {
                acc[r][h][sub] = s.load(&out[r][BLOCK * block + 16 * (first + h) + sub * S::LANES..]);
            }
        }
    }
    let blocks = const { HALVES.div_ceil(2) };
    // Of each block and row, looked up once. (Loops: see `four` of `simd`.)
    let mut own = [[&weights.of[0]; R]; 2];
    for b in 0..blocks {
        for r in 0..R {
            own[b][r] = &weights.of[(block + b) * weights.stride + r];
        }
    }
    let (from, to) = (positions.start, positions.end.min(SEGMENT));
    for (p, row) in codes.chunks_exact(row_bytes).enumerate().take(to).skip(from) {
        let at = p * row_bytes + block * C::BYTES;
        let row = &row[block * C::BYTES..][..blocks * C::BYTES];
        if !HIGH {
            let later = at + ahead.bytes;
            let (there, later) = if later < codes.len() { (codes, later) } else { (ahead.then, later - codes.len()) };
            for line in (0..blocks * C::BYTES).step_by(LINE) {
                s.prefetch(there, later + line);
            }
        }
        for h in 0..HALVES {
            let in_block = (first + h) / 2;
            let mut weight = [s.splat(0.0); R];
            for r in 0..R {
                weight[r] = s.splat(own[in_block][r][p]);
            }
            let codes = &row[in_block * C::BYTES..][..C::BYTES];
            for sub in 0..S::SUBS {
                let v = if (first + h).is_multiple_of(2) {
                    C::load::<S, false>(s, codes, sub * S::LANES)
                } else {
                    C::load::<S, true>(s, codes, sub * S::LANES)
                };
                for r in 0..R {
                    acc[r][h][sub] = s.fma(weight[r], v, acc[r][h][sub]);
                }
            }
        }
    }
    for r in 0..R {
        for h in 0..HALVES {
            for sub in 0..S::SUBS {
                s.store(acc[r][h][sub], &mut out[r][BLOCK * block + 16 * (first + h) + sub * S::LANES..]);
            }
        }
    }
}

/// The same for all elements of a head.
#[inline(always)]
fn values_any<S: Simd, C: Codes, const R: usize>(
    s: S,
    weights: RowWeights<'_>,
    codes: &[u8],
    head_dim: usize,
    positions: Range<usize>,
    ahead: Ahead<'_>,
    out: &mut [&mut [f32]; R],
) {
    let halves = head_dim.div_ceil(16);
    let row_bytes = head_dim.div_ceil(BLOCK) * C::BYTES;
    let mut half = 0;
    while half < halves {
        let at = (half / 2, row_bytes);
        let left = halves - half;
        half += if S::SUBS == 1 && R < MOST_ROWS && left >= 4 {
            values::<S, C, R, 4, false>(s, weights, codes, at, positions.clone(), ahead, out);
            4
        } else if S::SUBS == 1 && left >= 2 {
            values::<S, C, R, 2, false>(s, weights, codes, at, positions.clone(), ahead, out);
            2
        } else {
            values::<S, C, R, 1, false>(s, weights, codes, at, positions.clone(), ahead, out);
            if left > 1 {
                values::<S, C, R, 1, true>(s, weights, codes, at, positions.clone(), ahead, out);
            }
            2
        };
    }
}

/// Turns the scores of `R` rows into weights, and sums up the values by them, into fresh rows of state.
struct Weigh<'a, 'o, C, const R: usize> {
    visible: &'a [Range<usize>],
    head_dim: usize,
    cap: Option<f32>,
    codes: &'a [u8],
    scales: &'a [u16],
    ahead: Ahead<'a>,
    scores: &'o mut [[f32; SEGMENT]],
    weights: &'o mut [[f32; SEGMENT]],
    state: &'o mut [f32],
    ty: PhantomData<C>,
}

impl<S: Simd, C: Codes, const R: usize> Kernel<S> for Weigh<'_, '_, C, R> {
    #[inline(always)]
    fn run(self, s: S) {
        let Weigh { visible, head_dim, cap, codes, scales, ahead, scores, weights, state, .. } = self;
        let (starts, ends) = (|| visible.iter().map(|v| v.start), || visible.iter().map(|v| v.end));
        // What any row sees, and what all of them see.
        let any = starts().min().unwrap_or(0)..ends().max().unwrap_or(0);
        let start = starts().max().unwrap_or(0);
        let all = start..ends().min().unwrap_or(0).max(start);
        let out: [&mut [f32]; R] = {
            let mut it = state.chunks_exact_mut(state_len(head_dim));
            std::array::from_fn(|_| it.next().expect("a row of state per query"))
        };
        for r in 0..R {
            if let Some(cap) = cap {
                soft_cap(s, &mut scores[r][visible[r].start / 16 * 16..visible[r].end.next_multiple_of(16)], cap);
            }
            let (max, sum) = softmax(s, &mut scores[r], &visible[r]);
            out[r][0] = max;
            out[r][1] = sum;
            out[r][STATE_HEAD..].fill(0.0);
        }
        for (scales, weights) in scales.chunks_exact(SEGMENT).zip(weights.chunks_exact_mut(R)) {
            for at in (any.start / 16 * 16..any.end).step_by(S::LANES) {
                let d = s.load_f16(&scales[at..]);
                for r in 0..R {
                    s.store(s.mul(s.load(&scores[r][at..]), d), &mut weights[r][at..]);
                }
            }
        }
        let mut out = out.map(|row| &mut row[STATE_HEAD..]);
        let together = RowWeights { of: weights, stride: R };
        // In ascending order: what is seen by some rows only, by all, and again by some only.
        let alone = |positions: Range<usize>, out: &mut [&mut [f32]; R]| {
            for r in 0..R {
                let mine = visible[r].start.max(positions.start)..visible[r].end.min(positions.end);
                if !mine.is_empty() {
                    let ahead = Ahead { bytes: 0, then: codes };
                    let own = RowWeights { of: &weights[r..], stride: R };
                    values_any::<S, C, 1>(s, own, codes, head_dim, mine, ahead, &mut [&mut *out[r]]);
                }
            }
        };
        alone(0..all.start, &mut out);
        values_any::<S, C, R>(s, together, codes, head_dim, all.clone(), ahead, &mut out);
        alone(all.end..SEGMENT, &mut out);
    }
}

/// Attends to one segment; the scores are in `scratch` already. `state` (rows × [`state_len`]) is written when `first`,
/// else the segment is merged into it.
#[inline(always)]
pub(crate) fn weigh<S: Call>(
    s: S,
    tuning: &Tuning,
    queries: QuantQueries<'_>,
    segment: QuantSegment<'_>,
    first: bool,
    scratch: &mut QuantScratch,
    state: &mut [f32],
) {
    match segment.value_bits {
        8 => weigh_codes::<S, Eight>(s, tuning, queries, segment, first, scratch, state),
        _ => weigh_codes::<S, Four>(s, tuning, queries, segment, first, scratch, state),
    }
}

#[inline(always)]
fn weigh_codes<S: Call, C: Codes>(
    s: S,
    tuning: &Tuning,
    queries: QuantQueries<'_>,
    segment: QuantSegment<'_>,
    first: bool,
    scratch: &mut QuantScratch,
    state: &mut [f32],
) {
    let QuantScratch { scores, weights, state: later, .. } = scratch;
    let QuantQueries { visible, head_dim, soft_cap, rows, .. } = queries;
    let (len, scores) = (state_len(head_dim), &mut scores[rows]);
    let fresh: &mut [f32] = if first {
        state
    } else {
        later.resize(state.len(), 0.0);
        later
    };
    let blocks = head_dim.div_ceil(BLOCK);
    if weights.len() < blocks * MOST_ROWS {
        weights.resize(blocks * MOST_ROWS, [0.0; SEGMENT]);
    }
    let then = if segment.next.is_empty() { segment.values } else { segment.next };
    for rows in passes::<S>(visible.len()) {
        // Those after the first find everything in a cache.
        let ahead = if rows.start == 0 { ahead(tuning, &segment) as usize } else { 0 };
        macro_rules! rows {
            ($rows:expr) => {
                s.attend(Weigh::<C, { $rows }> {
                    visible: &visible[rows.clone()],
                    head_dim,
                    cap: soft_cap,
                    codes: segment.values,
                    scales: segment.scales,
                    ahead: Ahead { bytes: ahead, then },
                    scores: &mut scores[rows.clone()],
                    weights: &mut weights[..blocks * rows.len()],
                    state: &mut fresh[rows.start * len..rows.end * len],
                    ty: PhantomData,
                })
            };
        }
        match rows.len() {
            MOST_ROWS => rows!(MOST_ROWS),
            4 => rows!(4),
            3 => rows!(3),
            2 => rows!(2),
            _ => rows!(1),
        }
    }
    if !first {
        merge_rows(s, len, state, later);
    }
}

/// How far ahead a segment is asked for, in bytes: no further than the codes of its keys or its values, so that what
/// keys ask for are the values, and what values ask for the next keys.
pub(crate) fn ahead(tuning: &Tuning, segment: &QuantSegment<'_>) -> u32 {
    tuning.kv_ahead.min(segment.values.len().min(segment.keys.bytes()) as u32)
}
