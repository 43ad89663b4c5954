//! The forward pass.
//!
//! It reads from top to bottom like the papers: `Model::forward` here, one transformer block in `block`. A batch is a
//! list of (token, position, sequence): a prompt, a decode step, the check of a draft and a server's mixed batch are
//! the same call.
//!
//! - `block`: the block, driven by the family's plan; `attention`: its attention; `rope`: its angles; `experts`:
//!   mixtures of feed-forward layers; `ends`: what stands before the first one and behind the last.
//! - `team`: how steps are cut into chunks for the workers; `local`: what each of these has; `product`: the input of
//!   products; `buffers`: activations.
//! - `adapted`: what adapters add to products; `low_rank`: an adapter in memory.
//! - `weights`: matrices (`matrix`) and vectors; `load`: how they come out of a file (`loading`: its options and
//!   errors; `filling`: bytes into memory); `layers`: whether all of them are in memory or one layer at a time;
//!   `unused`: tensors that are not the model's.
//! - `finite`: NaN and infinity, noticed and traced to their weight.
//! - `batch`: what a caller hands in and is shown.
//!
//! Everything is computed per token and per output in an order that does not depend on the batch, its chunks or the
//! threads, so neither do the bits of the result.

mod adapted;
mod attention;
mod batch;
mod block;
mod buffers;
mod ends;
mod experts;
mod filling;
mod finite;
mod layers;
mod load;
mod loading;
mod local;
mod low_rank;
mod matrix;
mod product;
mod rope;
mod team;
mod unused;
mod weights;

use std::time::Duration;

use quipu_kernels::{Kernels, MatMut, padded_rows};

pub(crate) use batch::Logits;
pub use batch::{BatchToken, EngineError, Observer, Rows};
pub use buffers::activation_bytes;
pub(crate) use finite::{NotFinite, broken_weight};
pub(crate) use layers::{LayerSource, StreamError, Streamed};
pub(crate) use load::{check, load};
pub use loading::{Progress, Residence, WeightsError};
pub use low_rank::AdapterLoadError;
pub(crate) use low_rank::LowRank;
pub(crate) use matrix::Matrix;
pub use quipu_formats::families::names::Input;
pub(crate) use team::Team;
pub(crate) use unused::unused_tensors;
pub(crate) use weights::ModelWeights;

use crate::config::Config;
use crate::kv::Sequence;
use crate::pool::Pool;
use adapted::Adapted;
use block::Block;
use buffers::Buffers;
use ends::EndBuffers;
use finite::Noticed;
use local::{Local, room};
use rope::Ropes;

/// Logits that are computed together: those of 32 tokens for Llama 3's vocabulary, 16 MB.
const LOGITS: usize = 32 * (128 << 10);

/// A model, ready to run on a pool, with all its weights in memory or with those of one layer at a time.
pub(crate) struct Model<W = ModelWeights> {
    pub(crate) config: Config,
    pub(crate) weights: W,
    /// By their numbers.
    pub(crate) adapters: Vec<LowRank>,
    kernels: Kernels,
    pool: Pool,
    locals: Vec<Local>,
    buffers: Buffers,
    ropes: Ropes,
    noticed: Noticed,
}

impl<W: LayerSource> Model<W> {
    /// A model for sequences of up to `context` positions.
    pub(crate) fn new(config: Config, weights: W, context: usize, kernels: Kernels, pool: Pool) -> Model<W> {
        let locals = (0..pool.threads()).map(|_| Local::new(&config, kernels.tuning())).collect();
        let ropes = Ropes::new(&config, weights.rope_factors(), context);
        pool.set_spin(Duration::from_micros(kernels.tuning().spin_us.into()));
        Model {
            config,
            weights,
            adapters: Vec::new(),
            kernels,
            pool,
            locals,
            buffers: Buffers::default(),
            ropes,
            noticed: Noticed::nothing(),
        }
    }

    pub(crate) fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Names the way in which keys are turned.
    pub(crate) fn rope(&self) -> String {
        match &self.ropes {
            Ropes { global, local: None } => format!("{global:?}"),
            ropes => format!("{ropes:?}"),
        }
    }

    /// Bytes that the activations of `tokens` tokens take ([`activation_bytes`]), what adapters make of them included.
    pub(crate) fn activation_bytes(&self, tokens: usize) -> u64 {
        let hidden: usize = self.adapters.iter().map(LowRank::width).sum();
        activation_bytes(&self.config, tokens).saturating_add((4 * hidden * tokens) as u64)
    }

    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Sets the kernels: the same with another tuning.
    pub(crate) fn set_kernels(&mut self, kernels: Kernels) {
        self.kernels = kernels;
    }

    /// The workers, and the weights.
    pub(crate) fn team(&mut self) -> (Team<'_>, &W) {
        let Model { weights, kernels, pool, locals, noticed, .. } = self;
        (Team { kernels, pool, locals, noticed, adapted: Adapted::none() }, weights)
    }

    /// Reads `batch` into `sequences` and shows `logits` those of every token of the batch that wants them; without
    /// `logits` the product with the output matrix is left out. `observer` sees the inputs of all matrices; those of
    /// the output matrix only for the tokens that want logits.
    ///
    /// Tokens and sequences were checked by the caller: ids below the vocabulary, sequence numbers in range, room in
    /// the context. An error leaves the sequences as they were.
    pub(crate) fn forward(
        &mut self,
        batch: &[BatchToken],
        sequences: &mut [&mut Sequence],
        mut logits: Option<Logits<'_>>,
        mut observer: Option<&mut Observer<'_>>,
    ) -> Result<(), W::Error> {
        let mut show = |input, rows: Rows<'_>| {
            if let Some(observer) = &mut observer {
                observer(input, rows);
            }
        };
        let Model { config: c, weights, adapters, kernels, pool, locals, buffers, ropes, noticed } = self;
        let n = batch.len();
        if n == 0 {
            return Ok(());
        }
        let d = padded_rows(c.hidden);
        buffers.begin(ropes, batch, sequences);
        *noticed = Noticed::nothing();
        let noticed = &*noticed;
        let check = |positions: &[usize]| match noticed.row() {
            Some(row) => {
                let BatchToken { token, sequence, .. } = batch[row];
                Err(NotFinite { token, position: positions[row], sequence })
            }
            None => Ok(()),
        };
        let adapted = Adapted::new(adapters, batch.iter().map(|token| sequences[token.sequence].adapters()));
        let adapted = &adapted;
        let mut team = Team { kernels, pool, locals, noticed, adapted };
        ends::begin(&mut team, c, weights, batch, buffers, &mut show);
        let mut block = Block { config: c, batch, sequences, buffers };
        for i in 0..c.layers {
            let layer = weights.layer(i, pool)?;
            block.forward(&mut Team { kernels, pool, locals, noticed, adapted }, i, layer, &mut show);
            check(&block.buffers.positions)?;
        }

        let Buffers { x, h, ffn: projected, logits: vocabulary, input: made, wanted, positions, .. } = buffers;
        wanted.clear();
        wanted.extend((0..n).filter(|&i| batch[i].logits));
        let head = weights.head();
        let width = head.map_or(1, |head| head.matrix.groups() * 16);
        for wanted in wanted.chunks((LOGITS / width).max(1)) {
            let rows = wanted.len();
            let adapted = wanted.iter().map(|&i| sequences[batch[i].sequence].adapters());
            let adapted = &Adapted::new(adapters, adapted);
            let mut team = Team { kernels, pool, locals, noticed, adapted };
            let ends = EndBuffers { x, h: &mut h[..rows * d], projected };
            let (h, cols) = ends::end(&mut team, c, weights, wanted, ends, made, &mut show);
            let stride = padded_rows(cols);
            check(positions)?;
            show(Input::Head, Rows { x: h, count: rows, cols, stride, expert: None });
            let (Some(logits), Some(head)) = (&mut logits, head) else { continue };
            let input = team.input(&[head], h, rows, cols, stride, made);
            let out = room(vocabulary, rows * width);
            team.products(&[head], input, &mut MatMut::new(out, rows, width, width));
            if c.plan.logit_divisor != 1.0 || c.plan.logit_cap.is_some() {
                team.each_row(out, width, |_, row| {
                    if c.plan.logit_divisor != 1.0 {
                        row.iter_mut().for_each(|x| *x /= c.plan.logit_divisor);
                    }
                    if let Some(cap) = c.plan.logit_cap {
                        kernels.soft_cap(row, cap);
                    }
                });
            }
            let row = |r: usize| &out[r * width..][..head.matrix.rows()];
            let is_good = |r: usize| kernels.within(row(r), f32::INFINITY);
            let in_order = matches!(logits, Logits::BySequence(_));
            match logits {
                Logits::InOrder(see) => {
                    for (r, &i) in wanted.iter().enumerate() {
                        if !is_good(r) {
                            noticed.add(i);
                            break;
                        }
                        see(i, row(r));
                    }
                }
                Logits::SideBySide(see) | Logits::BySequence(see) => {
                    let look = |r: usize| if is_good(r) { see(wanted[r], row(r)) } else { noticed.add(wanted[r]) };
                    let sequence = |r: usize| batch[wanted[r]].sequence;
                    // Who has the first row of a sequence has all of them.
                    let look_in_order = |first: usize| {
                        if first == 0 || sequence(first - 1) != sequence(first) {
                            (first..rows).take_while(|&r| sequence(r) == sequence(first)).for_each(look);
                        }
                    };
                    // One row takes less time than waking the others.
                    match rows {
                        1 => look(0),
                        _ if in_order => team.pool.for_each(team.locals, rows, |_, r| look_in_order(r)),
                        _ => team.pool.for_each(team.locals, rows, |_, r| look(r)),
                    }
                }
            }
            check(positions)?;
        }
        for token in batch {
            sequences[token.sequence].push(token.token);
        }
        Ok(())
    }
}
