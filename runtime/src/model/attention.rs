//! Causal attention of one layer, shared out over the workers: by runs of tokens and kv heads, or, where these are too
//! few to keep all workers busy, by segments as well.
//!
//! The kernels define attention by segments that merge in ascending order. So a segment's part is the same whoever
//! makes it; what is shared out is kept apart until all parts are there, and merged in that order.

use std::ops::Range;

use quipu_formats::families::LayerPlan;
use quipu_kernels::{AttentionScratch, Kernels, MatMut, QuantQueries, QuantScratch, Queries, Tile, state_len};

use super::batch::BatchToken;
use super::local::{Local, room};
use super::team::{Team, quantize_rows};
use crate::config::Config;
use crate::kv::{AnySegment, PAGE, Sequence};

/// The fewest segments of a run that are shared out: fewer take less time than one more step of the workers.
const WORTH_SHARING: usize = 4;

/// The most numbers that are made of single segments: of a piece of a prompt after a long text they would take more
/// memory than anybody has counted on.
const MOST_NUMBERS: usize = 4 << 20;

/// Parts for each worker, so that none waits long for the others.
const PARTS: usize = 4;

/// What its tasks look at.
pub(super) struct Attention<'a, 's> {
    pub(super) kernels: &'a Kernels,
    pub(super) config: &'a Config,
    pub(super) layer: usize,
    pub(super) plan: LayerPlan,
    pub(super) batch: &'a [BatchToken],
    pub(super) sequences: &'a [&'s mut Sequence],
    /// Of each token.
    pub(super) positions: &'a [usize],
    /// (token, q | k | v), `stride` apart; the queries are scaled.
    pub(super) qkv: &'a [f32],
    pub(super) stride: usize,
}

/// What was made of single segments. They keep their memory from pass to pass: for one layer, a hundredth or so of its
/// keys and values.
#[derive(Default)]
pub(super) struct Segments {
    /// The run and the page of each row of states.
    places: Vec<(usize, usize)>,
    /// The first row of each run's.
    first: Vec<usize>,
    /// Where the parts begin that are shared out, and the end.
    bounds: Vec<usize>,
    /// (run and page; kv head, token of the run, head of the group).
    states: Vec<f32>,
}

/// The queries of one run and kv head, made ready.
struct Prepared<'a> {
    rows: Range<usize>,
    kv_head: usize,
    q: &'a [f32],
    /// The same in int8, where keys are.
    tiles: &'a [Tile],
    /// Elements of a query in `q`.
    width: usize,
}

impl Attention<'_, '_> {
    /// `out`: (token, head, element).
    pub(super) fn run(&self, team: &mut Team<'_>, runs: &[usize], segments: &mut Segments, out: &mut MatMut<'_>) {
        let (threads, tasks) = (team.pool.threads(), (runs.len() - 1) * self.config.kv_heads);
        // Whole heads keep this share of the workers busy.
        let busy = tasks as f64 / tasks.next_multiple_of(threads) as f64;
        let pages = || runs.windows(2).map(|run| self.pages(&(run[0]..run[1])).len());
        let numbers = || pages().sum::<usize>() * self.config.kv_heads * self.width(runs);
        if busy < 0.85 && pages().max() >= Some(WORTH_SHARING) && numbers() <= MOST_NUMBERS {
            self.by_segments(team, runs, segments, out);
        } else {
            self.by_heads(team, runs, out);
        }
    }

    /// Elements of a head, and query heads that share a kv head.
    fn shape(&self) -> (usize, usize) {
        (self.config.head_dim, self.config.heads / self.config.kv_heads)
    }

    /// Numbers of the longest run's states for a kv head.
    fn width(&self, runs: &[usize]) -> usize {
        let (dim, group) = self.shape();
        let longest = runs.windows(2).map(|run| run[1] - run[0]).max().unwrap_or(0);
        longest * group * state_len(dim)
    }

    /// One task per run of tokens and kv head, which reads each key and value once for all query heads that share it.
    fn by_heads(&self, team: &mut Team<'_>, runs: &[usize], out: &mut MatMut<'_>) {
        let kernels = self.kernels;
        let ((dim, group), len) = (self.shape(), state_len(self.config.head_dim));
        team.pool.for_tiles(team.locals, out, runs, group * dim, |local, rows: Range<usize>, cols, tile| {
            let Local { queries, buffer, state, attention, quant_attention, visible, .. } = local;
            let prepared = self.prepare(rows.clone(), cols.start / (group * dim), buffer, queries);
            let state = room(state, rows.len() * group * len);
            let mut scratch = Scratch { attention, quant_attention, visible };
            for page in self.pages(&rows) {
                let Seeing { too_early, went_on, seeing } = self.seeing(&rows, page);
                for (part, first) in [(too_early..went_on, false), (went_on..seeing, true)] {
                    let state = &mut state[part.start * group * len..part.end * group * len];
                    self.attend(&prepared, page, part, first, &mut scratch, state);
                }
            }
            let turned = self.sequence(rows.start).is_turned();
            for (r, states) in state.chunks_exact(len * group).enumerate() {
                let row = tile.row(r);
                for (state, out) in states.chunks_exact(len).zip(row.chunks_exact_mut(dim)) {
                    kernels.finish(state, out);
                }
                if turned {
                    kernels.hadamard(row, dim);
                }
            }
        });
    }

    /// One task per kv head and some segments of a run; then one per query head, which merges them.
    fn by_segments(&self, team: &mut Team<'_>, runs: &[usize], segments: &mut Segments, out: &mut MatMut<'_>) {
        let kernels = self.kernels;
        let ((dim, group), len) = (self.shape(), state_len(self.config.head_dim));
        let (heads, tasks) = (self.config.kv_heads, (runs.len() - 1) * self.config.kv_heads);
        let parts = (PARTS * team.pool.threads()).div_ceil(tasks);
        let Segments { places, first, bounds, states } = segments;
        places.clear();
        first.clear();
        bounds.clear();
        for (run, ends) in runs.windows(2).enumerate() {
            let pages = self.pages(&(ends[0]..ends[1]));
            first.push(places.len());
            bounds.extend((0..pages.len()).step_by(pages.len().div_ceil(parts)).map(|page| places.len() + page));
            places.extend(pages.map(|page| (run, page)));
        }
        bounds.push(places.len());
        let width = self.width(runs);
        let states = room(states, places.len() * heads * width);
        let mut all = MatMut::new(states, places.len(), heads * width, heads * width);
        team.pool.for_tiles(team.locals, &mut all, bounds, width, |local, part: Range<usize>, cols, tile| {
            let Local { queries, buffer, attention, quant_attention, visible, .. } = local;
            let rows = runs[places[part.start].0]..runs[places[part.start].0 + 1];
            let prepared = self.prepare(rows.clone(), cols.start / width, buffer, queries);
            let mut scratch = Scratch { attention, quant_attention, visible };
            for (r, &(_, page)) in places[part].iter().enumerate() {
                let Seeing { too_early, seeing, .. } = self.seeing(&rows, page);
                let state = &mut tile.row(r)[too_early * group * len..seeing * group * len];
                self.attend(&prepared, page, too_early..seeing, true, &mut scratch, state);
            }
        });
        let states = &*states;
        team.pool.for_tiles(team.locals, out, runs, dim, |local, rows: Range<usize>, cols, tile| {
            let (head, state) = (cols.start / dim, room(&mut local.state, len));
            let run = runs.partition_point(|&start| start <= rows.start) - 1;
            let begun = self.pages(&rows).start;
            for t in rows.clone() {
                let at = |page| {
                    let row = (first[run] + page - begun) * heads + head / group;
                    &states[row * width + ((t - rows.start) * group + head % group) * len..][..len]
                };
                let pages = self.pages(&(t..t + 1));
                state.copy_from_slice(at(pages.start));
                pages.skip(1).for_each(|page| kernels.merge(state, at(page)));
                let out = tile.row(t - rows.start);
                kernels.finish(state, out);
                if self.sequence(t).is_turned() {
                    kernels.hadamard(out, dim);
                }
            }
        });
    }

    /// The queries of tokens `rows` for a kv head, side by side.
    fn prepare<'a>(
        &self,
        rows: Range<usize>,
        kv_head: usize,
        buffer: &'a mut Vec<f32>,
        tiles: &'a mut Vec<Tile>,
    ) -> Prepared<'a> {
        let ((dim, group), turned) = (self.shape(), self.sequence(rows.start).is_turned());
        // In int8, queries come in blocks.
        let width = if turned { dim.next_multiple_of(32) } else { dim };
        let q = room(buffer, rows.len() * group * width);
        for (q, t) in q.chunks_exact_mut(group * width).zip(rows.clone()) {
            let heads = self.qkv[t * self.stride + kv_head * group * dim..][..group * dim].chunks_exact(dim);
            for (to, head) in q.chunks_exact_mut(width).zip(heads) {
                to[..dim].copy_from_slice(head);
                to[dim..].fill(0.0);
            }
        }
        let tiles = if turned { quantize_rows(self.kernels, q, rows.len() * group, width, tiles) } else { &[] };
        Prepared { rows, kv_head, q, tiles, width }
    }

    /// Tokens `part` of those prepared attend to a page that they see: into `state`, which is theirs.
    fn attend(
        &self,
        prepared: &Prepared<'_>,
        page: usize,
        part: Range<usize>,
        first: bool,
        scratch: &mut Scratch<'_>,
        state: &mut [f32],
    ) {
        if part.is_empty() {
            return;
        }
        let Prepared { rows, kv_head, q, tiles, width } = prepared;
        let Scratch { attention, quant_attention, visible } = scratch;
        let ((dim, group), soft_cap) = (self.shape(), self.config.plan.attention_cap);
        let (start, end) = (page * PAGE, (page + 1) * PAGE);
        visible.clear();
        for t in part.clone().map(|r| rows.start + r) {
            let seen = self.first(t).max(start) - start..(self.positions[t] + 1).min(end) - start;
            visible.extend(std::iter::repeat_n(seen, group));
        }
        let part = part.start * group..part.end * group;
        // Of what is not quantised, where `width` is `dim`.
        let q = &q[part.start * width..part.end * width];
        let queries = Queries { q, visible, head_dim: dim, soft_cap };
        match self.sequence(rows.start).segment(self.layer, *kv_head, page) {
            AnySegment::F16(s) => self.kernels.attend_f16(queries, s, first, attention, state),
            AnySegment::F32(s) => self.kernels.attend_f32(queries, s, first, attention, state),
            AnySegment::Quantised(s, _) => {
                let queries = QuantQueries { tiles, rows: part, visible, head_dim: dim, soft_cap };
                self.kernels.attend_quant(queries, s, first, quant_attention, state);
            }
        }
    }

    fn sequence(&self, t: usize) -> &Sequence {
        &*self.sequences[self.batch[t].sequence]
    }

    /// The pages that any of the tokens `rows` of a run sees.
    fn pages(&self, rows: &Range<usize>) -> Range<usize> {
        self.first(rows.start) / PAGE..self.positions[rows.end - 1] / PAGE + 1
    }

    /// Which of the tokens `rows` of a run see a page. Runs have rising positions. So these are neighbours, and those
    /// for which it is the first one are the last of them.
    fn seeing(&self, rows: &Range<usize>, page: usize) -> Seeing {
        let (start, end) = (page * PAGE, (page + 1) * PAGE);
        let count = |is: &dyn Fn(usize) -> bool| rows.clone().take_while(|&t| is(t)).count();
        Seeing {
            too_early: count(&|t| self.positions[t] < start),
            went_on: count(&|t| self.first(t) < start),
            seeing: count(&|t| self.first(t) < end),
        }
    }

    /// The first position that token `t` sees.
    fn first(&self, t: usize) -> usize {
        let position = self.positions[t];
        match self.plan.window {
            None => 0,
            Some(chunk) if self.plan.chunked => position / chunk * chunk,
            Some(window) => (position + 1).saturating_sub(window),
        }
    }
}

/// Numbers of tokens of a run: those whose positions end before a page, those that have begun before it, those that
/// have begun before its end.
struct Seeing {
    too_early: usize,
    went_on: usize,
    seeing: usize,
}

/// A worker's memory for attending.
struct Scratch<'a> {
    attention: &'a mut AttentionScratch,
    quant_attention: &'a mut QuantScratch,
    visible: &'a mut Vec<Range<usize>>,
}
