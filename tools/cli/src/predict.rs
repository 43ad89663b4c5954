//! A model's predictions of a text, cut into pieces by llama.cpp's method: what `perplexity` and `compare` measure.

use anyhow::{Context, Result, ensure};
use quipu_runtime::Engine;
use quipu_runtime::softmax::log_probability;
use quipu_runtime::tokenizer::Tokenizer;

use crate::statistics::Mean;

/// A text's tokens in pieces of the same length. The first token of each is the beginning-of-text token if the model
/// uses one.
pub struct Pieces {
    tokens: Vec<u32>,
    len: usize,
}

impl Pieces {
    /// The first `most` pieces of `len` tokens of `text`.
    pub fn new(tokenizer: &Tokenizer, text: &str, len: usize, most: Option<usize>) -> Result<Pieces> {
        ensure!(len >= 4, "-c {len}: a piece needs at least 4 tokens");
        let mut tokens = tokenizer.encode(text, true, false);
        // One piece says little, so llama.cpp asks for two; that keeps figures from being compared that should not be.
        let (found, needed) = (tokens.len(), 2 * len);
        ensure!(found >= needed, "the text has {found} tokens, but -c {len} needs at least {needed}");
        let count = (found / len).min(most.unwrap_or(usize::MAX));
        ensure!(count > 0, "--chunks 0: there is nothing to measure");
        tokens.truncate(count * len);
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
            tokens.chunks_exact_mut(len).for_each(|piece| piece[0] = bos);
        }
        Ok(Pieces { tokens, len })
    }

    /// The pieces.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.tokens.chunks_exact(self.len)
    }

    /// Tokens that are predicted in a piece: its second half but for the first of that.
    pub fn places(&self) -> usize {
        self.len - self.len / 2 - 1
    }
}

/// Reads a piece and calls `see(place, logits)` for what the model predicts at each place of its second half, several
/// at once; returns what that made of them. `nll` gets the negative log-likelihoods of what stands there.
pub fn predict<T: Send + Sync>(
    engine: &mut Engine,
    piece: &[u32],
    nll: &mut Mean,
    see: impl Fn(usize, &[f32]) -> T + Sync,
) -> Result<Vec<T>> {
    let first = piece.len() / 2;
    let mut sequence = engine.new_sequence();
    let found = engine
        .score_each(&mut sequence, piece, first, |i, logits| {
            let next = *piece.get(i + 1)?;
            Some((-log_probability(logits, next), see(i - first, logits)))
        })
        .context("cannot score the text")?;
    let add = |(value, seen)| {
        nll.add(value);
        seen
    };
    Ok(found.into_iter().flatten().map(add).collect())
}

/// What two models must have in common for their predictions to compare.
pub fn same_vocabulary(a: &Tokenizer, b: &Tokenizer) -> bool {
    let tokens = a.vocab_size();
    tokens == b.vocab_size() && (0..tokens as u32).all(|id| a.token_bytes(id, true) == b.token_bytes(id, true))
}

/// What to say after `done` of `all` steps that took `seconds`.
pub fn seconds_left(seconds: f64, done: usize, all: usize) -> String {
    format!("{:.0} s left", seconds / done as f64 * (all - done) as f64)
}
