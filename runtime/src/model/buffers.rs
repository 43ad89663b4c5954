//! The activations of a forward pass, and the places of its tokens.

use quipu_formats::families::names::Role;

use super::attention::Segments;
use super::batch::BatchToken;
use super::experts::Routes;
use super::product::InputBuffers;
use super::rope::Ropes;
use crate::config::Config;
use crate::kv::Sequence;

/// Tokens of one sequence that attention looks at together: they share every key and value that is read.
const RUN: usize = 16;

/// Activations of one forward pass, (token, …) each, rows padded to 16. They keep their memory from pass to pass.
#[derive(Default)]
pub(super) struct Buffers {
    /// hidden: the residual stream.
    pub(super) x: Vec<f32>,
    /// hidden: normed.
    pub(super) h: Vec<f32>,
    /// (q | k | v).
    pub(super) qkv: Vec<f32>,
    /// heads · head_dim: the output of attention.
    pub(super) attn: Vec<f32>,
    /// feed_forward; or, for each choice of an expert, its width.
    pub(super) ffn: Vec<f32>,
    /// The width of the expert that serves all tokens.
    pub(super) shared_ffn: Vec<f32>,
    /// Which experts serve which token.
    pub(super) routes: Routes,
    /// vocabulary, for as many tokens as one product has room for.
    pub(super) logits: Vec<f32>,
    /// The current product's input, made ready.
    pub(super) input: InputBuffers,
    /// (token, pair): cos and sin.
    pub(super) angles: Vec<[f32; 2]>,
    /// The same of the RoPE of layers with a window, where it is another one.
    pub(super) local_angles: Vec<[f32; 2]>,
    /// Of each token, in its sequence.
    pub(super) positions: Vec<usize>,
    /// The next position of each sequence, while tokens are placed.
    next: Vec<usize>,
    /// Where attention's runs of tokens begin, and the end.
    pub(super) runs: Vec<usize>,
    /// What attention makes of segments that are shared out.
    pub(super) segments: Segments,
    /// The tokens that want logits, by their numbers in the batch.
    pub(super) wanted: Vec<usize>,
}

/// Bytes that the activations of `tokens` tokens take, but for the logits, which are computed a few at a time.
pub fn activation_bytes(c: &Config, tokens: usize) -> u64 {
    let padded = |n: usize| n.saturating_add(15) as u64 / 16 * 16;
    let (hidden, feed_forward) = (padded(c.hidden), padded(c.feed_forward));
    let (queries, keys) = (padded(c.heads.saturating_mul(c.head_dim)), padded(c.kv_heads.saturating_mul(c.head_dim)));
    // Each token stands in the rows of all experts that it takes, and has a score of each.
    let (taken, width, scores) = c.plan.experts.as_ref().map_or((0, 0, 0), |experts| {
        let taken = experts.used as u64;
        let shared = u64::from(c.family.tensor(Role::SharedDown).is_some());
        (taken, (taken + shared).saturating_mul(padded(experts.feed_forward)), padded(experts.count))
    });
    let ropes = if c.plan.local_base.is_some() { 2 } else { 1 };
    // x, h; q, k, v and attention's output; the products of the feed-forward layer; angles.
    let embedding = if c.embedding == c.hidden { 0 } else { padded(c.embedding) };
    let floats = embedding + 2 * hidden + 2 * queries + 2 * keys + feed_forward.max(width) + ropes * c.rope_dim as u64;
    let floats = taken.saturating_mul(hidden).saturating_add(floats + scores);
    // The widest input as int8, with a scale and a sum for each 32 of them.
    let widest = taken.saturating_mul(hidden).max(hidden).max(queries).max(feed_forward).max(width).max(embedding);
    let codes = widest.saturating_mul(5) / 4;
    floats.saturating_mul(4).saturating_add(codes).saturating_mul(tokens as u64)
}

impl Buffers {
    /// Gives the tokens their places in `sequences`, and these places their angles.
    pub(super) fn begin(&mut self, ropes: &Ropes, batch: &[BatchToken], sequences: &mut [&mut Sequence]) {
        self.place(batch, sequences);
        ropes.global.all_angles(&self.positions, &mut self.angles);
        if let Some(local) = &ropes.local {
            local.all_angles(&self.positions, &mut self.local_angles);
        }
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
}
