//! A model's predictions of a text that is cut into chunks by llama.cpp's method.

use quipu_runtime::Engine;
use quipu_runtime::host::memory;
use quipu_runtime::softmax::log_probability;
use quipu_runtime::tokenizer::Tokenizer;

use crate::error::MeasureError;
use crate::statistics::Mean;

/// A text's tokens in chunks of the same length. The first token of each is the beginning-of-text token if the model
/// uses one.
pub(crate) struct Chunks {
    tokens: Vec<u32>,
    len: usize,
}

impl Chunks {
    /// The first `most` chunks of `len` tokens of `text`.
    pub(crate) fn new(
        tokenizer: &Tokenizer,
        text: &str,
        len: usize,
        most: Option<usize>,
    ) -> Result<Chunks, MeasureError> {
        // With so many tokens one is predicted.
        const LEAST: usize = 4;
        if len < LEAST {
            return Err(MeasureError::ShortChunk { len, least: LEAST });
        }
        let mut tokens = tokenizer.encode(text, true, false);
        // One chunk says little. llama.cpp refuses it, too, so there is no figure of its to compare with.
        let (found, needed) = (tokens.len(), len.saturating_mul(2));
        if found < needed {
            return Err(MeasureError::ShortText { found, chunk: len, needed });
        }
        let count = (found / len).min(most.unwrap_or(usize::MAX));
        if count == 0 {
            return Err(MeasureError::NoChunks);
        }
        tokens.truncate(count * len);
        begin_with_bos(tokenizer, &mut tokens, len);
        Ok(Chunks { tokens, len })
    }

    /// Whether there is memory for all that is predicted in a chunk over a vocabulary of so many tokens.
    pub(crate) fn check_memory(&self, vocabulary: usize) -> Result<(), MeasureError> {
        let needed = (self.places() as u64).saturating_mul(vocabulary as u64).saturating_mul(size_of::<f32>() as u64);
        Ok(memory::check(needed, || format!("what is predicted in a chunk of {} tokens", self.len))?)
    }

    /// The chunks.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.tokens.chunks_exact(self.len)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.tokens.len() / self.len
    }

    /// Tokens that are predicted in a chunk: those of its second half, except the first.
    pub(crate) fn places(&self) -> usize {
        self.len - self.len / 2 - 1
    }
}

/// Puts the beginning-of-text token, if the model uses one, in the place of the first token of each chunk of `len`.
pub(crate) fn begin_with_bos(tokenizer: &Tokenizer, tokens: &mut [u32], len: usize) {
    if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
        tokens.chunks_exact_mut(len).for_each(|chunk| chunk[0] = bos);
    }
}

/// Reads a chunk and calls `see(place, logits)` with the model's prediction at each place of its second half, several
/// calls at once; returns their results, place by place. `nll` gets the negative log-likelihood of each token that
/// stands there.
pub(crate) fn predict<T: Send + Sync>(
    engine: &mut Engine,
    chunk: &[u32],
    nll: &mut Mean,
    see: impl Fn(usize, &[f32]) -> T + Sync,
) -> Result<Vec<T>, MeasureError> {
    let first = chunk.len() / 2;
    let mut sequence = engine.new_sequence();
    let found = engine.score_each(&mut sequence, chunk, first, |i, logits| {
        let next = *chunk.get(i + 1)?;
        Some((-log_probability(logits, next), see(i - first, logits)))
    })?;
    let add = |(value, seen)| {
        nll.add(value);
        seen
    };
    Ok(found.into_iter().flatten().map(add).collect())
}

/// Whether the predictions of two models compare: both have the same tokens.
pub(crate) fn same_vocabulary(a: &Tokenizer, b: &Tokenizer) -> bool {
    let tokens = a.vocab_size();
    tokens == b.vocab_size() && (0..tokens as u32).all(|id| a.token_bytes(id, true) == b.token_bytes(id, true))
}
