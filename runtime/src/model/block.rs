//! The transformer block (Touvron et al. 2023, Llama; Ainslie et al. 2023, GQA), driven by the family's plan of a
//! layer.

use quipu_formats::families::names::Input;
use quipu_formats::families::{QkNorm, Rope, RopePairs};
use quipu_kernels::{MatMut, padded_rows};

use super::attention::Attention;
use super::batch::{BatchToken, Observer, Rows};
use super::buffers::Buffers;
use super::experts::Mixture;
use super::finite::ATTENTION_LIMIT;
use super::local::room;
use super::team::Team;
use super::weights::{Dense, FeedForward, Layer, Qkv};
use crate::config::Config;
use crate::kv::{PAGE, Sequence};

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
        let d = padded_rows(c.hidden);
        let (q_width, places) = (padded_rows(c.heads * c.head_dim), QkvPlaces::new(c, &w.qkv));
        let (eps, block, plan) = (c.norm_epsilon, &c.family.block, c.layer(layer));
        let mut show_all =
            |input, x: &[f32], cols, stride| show(input, Rows { x, count: n, cols, stride, expert: None });

        let Buffers {
            x,
            h,
            qkv,
            attn,
            ffn,
            input: made,
            angles,
            local_angles,
            positions,
            runs,
            segments,
            routes,
            shared_ffn,
            ..
        } = &mut *self.buffers;
        let x = room(x, n * d);
        let h = room(h, n * d);
        let qkv = room(qkv, n * places.width);
        let attn = room(attn, n * q_width);

        // u = norm(x); q, k, v = W u + b
        let u = team.norm(x, w.attention_norm.as_ref(), eps, c.hidden, h);
        show_all(Input::Attention(layer), u, c.hidden, d);
        let input = team.input(w.qkv.matrices(), u, n, c.hidden, d, made);
        team.products(w.qkv.matrices(), input, &mut MatMut::new(qkv, n, places.width, places.width));

        // q, k = scale · RoPE(norm(q)), RoPE(norm(k)); or with a norm behind RoPE
        let kernels = team.kernels;
        let angles: &[[f32; 2]] = match plan.rope {
            Some(Rope::Global) => angles,
            Some(Rope::Local) => local_angles,
            None => &[],
        };
        let pairs = angles.len() / n;
        let (batch, sequences, noticed) = (self.batch, &*self.sequences, team.noticed);
        team.each_row(qkv, places.width, |i, row| {
            let (q, k, v) = places.split(row);
            if let (Some(norm), Some(kind)) = (&w.qk_norm, block.qk_norm) {
                let together = |x: &[f32]| match kind {
                    QkNorm::Head => c.head_dim,
                    QkNorm::Row => x.len(),
                };
                kernels.rms_norm_heads(q, together(q), &norm.query, eps);
                kernels.rms_norm_heads(k, together(k), &norm.key, eps);
            }
            let angles = &angles[i * pairs..(i + 1) * pairs];
            let temperature = plan.temperature.map_or(1.0, |temperature| temperature.at(positions[i]));
            let scale = c.plan.attention_scale * temperature;
            // A norm behind RoPE forgets the size of what it gets.
            let (in_rope, behind) = if plan.bare_qk_norm { (1.0, scale) } else { (scale, 1.0) };
            for (x, scale) in [(&mut *q, in_rope), (&mut *k, 1.0)] {
                match block.rope {
                    RopePairs::Neighbours => kernels.rope(x, c.head_dim, angles, scale),
                    RopePairs::Halves => kernels.rope_halves(x, c.head_dim, angles, scale),
                }
            }
            if plan.bare_qk_norm
                && let Some(norm) = &w.qk_norm
            {
                kernels.rms_norm_heads(q, c.head_dim, &norm.query, eps);
                kernels.rms_norm_heads(k, c.head_dim, &norm.key, eps);
                q.iter_mut().for_each(|q| *q *= behind);
            }
            let sequence = &sequences[batch[i].sequence];
            if sequence.is_turned() {
                // The product of queries and keys stays what it is; what comes of turned values is turned back.
                [&mut *q, &mut *k, &mut *v].into_iter().for_each(|x| kernels.hadamard(x, c.head_dim));
            }
            let cached = ATTENTION_LIMIT.min(sequence.limit());
            if ![(&*q, ATTENTION_LIMIT), (&*k, cached), (&*v, cached)]
                .iter()
                .all(|&(x, limit)| kernels.within(x, limit))
            {
                noticed.add(i);
            }
        });

        // a = W softmax(q·k + mask) v; x = x + a, or x + norm(a), or norm(x + a)
        store(team, layer, self.batch, positions, KeysAndValues { qkv, places: &places }, self.sequences);
        let (sequences, stride) = (&*self.sequences, places.width);
        let attention =
            Attention { kernels, config: c, layer, plan, batch: self.batch, sequences, positions, qkv, stride };
        attention.run(team, runs, segments, &mut MatMut::new(attn, n, c.heads * c.head_dim, q_width));
        show_all(Input::AttentionOutput(layer), attn, c.heads * c.head_dim, q_width);
        let input = team.input(&[&w.attention_output], attn, n, c.heads * c.head_dim, q_width, made);
        team.add(&w.attention_output, w.attention_post_norm.as_deref(), c, input, h, x);
        team.norm_in_place(x, w.attention_out_norm.as_ref(), eps, c.hidden);

        // u = norm(x); f = W_down (activation(W_gate u) · W_up u), or the same of experts;
        // x = x + f, or x + norm(f), or norm(x + f)
        let u = team.norm(x, w.feed_forward_norm.as_ref(), eps, c.hidden, h);
        show_all(Input::FeedForward(layer), u, c.hidden, d);
        match &w.feed_forward {
            FeedForward::Dense(Dense { gate_and_up, down }) => {
                let ff = padded_rows(c.feed_forward);
                let ffn = room(ffn, n * ff);
                let input = team.input(gate_and_up.matrices(), u, n, c.hidden, d, made);
                team.gated_product(gate_and_up, block.activation, input, &mut MatMut::new(ffn, n, ff, ff));
                show_all(Input::FeedForwardDown(layer), ffn, c.feed_forward, ff);
                let input = team.input(&[down], ffn, n, c.feed_forward, ff, made);
                team.add(down, w.feed_forward_post_norm.as_deref(), c, input, h, x);
            }
            FeedForward::Experts(weights) => {
                let mixture = Mixture { config: c, layer, weights, tokens: n };
                let ff = padded_rows(weights.plan.feed_forward);
                let shared_ffn = room(shared_ffn, weights.shared.as_ref().map_or(0, |_| n * ff));
                if let Some(Dense { gate_and_up, .. }) = &weights.shared {
                    let input = team.input(gate_and_up.matrices(), u, n, c.hidden, d, made);
                    team.gated_product(gate_and_up, block.activation, input, &mut MatMut::new(shared_ffn, n, ff, ff));
                }
                mixture.choose_and_widen(team, u, routes, (ffn, made), show);
                if let Some(Dense { down, .. }) = &weights.shared {
                    let cols = weights.plan.feed_forward;
                    show(Input::SharedDown(layer), Rows { x: shared_ffn, count: n, cols, stride: ff, expert: None });
                    let input = team.input(&[down], shared_ffn, n, cols, ff, made);
                    team.add(down, None, c, input, h, x);
                }
                mixture.add(team, routes, (ffn, made), show, x);
            }
        }
        team.norm_in_place(x, w.feed_forward_out_norm.as_ref(), eps, c.hidden);
    }
}

/// Where queries, keys and values stand in a row of their products: as wide as they are, each padded to 16 where it has
/// a matrix of its own.
struct QkvPlaces {
    query: usize,
    key: usize,
    /// From here on, keys.
    keys: usize,
    /// From here on, values.
    values: usize,
    /// Of a row, padded to 16.
    width: usize,
}

impl QkvPlaces {
    fn new(c: &Config, qkv: &Qkv) -> QkvPlaces {
        let (query, key) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let (keys, values, end) = match qkv {
            Qkv::Apart(_) => {
                let (query, key) = (padded_rows(query), padded_rows(key));
                (query, query + key, query + 2 * key)
            }
            Qkv::Joined(_) => (query, query + key, query + 2 * key),
        };
        QkvPlaces { query, key, keys, values, width: padded_rows(end) }
    }

    /// Queries, keys and values of a row.
    fn split<'a>(&self, row: &'a mut [f32]) -> (&'a mut [f32], &'a mut [f32], &'a mut [f32]) {
        let (q, kv) = row.split_at_mut(self.keys);
        let (k, v) = kv.split_at_mut(self.values - self.keys);
        (&mut q[..self.query], &mut k[..self.key], &mut v[..self.key])
    }
}

/// The fewest tokens of a batch for which rounding to few bits is shared out: for fewer, that takes less time than
/// waking the workers.
const WORTH_SHARING: usize = 8;

/// The keys and values of a batch: rows of products.
#[derive(Clone, Copy)]
struct KeysAndValues<'a> {
    qkv: &'a [f32],
    places: &'a QkvPlaces,
}

impl<'a> KeysAndValues<'a> {
    fn of(&self, token: usize) -> (&'a [f32], &'a [f32]) {
        let QkvPlaces { key, keys, values, width, .. } = *self.places;
        let row = &self.qkv[token * width..];
        (&row[keys..][..key], &row[values..][..key])
    }
}

/// Stores the keys and values of a layer in the sequences. What is rounded to few bits is shared out by pages and
/// heads.
fn store(
    team: &mut Team<'_>,
    layer: usize,
    batch: &[BatchToken],
    positions: &[usize],
    new: KeysAndValues<'_>,
    sequences: &mut [&mut Sequence],
) {
    if batch.len() < WORTH_SHARING {
        for (i, (token, &position)) in batch.iter().zip(positions).enumerate() {
            let (keys, values) = new.of(i);
            sequences[token.sequence].store(layer, position, keys, values);
        }
        return;
    }
    let mut parts = Vec::new();
    for (number, sequence) in sequences.iter_mut().enumerate() {
        let own = || batch.iter().zip(positions).enumerate().filter(|(_, (token, _))| token.sequence == number);
        let own = || own().map(|(i, (_, &position))| (i, position));
        let Some((_, first)) = own().next() else { continue };
        if sequence.is_turned() {
            parts.extend(sequence.quantised_heads(layer, first / PAGE).map(|part| (number, part)));
            continue;
        }
        for (i, position) in own() {
            let (keys, values) = new.of(i);
            sequence.store(layer, position, keys, values);
        }
    }
    team.pool.for_items(team.locals, &mut parts, |_, _, (number, part)| {
        for (i, (token, &position)) in batch.iter().zip(positions).enumerate() {
            if token.sequence == *number && position / PAGE == part.page {
                let (keys, values) = new.of(i);
                part.store(position % PAGE, keys, values);
            }
        }
    });
}
