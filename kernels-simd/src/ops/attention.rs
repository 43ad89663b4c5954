//! Attention over one segment of the KV cache, and the merging of segments.
//!
//! A segment is [`SEGMENT`] positions, counted from position 0. Each has a maximum, a sum and weighted values of its
//! own (online softmax: Milakov & Gimelshein 2018), and they merge in ascending order. So neither how the work is
//! divided nor how a prompt is cut into chunks changes a bit.

use std::ops::Range;

use crate::call::{Call, Kernel};
use crate::simd::{LINE, Simd, fold};
use crate::tuning::Tuning;

use super::elementwise::soft_cap;
use super::exp::exp;

/// Positions of a segment.
pub const SEGMENT: usize = 128;

/// f32 before the values in the state of a query: maximum, sum, padding.
pub(crate) const STATE_HEAD: usize = 16;

/// A number type of the KV cache.
pub(crate) trait Element: Copy {
    fn load<S: Simd>(s: S, x: &[Self]) -> S::V;
}
impl Element for f32 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[f32]) -> S::V {
        s.load(x)
    }
}
/// IEEE binary16 as bits.
impl Element for u16 {
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[u16]) -> S::V {
        s.load_f16(x)
    }
}

/// The most rows of queries that pass over the keys and values together.
pub(super) const MOST_ROWS: usize = 8;

/// One kv head's keys and values for [`SEGMENT`] positions: keys as (position / 16, head_dim, position % 16), values as
/// (position, head_dim padded to a multiple of 16).
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a, E> {
    /// `SEGMENT · head_dim` keys.
    pub keys: &'a [E],
    /// `SEGMENT · padded head_dim` values.
    pub values: &'a [E],
    /// What will be read next, the keys of the head's next segment, or nothing: it is asked for in time.
    pub next: &'a [E],
}

/// The rows of queries that look at a segment.
#[derive(Clone, Copy, Debug)]
pub struct Queries<'a> {
    /// Rows × head_dim, scaled already: as a rule by 1/√head_dim.
    pub q: &'a [f32],
    /// The positions of the segment that each row sees, at least one of 0..[`SEGMENT`].
    pub visible: &'a [Range<usize>],
    /// Elements of a head.
    pub head_dim: usize,
    /// A score `x` becomes `cap · tanh(x / cap)` (Bello et al. 2017; Gemma 2).
    pub soft_cap: Option<f32>,
}

/// Memory for scores and for the state of one segment, which a worker keeps between segments.
#[derive(Clone, Debug, Default)]
pub struct AttentionScratch {
    scores: Vec<[f32; SEGMENT]>,
    state: Vec<f32>,
}

impl AttentionScratch {
    /// With room for `rows` rows of queries; it grows for more.
    pub fn new(rows: usize, head_dim: usize) -> AttentionScratch {
        AttentionScratch {
            scores: Vec::with_capacity(MOST_ROWS),
            state: Vec::with_capacity(rows * state_len(head_dim)),
        }
    }
}

/// f32 of the state of one query: the largest score, the sum of weights, padding to 16; then `head_dim` weighted
/// values, padded to a multiple of 16.
pub fn state_len(head_dim: usize) -> usize {
    STATE_HEAD + head_dim.next_multiple_of(16)
}

/// Scores of `R` rows for `positions` and what else is in their lines: `Σ_d q_d·k_d`, `d` ascending, positions side by
/// side: two registers of them, which share the queries, or, where sixteen positions are one register and rows are
/// many, that one.
#[inline(always)]
fn scores<S: Simd, E: Element, const R: usize>(
    s: S,
    q: [&[f32]; R],
    segment: Segment<'_, E>,
    positions: Range<usize>,
    ahead: usize,
    out: &mut [[f32; SEGMENT]],
) {
    let head_dim = q[0].len();
    // Where one register holds sixteen positions, two lines of sixteen; but sums of many rows are enough already.
    let lines = const { if S::SUBS == 1 && R < MOST_ROWS { 2 } else { 1 } };
    let vectors = const { if S::SUBS > 1 { 2 } else { 1 } };
    let group = 16 * head_dim;
    let groups = positions.start / (16 * lines)..positions.end.div_ceil(16 * lines);
    for (g, keys) in segment.keys.chunks_exact(lines * group).enumerate().take(groups.end).skip(groups.start) {
        for at in (0..16).step_by(vectors * S::LANES) {
            let mut acc = [[s.splat(0.0); 2]; R];
            for d in 0..head_dim {
                // Spaced out evenly, and in the order of memory, in which values come after keys.
                s.prefetch(keys, 16 * lines * d * size_of::<E>() + ahead);
                let mut k = [s.splat(0.0); 2];
                for v in 0..vectors {
                    k[v] = E::load(s, &keys[16 * d + at + v * S::LANES..]);
                }
                if lines == 2 {
                    k[1] = E::load(s, &keys[group + 16 * d..]);
                }
                for r in 0..R {
                    let q = s.splat(q[r][d]);
                    for v in 0..lines * vectors {
                        acc[r][v] = s.fma(q, k[v], acc[r][v]);
                    }
                }
            }
            for r in 0..R {
                for v in 0..vectors {
                    s.store(acc[r][v], &mut out[r][16 * lines * g + at + v * S::LANES..]);
                }
                if lines == 2 {
                    s.store(acc[r][1], &mut out[r][32 * g + 16..]);
                }
            }
        }
    }
}

/// Turns the scores of one row's `visible` positions into weights; returns (maximum, sum).
#[inline(always)]
pub(super) fn softmax<S: Simd>(s: S, scores: &mut [f32; SEGMENT], visible: &Range<usize>) -> (f32, f32) {
    let lines = visible.start / 16 * 16..visible.end.next_multiple_of(16);
    scores[lines.start..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..lines.end].fill(f32::NEG_INFINITY);
    let mut max = [s.splat(f32::NEG_INFINITY); 4];
    for x in scores[lines.clone()].as_chunks::<16>().0 {
        for sub in 0..S::SUBS {
            max[sub] = s.max(max[sub], s.load(&x[sub * S::LANES..]));
        }
    }
    let mut lanes = [0.0; 16];
    for sub in 0..S::SUBS {
        s.store(max[sub], &mut lanes[sub * S::LANES..]);
    }
    let max = fold(&mut lanes, f32::max);
    let mut sums = [s.splat(0.0); 4];
    for x in scores[lines].as_chunks_mut::<16>().0 {
        for sub in 0..S::SUBS {
            let at = sub * S::LANES;
            let p = exp(s, s.sub(s.load(&x[at..]), s.splat(max)));
            s.store(p, &mut x[at..]);
            sums[sub] = s.add(sums[sub], p);
        }
    }
    for sub in 0..S::SUBS {
        s.store(sums[sub], &mut lanes[sub * S::LANES..]);
    }
    (max, fold(&mut lanes, |a, b| a + b))
}

/// `out_r += Σ_p weight_r,p · value_p` over `positions`, ascending; `16 · SIXTEENS` dimensions at once.
#[inline(always)]
fn values<S: Simd, E: Element, const R: usize, const SIXTEENS: usize>(
    s: S,
    weights: [&[f32; SEGMENT]; R],
    segment: Segment<'_, E>,
    width: usize,
    positions: Range<usize>,
    ahead: usize,
    out: &mut [&mut [f32]; R],
) {
    let (values, line) = (segment.values, const { LINE / size_of::<E>() });
    let all = size_of_val(values);
    // What is there already, if nothing comes after.
    let then = if segment.next.is_empty() { values } else { segment.next };
    // A group of 16 dimensions is SUBS native vectors; SIXTEENS · SUBS of them are in flight.
    for dim in (0..width).step_by(16 * SIXTEENS) {
        let mut acc = [[[s.splat(0.0); 4]; SIXTEENS]; R];
        for r in 0..R {
            for c in 0..SIXTEENS {
                for sub in 0..S::SUBS {
                    acc[r][c][sub] = s.load(&out[r][dim + 16 * c + sub * S::LANES..]);
                }
            }
        }
        for p in positions.clone() {
            let row = &values[p * width + dim..][..16 * SIXTEENS];
            let later = (p * width + dim) * size_of::<E>() + ahead;
            let (there, later) = if later < all { (values, later) } else { (then, later - all) };
            for c in (0..16 * SIXTEENS).step_by(line) {
                s.prefetch(there, later + c * size_of::<E>());
            }
            let mut weight = [s.splat(0.0); R];
            for r in 0..R {
                weight[r] = s.splat(weights[r][p]);
            }
            for c in 0..SIXTEENS {
                for sub in 0..S::SUBS {
                    let v = E::load(s, &row[16 * c + sub * S::LANES..]);
                    for r in 0..R {
                        acc[r][c][sub] = s.fma(weight[r], v, acc[r][c][sub]);
                    }
                }
            }
        }
        for r in 0..R {
            for c in 0..SIXTEENS {
                for sub in 0..S::SUBS {
                    s.store(acc[r][c][sub], &mut out[r][dim + 16 * c + sub * S::LANES..]);
                }
            }
        }
    }
}

#[inline(always)]
fn values_any<S: Simd, E: Element, const R: usize>(
    s: S,
    weights: [&[f32; SEGMENT]; R],
    segment: Segment<'_, E>,
    width: usize,
    positions: Range<usize>,
    ahead: usize,
    out: &mut [&mut [f32]; R],
) {
    if S::SUBS == 1 && R == MOST_ROWS && width.is_multiple_of(32) {
        values::<S, E, R, 2>(s, weights, segment, width, positions, ahead, out);
    } else if S::SUBS == 1 && R < MOST_ROWS && width.is_multiple_of(64) {
        values::<S, E, R, 4>(s, weights, segment, width, positions, ahead, out);
    } else {
        values::<S, E, R, 1>(s, weights, segment, width, positions, ahead, out);
    }
}

/// [`values`], row by row, over those of `positions` that each row sees.
#[inline(always)]
fn values_alone<S: Simd, E: Element, const R: usize>(
    s: S,
    weights: [&[f32; SEGMENT]; R],
    segment: Segment<'_, E>,
    width: usize,
    visible: &[Range<usize>],
    positions: Range<usize>,
    out: &mut [&mut [f32]; R],
) {
    for r in 0..R {
        let mine = visible[r].start.max(positions.start)..visible[r].end.min(positions.end);
        if !mine.is_empty() {
            values_any::<S, E, 1>(s, [weights[r]], segment, width, mine, 0, &mut [&mut *out[r]]);
        }
    }
}

/// `R` rows against one segment, into fresh rows of state.
struct Attend<'a, 'o, E, const R: usize> {
    queries: Queries<'a>,
    segment: Segment<'a, E>,
    /// See [`Tuning::kv_ahead`].
    ahead: usize,
    scratch: &'o mut [[f32; SEGMENT]],
    state: &'o mut [f32],
}

impl<S: Simd, E: Element, const R: usize> Kernel<S> for Attend<'_, '_, E, R> {
    #[inline(always)]
    fn run(self, s: S) {
        let Attend { queries, segment, ahead, scratch, state } = self;
        let head_dim = queries.head_dim;
        let width = head_dim.next_multiple_of(16);
        let (scratch, _) = scratch.as_chunks_mut::<R>();
        let scratch = &mut scratch[0];
        let starts = || queries.visible.iter().map(|visible| visible.start);
        let ends = || queries.visible.iter().map(|visible| visible.end);
        // What any row sees, and what all of them see.
        let any = starts().min().unwrap_or(0)..ends().max().unwrap_or(0);
        let all = starts().max().unwrap_or(0)..ends().min().unwrap_or(0);
        let q: [&[f32]; R] = std::array::from_fn(|r| &queries.q[r * head_dim..][..head_dim]);
        scores::<S, E, R>(s, q, segment, any, ahead, scratch);
        let out: [&mut [f32]; R] = {
            let mut it = state.chunks_exact_mut(state_len(head_dim));
            std::array::from_fn(|_| it.next().expect("a row of state per query"))
        };
        for r in 0..R {
            let (scores, visible) = (&mut scratch[r], &queries.visible[r]);
            if let Some(cap) = queries.soft_cap {
                soft_cap(s, &mut scores[visible.start / 16 * 16..visible.end.next_multiple_of(16)], cap);
            }
            let (max, sum) = softmax(s, scores, visible);
            out[r][0] = max;
            out[r][1] = sum;
            out[r][STATE_HEAD..].fill(0.0);
        }
        let weights: [&[f32; SEGMENT]; R] = std::array::from_fn(|r| &scratch[r]);
        let mut out = out.map(|row| &mut row[STATE_HEAD..]);
        // In ascending order: what is seen by some rows only, by all, and again by some only.
        let (all, seen) = (all.start..all.end.max(all.start), queries.visible);
        values_alone(s, weights, segment, width, seen, 0..all.start, &mut out);
        values_any::<S, E, R>(s, weights, segment, width, all.clone(), ahead, &mut out);
        values_alone(s, weights, segment, width, seen, all.end..SEGMENT, &mut out);
    }
}

/// Attends to one segment. `state` (rows × [`state_len`]) is written when `first`, else the segment is merged into it.
#[inline(always)]
pub(crate) fn attend<S: Call, E: Element>(
    s: S,
    tuning: &Tuning,
    queries: Queries<'_>,
    segment: Segment<'_, E>,
    first: bool,
    scratch: &mut AttentionScratch,
    state: &mut [f32],
) {
    let AttentionScratch { scores, state: later } = scratch;
    let (head_dim, len) = (queries.head_dim, state_len(queries.head_dim));
    let fresh: &mut [f32] = if first {
        state
    } else {
        later.resize(state.len(), 0.0);
        later
    };
    scores.resize(MOST_ROWS, [0.0; SEGMENT]);
    for rows in passes::<S>(queries.visible.len()) {
        let queries = Queries {
            q: &queries.q[rows.start * head_dim..rows.end * head_dim],
            visible: &queries.visible[rows.clone()],
            ..queries
        };
        let state = &mut fresh[rows.start * len..rows.end * len];
        // Those after the first find everything in a cache.
        let ahead = if rows.start == 0 { tuning.kv_ahead as usize } else { 0 };
        macro_rules! rows {
            ($rows:expr) => {
                s.attend(Attend::<E, { $rows }> { queries, segment, ahead, scratch: scores, state })
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

/// So many rows of queries, cut into those that pass over a segment together.
#[inline(always)]
pub(super) fn passes<S: Simd>(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let count = match rows - done {
            0 => return None,
            _ if !S::UNROLL => 1,
            // Their sums are 16 registers at a time where one has sixteen lanes; with narrower ones they would be 32 or
            // more.
            MOST_ROWS.. if S::SUBS == 1 => MOST_ROWS,
            left => left.min(4),
        };
        done += count;
        Some(done - count..done)
    })
}

/// [`merge`], row by row of `len` elements.
#[inline(always)]
pub(super) fn merge_rows<S: Simd>(s: S, len: usize, into: &mut [f32], from: &[f32]) {
    for (into, from) in into.chunks_exact_mut(len).zip(from.chunks_exact(len)) {
        merge(s, into, from);
    }
}

/// Merges the state of a later segment, one row, into that of the earlier ones.
#[inline(always)]
pub(crate) fn merge<S: Simd>(s: S, into: &mut [f32], from: &[f32]) {
    let max = if into[0] > from[0] { into[0] } else { from[0] };
    let a = exp(s, s.splat(into[0] - max));
    let b = exp(s, s.splat(from[0] - max));
    let mut sum = [0.0; 16];
    s.store(s.fma(s.splat(from[1]), b, s.mul(s.splat(into[1]), a)), &mut sum);
    into[0] = max;
    into[1] = sum[0];
    let (_, into) = into.split_at_mut(STATE_HEAD);
    for (into, from) in into.chunks_exact_mut(S::LANES).zip(from[STATE_HEAD..].chunks_exact(S::LANES)) {
        s.store(s.fma(s.load(from), b, s.mul(s.load(into), a)), into);
    }
}

/// The attention output of one row of state: values divided by the sum. `out` has head_dim elements.
#[inline(always)]
pub(crate) fn finish(state: &[f32], out: &mut [f32]) {
    for (out, v) in out.iter_mut().zip(&state[STATE_HEAD..]) {
        *out = v / state[1];
    }
}
