//! The loop that writes: sample a token, show its text, feed it back.

use std::time::{Duration, Instant};

use crate::chat::one_bos;
use crate::engine::{Engine, EngineError};
use crate::kv::Sequence;
use crate::sampler::{Sampler, SamplerError, SamplerOptions, StopMatcher, log_probability};
use crate::tokenizer::{TextStream, Tokenizer};

/// Tokens of a prompt that are read at once. Between two such pieces the caller may stop; the result does not depend on
/// them.
const PIECE: usize = 512;

/// How to continue a text.
#[derive(Clone, Debug, Default)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Strings before which the text ends.
    pub stops: Vec<String>,
    /// Tokens that end the text, besides those that the model ends texts with.
    pub stop_tokens: Vec<u32>,
    /// The most tokens to write; `None` leaves it to the model and the context.
    pub max_tokens: Option<usize>,
    /// Whether to tell how likely each token was. That costs a pass over the vocabulary for each.
    pub logprobs: bool,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A token that ends a text.
    End,
    /// A stop string.
    StopString,
    /// [`GenerateOptions::max_tokens`].
    Limit,
    /// The context is full.
    ContextFull,
    /// Whoever asked for the text stopped asking.
    Cancelled,
}

impl StopReason {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::End => "end",
            StopReason::StopString => "stop",
            StopReason::Limit => "limit",
            StopReason::ContextFull => "context",
            StopReason::Cancelled => "cancelled",
        }
    }
}

/// Why a text could not be continued.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The forward pass failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The sampler's options, or the logits, are bad.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// There is nothing to continue.
    #[error("the prompt is empty, and this model knows no token that begins a text")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error("the prompt has {tokens} tokens, but the context holds only {context}")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
}

/// The tokens of a prompt: those of the text, after one BOS if the model wants it. No EOS: the text goes on. With
/// `parse_special` the names of special tokens in it stand for those tokens.
pub fn prompt_tokens(tokenizer: &Tokenizer, text: &str, parse_special: bool) -> Vec<u32> {
    let mut tokens = tokenizer.encode(text, false, parse_special);
    one_bos(&mut tokens, tokenizer.bos(), tokenizer.add_bos());
    tokens
}

/// One token written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The token.
    pub id: u32,
    /// The text that is certain now. It may be less than the token's own (a character in pieces, the beginning of a
    /// stop string), or more, when earlier text was held back.
    pub text: String,
    /// The natural logarithm of the token's probability under the model, before penalties, truncation and temperature;
    /// if [`GenerateOptions::logprobs`] asked for it.
    pub logprob: Option<f64>,
}

/// Tokens that went through the model, and the time they took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Span {
    /// The tokens.
    pub tokens: usize,
    /// The time.
    pub time: Duration,
}

/// A text being written: call [`Generation::next`] until there is no more, then [`Generation::finish`].
pub struct Generation<'a> {
    engine: &'a mut Engine,
    sequence: &'a mut Sequence,
    tokenizer: &'a Tokenizer,
    sampler: Sampler,
    stops: StopMatcher,
    stream: TextStream<'a>,
    logits: Vec<f32>,
    /// The last token written, which has not been through the model yet.
    pending: Option<u32>,
    stop_tokens: Vec<u32>,
    logprobs: bool,
    left: Option<usize>,
    stop: Option<StopReason>,
    prefill: Span,
    decode: Span,
}

impl<'a> Generation<'a> {
    /// Reads `tokens`, of which `sequence` may hold a beginning already, and makes ready to continue them. The
    /// `tokenizer` is the engine's.
    ///
    /// `keep_going` is asked now and then with the tokens read and those to read; when it says no, the generation has
    /// ended with [`StopReason::Cancelled`] before its first token, and the sequence holds what was read so far.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub fn start(
        engine: &'a mut Engine,
        tokenizer: &'a Tokenizer,
        sequence: &'a mut Sequence,
        tokens: &[u32],
        options: &GenerateOptions,
        mut keep_going: impl FnMut(usize, usize) -> bool,
    ) -> Result<Generation<'a>, GenerateError> {
        let context = engine.context_length();
        if tokens.len() > context {
            return Err(GenerateError::PromptTooLong { tokens: tokens.len(), context });
        }
        let mut sampler = Sampler::new(options.sampler.clone())?;
        tokens.iter().for_each(|&token| sampler.accept(token));
        // The logits come from reading the last token, so that must be read now even if the sequence holds it.
        sequence.truncate(tokens.len().saturating_sub(1));
        let unread = &tokens[sequence.len()..];
        let mut generation = Generation {
            engine,
            sequence,
            tokenizer,
            sampler,
            stops: StopMatcher::new(options.stops.iter().cloned())?,
            stream: TextStream::continuing(tokenizer, false),
            logits: Vec::new(),
            pending: None,
            stop_tokens: options.stop_tokens.clone(),
            logprobs: options.logprobs,
            left: options.max_tokens,
            stop: (options.max_tokens == Some(0)).then_some(StopReason::Limit),
            prefill: Span::default(),
            decode: Span::default(),
        };
        if unread.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let started = Instant::now();
        for piece in unread.chunks(PIECE) {
            if !keep_going(generation.prefill.tokens, unread.len()) {
                generation.stop = Some(StopReason::Cancelled);
                break;
            }
            let logits = generation.engine.prefill(generation.sequence, piece)?;
            generation.logits.clear();
            generation.logits.extend_from_slice(logits);
            generation.prefill.tokens += piece.len();
        }
        generation.prefill.time = started.elapsed();
        Ok(generation)
    }

    /// The next token, or nothing when the text has ended. The token that ends it (`<|eot_id|>`) is not part of the
    /// text.
    ///
    /// # Errors
    /// See [`GenerateError`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Written>, GenerateError> {
        if self.stop.is_some() {
            return Ok(None);
        }
        let started = Instant::now();
        if let Some(token) = self.pending.take() {
            if self.sequence.len() >= self.engine.context_length() {
                self.stop = Some(StopReason::ContextFull);
                return Ok(None);
            }
            self.logits.clear();
            self.logits.extend_from_slice(self.engine.decode(self.sequence, token)?);
            self.decode.tokens += 1;
        }
        let id = self.sampler.sample(&self.logits)?;
        let logprob = self.logprobs.then(|| log_probability(&self.logits, id));
        self.decode.time += started.elapsed();
        if self.tokenizer.is_end_of_generation(id) || self.stop_tokens.contains(&id) {
            self.stop = Some(StopReason::End);
            return Ok(None);
        }
        self.sampler.accept(id);
        self.pending = Some(id);
        let (text, stopped) = self.stops.push(&self.stream.push(id));
        self.left = self.left.map(|n| n - 1);
        if stopped {
            self.stop = Some(StopReason::StopString);
        } else if self.left == Some(0) {
            self.stop = Some(StopReason::Limit);
        }
        Ok(Some(Written { id, text, logprob }))
    }

    /// The text that was still held back, and why the text ended.
    pub fn finish(mut self) -> (String, StopReason) {
        let stop = self.stop.unwrap_or(StopReason::Cancelled);
        if stop == StopReason::StopString {
            return (String::new(), stop);
        }
        let (mut text, stopped) = self.stops.push(&self.stream.finish());
        if !stopped {
            text.push_str(&self.stops.finish());
        }
        (text, stop)
    }

    /// Reading the prompt.
    pub fn prefill(&self) -> Span {
        self.prefill
    }

    /// Feeding back what was written, and sampling. The first token comes from the prompt's logits and the last is not
    /// fed back, so of `n` tokens written `n - 1` went through the model.
    pub fn decode(&self) -> Span {
        self.decode
    }
}
