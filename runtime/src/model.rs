//! The forward pass.
//!
//! It reads from top to bottom like the paper (Touvron et al. 2023, Llama; Ainslie et al. 2023, GQA). A batch is a list
//! of (token, position, sequence): a prompt, a decode step, the check of a draft and a server's mixed batch are the
//! same call.
//!
//! Everything is computed per token and per output in an order that does not depend on the batch, its chunks or the
//! threads, so neither do the bits of the result.

use std::ops::Range;

pub use quipu_formats::families::names::Input;
use quipu_kernels::{AttentionScratch, Kernels, MatMut, Queries, Scratch, Tile, padded_rows, state_len};

use crate::config::Config;
use crate::kv::{AnySegment, PAGE, Sequence};
use crate::pool::Pool;
use crate::product::ProductInput;
use crate::rope::Rope;
use crate::weights::{Layer, Linear, ModelWeights};

/// One token of a batch. Tokens of one sequence stand in order, each at the next position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchToken {
    /// The token's id.
    pub token: u32,
    /// Which of the sequences handed to the forward pass it belongs to.
    pub sequence: usize,
    /// Whether the logits after it are wanted.
    pub logits: bool,
}

/// Rows of activations, one for each token.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The numbers.
    pub x: &'a [f32],
    /// How many rows.
    pub count: usize,
    /// The length of a row.
    pub cols: usize,
    /// From one row's start to the next one's.
    pub stride: usize,
}

/// Who wants to see the inputs of all matrices.
pub type Observer<'a> = dyn FnMut(Input, Rows<'_>) + 'a;

/// Who wants to see the logits of tokens of the batch: `(token of the batch, values)`.
pub(crate) enum Logits<'a> {
    /// One token after the other.
    InOrder(&'a mut dyn FnMut(usize, &[f32])),
    /// Several at once: the workers call it.
    SideBySide(&'a (dyn Fn(usize, &[f32]) + Sync)),
}

/// Tokens of one sequence that attention looks at together: they share every key and value that is read.
const RUN: usize = 16;

/// Logits that are computed together: those of 32 tokens for Llama 3's vocabulary, 16 MB.
const LOGITS: usize = 32 * (128 << 10);

/// Chunks that each thread finds in a product: enough to even out, few enough to keep long streams.
const CHUNKS_PER_THREAD: usize = 4;

/// Most row groups of one chunk, so that a worker's scratch stays in its cache.
const MOST_GROUPS: usize = 8;

/// Memory of one worker.
pub(crate) struct Local {
    product: Scratch,
    attention: AttentionScratch,
    buffer: Vec<f32>,
    state: Vec<f32>,
    visible: Vec<usize>,
}

impl Local {
    /// With room for what one token takes: no worker allocates when it first takes a part of a step.
    pub(crate) fn new(c: &Config) -> Local {
        let (dim, group) = (c.head_dim, c.heads / c.kv_heads);
        Local {
            product: Scratch::default(),
            attention: AttentionScratch::new(group, dim),
            buffer: Vec::with_capacity((16 * MOST_GROUPS).max(group * dim)),
            state: Vec::with_capacity(group * state_len(dim)),
            visible: Vec::with_capacity(group),
        }
    }
}

/// `n` f32 of a buffer that grows when it must.
fn room(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}

/// Activations of one forward pass, (token, …) each, rows padded to 16. They keep their memory from pass to pass.
#[derive(Default)]
pub(crate) struct Buffers {
    /// embedding: the residual stream.
    x: Vec<f32>,
    /// embedding: normed.
    h: Vec<f32>,
    /// (q | k | v).
    qkv: Vec<f32>,
    /// heads · head_dim: the output of attention.
    attn: Vec<f32>,
    /// feed_forward.
    ffn: Vec<f32>,
    /// vocabulary, for as many tokens as [`LOGITS`] has room for.
    logits: Vec<f32>,
    /// The current product's input in int8.
    tiles: Vec<Tile>,
    /// (token, pair): cos and sin.
    angles: Vec<[f32; 2]>,
    positions: Vec<usize>,
    /// The next position of each sequence, while tokens are placed.
    next: Vec<usize>,
    /// Where attention's runs of tokens begin, and the end.
    runs: Vec<usize>,
    wanted: Vec<usize>,
}

impl Buffers {
    /// Gives the tokens their places in `sequences` and room in the residual stream, which is `d` wide and is returned
    /// to be filled.
    pub(crate) fn begin(
        &mut self,
        rope: &Rope,
        d: usize,
        batch: &[BatchToken],
        sequences: &mut [&mut Sequence],
    ) -> &mut [f32] {
        self.place(batch, sequences);
        let pairs = rope.pairs();
        self.angles.resize(batch.len() * pairs, [0.0; 2]);
        for (angles, &position) in self.angles.chunks_exact_mut(pairs).zip(&self.positions) {
            rope.angles(position, angles);
        }
        room(&mut self.x, batch.len() * d)
    }

    /// Gives every token its position, makes room for it, and cuts the batch into attention's runs: up to [`RUN`]
    /// neighbours of one sequence.
    fn place(&mut self, batch: &[BatchToken], sequences: &mut [&mut Sequence]) {
        let Buffers { positions, next, runs, .. } = self;
        next.clear();
        next.extend(sequences.iter().map(|sequence| sequence.len()));
        positions.clear();
        runs.clear();
        let mut previous = None;
        for (i, token) in batch.iter().enumerate() {
            let position = &mut next[token.sequence];
            positions.push(*position);
            *position += 1;
            let open = runs.last().is_some_and(|&start: &usize| i - start < RUN && previous == Some(token.sequence));
            if !open {
                runs.push(i);
            }
            previous = Some(token.sequence);
        }
        runs.push(batch.len());
        for (sequence, &end) in sequences.iter_mut().zip(next.iter()) {
            sequence.reserve(end - sequence.len());
        }
    }

    /// What of the final norm the head sees, for all of `n` tokens.
    pub(crate) fn head_input(&mut self, team: &mut Team<'_>, c: &Config, norm: &[f32], n: usize) -> &[f32] {
        let d = padded_rows(c.hidden);
        let h = room(&mut self.h, n * d);
        team.norm(&self.x[..n * d], norm, c.norm_epsilon, c.hidden, h);
        h
    }
}

/// A model, ready to run on a pool.
pub(crate) struct Model {
    pub(crate) config: Config,
    pub(crate) weights: ModelWeights,
    kernels: &'static Kernels,
    pool: Pool,
    locals: Vec<Local>,
    buffers: Buffers,
    rope: Rope,
}

/// The pool with the workers' memory, and the kernels: what every parallel step needs.
pub(crate) struct Team<'a> {
    pub(crate) kernels: &'static Kernels,
    pub(crate) pool: &'a mut Pool,
    pub(crate) locals: &'a mut [Local],
}

impl Team<'_> {
    /// Columns of a chunk when a step has `groups` row groups.
    fn chunk(&self, groups: usize) -> usize {
        16 * groups.div_ceil(self.pool.threads() * CHUNKS_PER_THREAD).clamp(1, MOST_GROUPS)
    }

    /// Brings `rows` rows of `cols` activations, `stride` apart, into int8 if one of `linears` wants that.
    fn input<'a>(
        &mut self,
        linears: &[&Linear],
        x: &'a [f32],
        rows: usize,
        cols: usize,
        stride: usize,
        tiles: &'a mut Vec<Tile>,
    ) -> ProductInput<'a> {
        let mut used = 0;
        if linears.iter().any(|l| !l.matrix.ty().is_float()) {
            let kernels = self.kernels;
            // Full tiles, then smaller ones.
            let full = kernels.tile_rows(rows);
            let tile_at = |i: usize| {
                let mut start = i.min(rows / full) * full;
                for _ in rows / full..i {
                    start += kernels.tile_rows(rows - start);
                }
                start
            };
            while tile_at(used) < rows {
                used += 1;
            }
            if tiles.len() < used {
                tiles.resize_with(used, Tile::default);
            }
            let quantize = |i: usize, tile: &mut Tile| {
                let start = tile_at(i);
                kernels.quantize(&x[start * stride..], kernels.tile_rows(rows - start), cols, stride, tile);
            };
            if used == 1 {
                // A row takes less time than waking the others.
                quantize(0, &mut tiles[0]);
            } else {
                self.pool.for_items(self.locals, &mut tiles[..used], |_, i, tile| quantize(i, tile));
            }
        }
        ProductInput { x: &x[..(rows - 1) * stride + cols], rows, stride, tiles: &tiles[..used] }
    }

    /// Calls `f` for the parts of `out`, `width` columns each, and the rows of `input` that belong to them.
    fn for_parts(
        &mut self,
        input: ProductInput<'_>,
        out: &mut MatMut<'_>,
        width: usize,
        f: impl Fn(&mut Local, ProductInput<'_>, Range<usize>, &mut MatMut<'_>) + Sync,
    ) {
        let mut start = 0;
        for panel in input.panels() {
            let columns = 0..out.cols();
            let mut out = out.part(start..start + panel.rows, columns);
            self.pool.for_tiles(self.locals, &mut out, &[0, panel.rows], width, |local, _, cols, part| {
                f(local, panel, cols, part);
            });
            start += panel.rows;
        }
    }

    /// The products of several matrices with one input, side by side in `out`.
    fn products(&mut self, linears: &[&Linear], input: ProductInput<'_>, out: &mut MatMut<'_>) {
        let kernels = self.kernels;
        let width = self.chunk(linears.iter().map(|l| l.matrix.groups()).sum());
        self.for_parts(input, out, width, |local, input, cols, tile| {
            let mut start = 0;
            for linear in linears {
                let end = start + linear.matrix.groups() * 16;
                let mine = cols.start.max(start)..cols.end.min(end);
                if !mine.is_empty() {
                    let groups = (mine.start - start) / 16..(mine.end - start) / 16;
                    let mut part = tile.part(0..input.rows, mine.start - cols.start..mine.end - cols.start);
                    linear.apply(kernels, groups, input, &mut local.product, &mut part);
                }
                start = end;
            }
        });
    }

    /// `x ← x + W·input`.
    fn add_product(&mut self, linear: &Linear, input: ProductInput<'_>, x: &mut MatMut<'_>) {
        let kernels = self.kernels;
        let width = self.chunk(linear.matrix.groups());
        self.for_parts(input, x, width, |local, input, cols, tile| {
            let Local { product, buffer, .. } = local;
            let (rows, n) = (input.rows, cols.len());
            let out = room(buffer, rows * n);
            linear.apply(kernels, cols.start / 16..cols.end / 16, input, product, &mut MatMut::new(out, rows, n, n));
            for (r, out) in out.chunks_exact(n).enumerate() {
                kernels.add(tile.row(r), out);
            }
        });
    }

    /// `out ← silu(W_gate·input) · W_up·input`.
    fn gated_product(&mut self, gate: &Linear, up: &Linear, input: ProductInput<'_>, out: &mut MatMut<'_>) {
        let kernels = self.kernels;
        let width = self.chunk(gate.matrix.groups());
        self.for_parts(input, out, width, |local, input, cols, tile| {
            let Local { product, buffer, .. } = local;
            let (rows, n, groups) = (input.rows, cols.len(), cols.start / 16..cols.end / 16);
            gate.apply(kernels, groups.clone(), input, product, tile);
            let ups = room(buffer, rows * n);
            up.apply(kernels, groups, input, product, &mut MatMut::new(ups, rows, n, n));
            for (r, up) in ups.chunks_exact(n).enumerate() {
                kernels.silu_mul(tile.row(r), up);
            }
        });
    }

    /// RMSNorm of rows as wide as `weight`, over the first `n` elements of each.
    fn norm(&mut self, x: &[f32], weight: &[f32], eps: f32, n: usize, out: &mut [f32]) {
        let (kernels, width) = (self.kernels, weight.len());
        self.each_row(out, width, |r, out| kernels.rms_norm(&x[r * width..][..width], weight, eps, n, out));
    }

    /// Calls `f(r, row)` for every row of `x`; a single one takes less time than waking the others.
    fn each_row(&mut self, x: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        if x.len() == width {
            return f(0, x);
        }
        let mut rows: Vec<&mut [f32]> = x.chunks_exact_mut(width).collect();
        self.pool.for_items(self.locals, &mut rows, |_, r, row| f(r, row));
    }

    /// One transformer block: changes the residual stream in `buffers`, which [`Buffers::begin`] has prepared, and
    /// stores keys and values. `show` sees the inputs of its matrices.
    pub(crate) fn layer(
        &mut self,
        c: &Config,
        (layer, w): (usize, &Layer),
        batch: &[BatchToken],
        sequences: &mut [&mut Sequence],
        buffers: &mut Buffers,
        show: &mut Observer<'_>,
    ) {
        let n = batch.len();
        let d = padded_rows(c.hidden);
        let (q_width, kv_width) = (padded_rows(c.heads * c.head_dim), padded_rows(c.kv_heads * c.head_dim));
        let qkv_width = q_width + 2 * kv_width;
        let ff = padded_rows(c.feed_forward);
        let scale = (1.0 / (c.head_dim as f64).sqrt()) as f32;
        let eps = c.norm_epsilon;
        let mut show = |input, x: &[f32], cols, stride| show(input, Rows { x, count: n, cols, stride });

        let Buffers { x, h, qkv, attn, ffn, tiles, angles, positions, runs, .. } = buffers;
        let pairs = angles.len() / n;
        let x = room(x, n * d);
        let h = room(h, n * d);
        let qkv = room(qkv, n * qkv_width);
        let attn = room(attn, n * q_width);
        let ffn = room(ffn, n * ff);

        self.norm(x, &w.attn_norm, eps, c.hidden, h);
        show(Input::Attention(layer), h, c.hidden, d);
        let projections = [&w.attn_q, &w.attn_k, &w.attn_v];
        let input = self.input(&projections, h, n, c.hidden, d, tiles);
        self.products(&projections, input, &mut MatMut::new(qkv, n, qkv_width, qkv_width));

        let kernels = self.kernels;
        self.each_row(qkv, qkv_width, |i, row| {
            let angles = &angles[i * pairs..(i + 1) * pairs];
            let (q, kv) = row.split_at_mut(q_width);
            kernels.rope(&mut q[..c.heads * c.head_dim], c.head_dim, angles, scale);
            kernels.rope(&mut kv[..c.kv_heads * c.head_dim], c.head_dim, angles, 1.0);
        });
        for ((row, token), &position) in qkv.chunks_exact(qkv_width).zip(batch).zip(positions.iter()) {
            let (k, v) = row[q_width..].split_at(kv_width);
            let used = c.kv_heads * c.head_dim;
            sequences[token.sequence].store(layer, position, &k[..used], &v[..used]);
        }
        attention(self, c, layer, batch, sequences, positions, runs, qkv, qkv_width, attn, q_width);

        show(Input::AttentionOutput(layer), attn, c.heads * c.head_dim, q_width);
        let input = self.input(&[&w.attn_output], attn, n, c.heads * c.head_dim, q_width, tiles);
        self.add_product(&w.attn_output, input, &mut MatMut::new(x, n, d, d));

        self.norm(x, &w.ffn_norm, eps, c.hidden, h);
        show(Input::FeedForward(layer), h, c.hidden, d);
        let input = self.input(&[&w.ffn_gate, &w.ffn_up], h, n, c.hidden, d, tiles);
        self.gated_product(&w.ffn_gate, &w.ffn_up, input, &mut MatMut::new(ffn, n, ff, ff));
        show(Input::FeedForwardDown(layer), ffn, c.feed_forward, ff);
        let input = self.input(&[&w.ffn_down], ffn, n, c.feed_forward, ff, tiles);
        self.add_product(&w.ffn_down, input, &mut MatMut::new(x, n, d, d));
    }
}

impl Model {
    pub(crate) fn new(config: Config, weights: ModelWeights, kernels: &'static Kernels, pool: Pool) -> Model {
        let locals = (0..pool.threads()).map(|_| Local::new(&config)).collect();
        let rope = Rope::new(&config, weights.rope_factors.as_deref());
        Model { config, weights, kernels, pool, locals, buffers: Buffers::default(), rope }
    }

    pub(crate) fn threads(&self) -> usize {
        self.pool.threads()
    }

    pub(crate) fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Reads `batch` into `sequences` and shows `logits` those of every token of the batch that wants them; without
    /// `logits` the product with the vocabulary is left out. `observer` sees the inputs of all matrices, those of the
    /// head for the tokens that want logits.
    ///
    /// Tokens and sequences were checked by the caller: ids below the vocabulary, sequence numbers in range, room in
    /// the context.
    pub(crate) fn forward(
        &mut self,
        batch: &[BatchToken],
        sequences: &mut [&mut Sequence],
        mut logits: Option<Logits<'_>>,
        mut observer: Option<&mut Observer<'_>>,
    ) {
        let mut show = |input, rows: Rows<'_>| {
            if let Some(observer) = &mut observer {
                observer(input, rows);
            }
        };
        let Model { config: c, weights, kernels, pool, locals, buffers, rope } = self;
        let mut team = Team { kernels, pool, locals };
        let n = batch.len();
        if n == 0 {
            return;
        }
        let d = padded_rows(c.hidden);
        let x = buffers.begin(rope, d, batch, sequences);
        for (x, token) in x.chunks_exact_mut(d).zip(batch) {
            weights.token_embd.matrix.row(token.token as usize, &mut x[..c.hidden]);
            x[c.hidden..].fill(0.0);
        }

        for layer in weights.layers.iter().enumerate() {
            team.layer(c, layer, batch, sequences, buffers, &mut show);
        }
        for token in batch {
            sequences[token.sequence].push(token.token);
        }

        let Buffers { x, h, logits: vocabulary, tiles, wanted, .. } = buffers;
        let eps = c.norm_epsilon;
        wanted.clear();
        wanted.extend((0..n).filter(|&i| batch[i].logits));
        let head = weights.head();
        let width = head.matrix.groups() * 16;
        for wanted in wanted.chunks((LOGITS / width).max(1)) {
            let rows = wanted.len();
            for (r, &i) in wanted.iter().enumerate() {
                let (x, h) = (&x[i * d..][..d], &mut h[r * d..][..d]);
                kernels.rms_norm(x, &weights.output_norm, eps, c.hidden, h);
            }
            show(Input::Head, Rows { x: h, count: rows, cols: c.hidden, stride: d });
            let Some(logits) = &mut logits else { continue };
            let input = team.input(&[head], h, rows, c.hidden, d, tiles);
            let out = room(vocabulary, rows * width);
            team.products(&[head], input, &mut MatMut::new(out, rows, width, width));
            let row = |r: usize| &out[r * width..][..weights.vocabulary()];
            match logits {
                Logits::InOrder(see) => wanted.iter().enumerate().for_each(|(r, &i)| see(i, row(r))),
                // One row takes less time than waking the others.
                Logits::SideBySide(see) if rows == 1 => see(wanted[0], row(0)),
                Logits::SideBySide(see) => team.pool.for_each(team.locals, rows, |_, r| see(wanted[r], row(r))),
            }
        }
    }
}

/// Causal attention: one task per run of tokens and kv head, which reads each key and value once for all query heads
/// that share it.
#[allow(clippy::too_many_arguments)]
fn attention(
    team: &mut Team<'_>,
    c: &Config,
    layer: usize,
    batch: &[BatchToken],
    sequences: &[&mut Sequence],
    positions: &[usize],
    runs: &[usize],
    qkv: &[f32],
    qkv_width: usize,
    attn: &mut [f32],
    attn_width: usize,
) {
    let kernels = team.kernels;
    let (dim, group) = (c.head_dim, c.heads / c.kv_heads);
    let mut out = MatMut::new(attn, batch.len(), c.heads * dim, attn_width);
    team.pool.for_tiles(team.locals, &mut out, runs, group * dim, |local, rows: Range<usize>, cols, tile| {
        let Local { attention, buffer, state, visible, .. } = local;
        let (kv_head, queries) = (cols.start / (group * dim), rows.len() * group);
        let sequence = &*sequences[batch[rows.start].sequence];
        let q = room(buffer, queries * dim);
        for (q, t) in q.chunks_exact_mut(group * dim).zip(rows.clone()) {
            q.copy_from_slice(&qkv[t * qkv_width..][cols.clone()]);
        }
        let len = state_len(dim);
        let state = room(state, queries * len);
        visible.resize(queries, 0);
        let last = positions[rows.end - 1];
        for page in 0..=last / PAGE {
            // Runs have rising positions, so the queries that see this page are the last ones.
            let blind = rows.clone().take_while(|&t| positions[t] < page * PAGE).count();
            let from = blind * group;
            for (at, t) in (rows.start + blind..rows.end).enumerate() {
                let seen = (positions[t] + 1 - page * PAGE).min(PAGE);
                visible[at * group..(at + 1) * group].fill(seen);
            }
            let queries = Queries { q: &q[from * dim..], visible: &visible[..queries - from], head_dim: dim };
            let (first, state) = (page == 0, &mut state[from * len..]);
            match sequence.segment(layer, kv_head, page) {
                AnySegment::F16(s) => kernels.attend_f16(queries, s, first, attention, state),
                AnySegment::F32(s) => kernels.attend_f32(queries, s, first, attention, state),
            }
        }
        for (r, states) in state.chunks_exact(len * group).enumerate() {
            let row = tile.row(r);
            for (state, out) in states.chunks_exact(len).zip(row.chunks_exact_mut(dim)) {
                kernels.finish(state, out);
            }
        }
    });
}
