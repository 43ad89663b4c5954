//! The transformer block (Touvron et al. 2023, Llama; Ainslie et al. 2023, GQA), driven by the family's plan of a
//! layer.

use std::ops::Range;

use quipu_formats::families::names::Input;
use quipu_formats::families::{QkNorm, RopePairs};
use quipu_kernels::{MatMut, Queries, padded_rows, state_len};

use super::batch::{BatchToken, Observer, Rows};
use super::buffers::Buffers;
use super::finite::ATTENTION_LIMIT;
use super::team::{Local, Team, room};
use super::weights::Layer;
use crate::config::Config;
use crate::kv::{AnySegment, PAGE, Sequence};

/// What the blocks of one forward pass work on.
pub(super) struct Block<'a, 's> {
    pub(super) config: &'a Config,
    pub(super) batch: &'a [BatchToken],
    pub(super) sequences: &'a mut [&'s mut Sequence],
    /// Prepared by [`Buffers::begin`].
    pub(super) buffers: &'a mut Buffers,
}

impl Block<'_, '_> {
    /// Layer number `layer`: changes the residual stream and stores keys and values. `show` sees the inputs of its
    /// matrices.
    pub(super) fn forward(&mut self, team: &mut Team<'_>, layer: usize, w: &Layer, show: &mut Observer<'_>) {
        let (c, n) = (self.config, self.batch.len());
        let (d, ff) = (padded_rows(c.hidden), padded_rows(c.feed_forward));
        let (q_width, kv_width) = (padded_rows(c.heads * c.head_dim), padded_rows(c.kv_heads * c.head_dim));
        let qkv_width = q_width + 2 * kv_width;
        let eps = c.norm_epsilon;
        let mut show = |input, x: &[f32], cols, stride| show(input, Rows { x, count: n, cols, stride });

        let Buffers { x, h, qkv, attn, ffn, tiles, angles, positions, runs, .. } = &mut *self.buffers;
        let x = room(x, n * d);
        let h = room(h, n * d);
        let qkv = room(qkv, n * qkv_width);
        let attn = room(attn, n * q_width);
        let ffn = room(ffn, n * ff);

        // u = norm(x); q, k, v = W u + b
        team.norm(x, &w.attention_norm, eps, c.hidden, h);
        show(Input::Attention(layer), h, c.hidden, d);
        let projections = [&w.query, &w.key, &w.value];
        let input = team.input(&projections, h, n, c.hidden, d, tiles);
        team.products(&projections, input, &mut MatMut::new(qkv, n, qkv_width, qkv_width));

        // q, k = RoPE(norm(q)) / √head_dim, RoPE(norm(k))
        let (kernels, plan, pairs) = (team.kernels, c.layer(), angles.len() / n);
        let scale = (1.0 / (c.head_dim as f64).sqrt()) as f32;
        let (batch, sequences, noticed) = (self.batch, &*self.sequences, team.noticed);
        team.each_row(qkv, qkv_width, |i, row| {
            let (q, kv) = row.split_at_mut(q_width);
            let (k, v) = kv.split_at_mut(kv_width);
            let width = c.kv_heads * c.head_dim;
            let (q, k, v) = (&mut q[..c.heads * c.head_dim], &mut k[..width], &v[..width]);
            if let (Some(QkNorm::Head), Some(norm)) = (plan.qk_norm, &w.qk_norm) {
                kernels.rms_norm_heads(q, c.head_dim, &norm.query, eps);
                kernels.rms_norm_heads(k, c.head_dim, &norm.key, eps);
            }
            let angles = &angles[i * pairs..(i + 1) * pairs];
            for (x, scale) in [(&mut *q, scale), (&mut *k, 1.0)] {
                match plan.rope {
                    RopePairs::Neighbours => kernels.rope(x, c.head_dim, angles, scale),
                    RopePairs::Halves => kernels.rope_halves(x, c.head_dim, angles, scale),
                }
            }
            let cached = ATTENTION_LIMIT.min(sequences[batch[i].sequence].limit());
            if ![(&*q, ATTENTION_LIMIT), (&*k, cached), (v, cached)].iter().all(|&(x, limit)| kernels.within(x, limit))
            {
                noticed.add(i);
            }
        });

        // a = softmax(q·k + mask) v; x = x + W a
        for ((row, token), &position) in qkv.chunks_exact(qkv_width).zip(self.batch).zip(positions.iter()) {
            let (k, v) = row[q_width..].split_at(kv_width);
            let used = c.kv_heads * c.head_dim;
            self.sequences[token.sequence].store(layer, position, &k[..used], &v[..used]);
        }
        let sequences = &*self.sequences;
        let attention = Attention { config: c, layer, batch: self.batch, sequences, positions, qkv, qkv_width };
        attention.run(team, runs, &mut MatMut::new(attn, n, c.heads * c.head_dim, q_width));
        show(Input::AttentionOutput(layer), attn, c.heads * c.head_dim, q_width);
        let input = team.input(&[&w.attention_output], attn, n, c.heads * c.head_dim, q_width, tiles);
        team.add_product(&w.attention_output, input, &mut MatMut::new(x, n, d, d));

        // u = norm(x); x = x + W_down (silu(W_gate u) · W_up u)
        team.norm(x, &w.feed_forward_norm, eps, c.hidden, h);
        show(Input::FeedForward(layer), h, c.hidden, d);
        let input = team.input(&[&w.gate, &w.up], h, n, c.hidden, d, tiles);
        team.gated_product(&w.gate, &w.up, input, &mut MatMut::new(ffn, n, ff, ff));
        show(Input::FeedForwardDown(layer), ffn, c.feed_forward, ff);
        let input = team.input(&[&w.down], ffn, n, c.feed_forward, ff, tiles);
        team.add_product(&w.down, input, &mut MatMut::new(x, n, d, d));
    }
}

/// Causal attention of one layer: what its tasks look at.
struct Attention<'a, 's> {
    config: &'a Config,
    layer: usize,
    batch: &'a [BatchToken],
    sequences: &'a [&'s mut Sequence],
    /// Of each token.
    positions: &'a [usize],
    /// (token, q | k | v), `qkv_width` apart; the queries are scaled.
    qkv: &'a [f32],
    qkv_width: usize,
}

impl Attention<'_, '_> {
    /// One task per run of tokens and kv head, which reads each key and value once for all query heads that share it.
    fn run(&self, team: &mut Team<'_>, runs: &[usize], out: &mut MatMut<'_>) {
        let kernels = team.kernels;
        let (dim, group) = (self.config.head_dim, self.config.heads / self.config.kv_heads);
        team.pool.for_tiles(team.locals, out, runs, group * dim, |local, rows: Range<usize>, cols, tile| {
            let Local { attention, buffer, state, visible, .. } = local;
            let (kv_head, queries) = (cols.start / (group * dim), rows.len() * group);
            let sequence = &*self.sequences[self.batch[rows.start].sequence];
            let q = room(buffer, queries * dim);
            for (q, t) in q.chunks_exact_mut(group * dim).zip(rows.clone()) {
                q.copy_from_slice(&self.qkv[t * self.qkv_width..][cols.clone()]);
            }
            let len = state_len(dim);
            let state = room(state, queries * len);
            visible.resize(queries, 0);
            let last = self.positions[rows.end - 1];
            for page in 0..=last / PAGE {
                // Runs have rising positions, so the queries that see this page are the last ones.
                let blind = rows.clone().take_while(|&t| self.positions[t] < page * PAGE).count();
                let from = blind * group;
                for (at, t) in (rows.start + blind..rows.end).enumerate() {
                    let seen = (self.positions[t] + 1 - page * PAGE).min(PAGE);
                    visible[at * group..(at + 1) * group].fill(seen);
                }
                let queries = Queries { q: &q[from * dim..], visible: &visible[..queries - from], head_dim: dim };
                let (first, state) = (page == 0, &mut state[from * len..]);
                match sequence.segment(self.layer, kv_head, page) {
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
}
