//! What each worker has of its own.

use std::ops::Range;

use quipu_kernels::{AttentionScratch, QuantScratch, Tile, Tuning, padded_rows, state_len};

use super::product::ProductScratch;
use crate::config::Config;

/// Scratch memory of one worker.
pub(crate) struct Local {
    pub(super) product: ProductScratch,
    pub(super) attention: AttentionScratch,
    pub(super) quant_attention: QuantScratch,
    /// Queries in int8.
    pub(super) queries: Vec<Tile>,
    pub(super) buffer: Vec<f32>,
    pub(super) state: Vec<f32>,
    /// The positions of a page that each query sees.
    pub(super) visible: Vec<Range<usize>>,
}

impl Local {
    /// With room for what one token takes: no worker allocates when it first takes a part of a step.
    pub(crate) fn new(c: &Config, tuning: &Tuning) -> Local {
        let (dim, group) = (c.head_dim, c.heads / c.kv_heads);
        let chunk = padded_rows(c.hidden.max(c.feed_forward)).min(16 * most_groups(tuning));
        Local {
            product: ProductScratch::default(),
            attention: AttentionScratch::new(group, dim),
            quant_attention: QuantScratch::default(),
            queries: Vec::new(),
            buffer: Vec::with_capacity(chunk.max(group * dim.next_multiple_of(32))),
            state: Vec::with_capacity(group * state_len(dim)),
            visible: Vec::with_capacity(group),
        }
    }
}

/// The most row groups of one chunk.
pub(super) fn most_groups(tuning: &Tuning) -> usize {
    (tuning.chunk_groups as usize).max(1)
}

/// The first `n` numbers of a buffer, which grows if it has fewer. They may hold anything.
pub(super) fn room(buffer: &mut Vec<f32>, n: usize) -> &mut [f32] {
    if buffer.len() < n {
        buffer.resize(n, 0.0);
    }
    &mut buffer[..n]
}
