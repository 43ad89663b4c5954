//! A text being written, without the engine.

use std::sync::Arc;

use super::error::GenerateError;
use super::options::{GenerateOptions, StopReason};
use crate::sampler::{Sampler, SamplerError, StopMatcher, log_probability, top_log_probabilities};
use crate::tokenizer::{TextStream, Tokenizer};

/// One token written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Token {
    /// The token.
    pub id: u32,
    /// The text that became certain with this token. It is less than the token's own text while a character is
    /// incomplete or a stop string may have begun, and more when text was held back before.
    pub text: String,
    /// The natural logarithm of the token's probability under the model, before penalties, truncation and temperature;
    /// if [`GenerateOptions::logprobs`] asked for it.
    pub logprob: Option<f64>,
    /// The likeliest tokens in its place with the logarithms of their probabilities, the likeliest first: as many as
    /// [`GenerateOptions::top_logprobs`] asked for.
    pub top_logprobs: Vec<(u32, f64)>,
}

impl Token {
    /// A token and its text, without probabilities.
    pub fn new(id: u32, text: impl Into<String>) -> Token {
        Token { id, text: text.into(), logprob: None, top_logprobs: Vec::new() }
    }
}

/// A text being written: a state machine that knows no engine.
///
/// Until it has [ended](Generation::stop): read the tokens that it wants ([`Generation::unread`]) in as many pieces as
/// you like, tell how many were read ([`Generation::advance`]), and hand over the logits after the last of them
/// ([`Generation::take_logits`]).
///
/// Everything that writing changes can be kept and restored ([`Generation::checkpoint`]): the random numbers, what the
/// penalties have seen, held-back text, limits. So what is written after a rollback is what would have been written if
/// the tokens rolled back had never been drawn.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The prompt, and what was written after it.
    tokens: Vec<u32>,
    /// How many of them have been read.
    read: usize,
    prompt: usize,
    context: usize,
    stop_tokens: Arc<[u32]>,
    logprobs: bool,
    top_logprobs: usize,
    writer: Writer,
}

/// What writing changes, besides the tokens.
#[derive(Clone, Debug)]
struct Writer {
    sampler: Sampler,
    stops: StopMatcher,
    stream: TextStream<Arc<Tokenizer>>,
    /// Tokens that may still be written.
    left: Option<usize>,
    stop: Option<StopReason>,
}

/// The state of a [`Generation`] at one moment.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What was written.
    written: Vec<u32>,
    read: usize,
    writer: Writer,
}

impl Generation {
    /// Continues `prompt` in at most `context` positions.
    ///
    /// # Errors
    /// See [`GenerateError`].
    pub fn new(
        tokenizer: Arc<Tokenizer>,
        prompt: Vec<u32>,
        options: &GenerateOptions,
        context: usize,
    ) -> Result<Generation, GenerateError> {
        if prompt.len() > context {
            return Err(GenerateError::PromptTooLong { tokens: prompt.len(), context });
        }
        let mut sampler = options.sampler.clone();
        if options.ignore_end {
            sampler.logit_bias.extend(tokenizer.ends().map(|id| (id, f32::NEG_INFINITY)));
        }
        let mut sampler = Sampler::new(sampler)?;
        let stops = StopMatcher::new(options.stops.iter().cloned())?;
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        prompt.iter().for_each(|&token| sampler.accept(token));
        let stream = TextStream::continuing(tokenizer, false).spelling(options.spelled.as_slice());
        Ok(Generation {
            read: 0,
            prompt: prompt.len(),
            tokens: prompt,
            context,
            stop_tokens: options.stop_tokens.as_slice().into(),
            logprobs: options.logprobs,
            top_logprobs: options.top_logprobs,
            writer: Writer { sampler, stops, stream, left: options.max_tokens, stop: None },
        })
    }

    /// The prompt, and what was written after it.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many of the tokens are the prompt.
    pub fn prompt_len(&self) -> usize {
        self.prompt
    }

    /// How many of the tokens have been read.
    pub fn read(&self) -> usize {
        self.read
    }

    /// Whether the prompt has not been read to its end yet.
    pub fn in_prompt(&self) -> bool {
        self.read < self.prompt
    }

    /// The tokens to be read next: what is left of the prompt, or the last token written. None when the text has ended.
    pub fn unread(&self) -> &[u32] {
        if self.writer.stop.is_some() { &[] } else { &self.tokens[self.read..] }
    }

    /// How many more tokens may be written, if there is a limit.
    pub(super) fn left(&self) -> Option<usize> {
        self.writer.left
    }

    /// Notes that all tokens have to be read again.
    pub(super) fn rewind(&mut self) {
        self.read = 0;
    }

    /// Whether the logits after the last unread token are wanted: not when no more tokens may be written.
    pub fn wants_logits(&self) -> bool {
        self.writer.stop.is_none() && self.writer.left != Some(0)
    }

    /// Notes that `n` more tokens have been read: those that [`Generation::unread`] named, or a beginning of the prompt
    /// that a reused sequence holds already. When all are read and no more may be written, the text has ended.
    pub fn advance(&mut self, n: usize) {
        self.read = (self.read + n).min(self.tokens.len());
        if self.read == self.tokens.len() && self.writer.left == Some(0) {
            self.writer.stop.get_or_insert(StopReason::Limit);
        }
    }

    /// Takes the logits after all tokens so far and writes the next one. `None` for a token that ends the text, such as
    /// `<|eot_id|>`, which is not part of it.
    ///
    /// # Errors
    /// [`SamplerError::Logit`] and [`SamplerError::NoCandidate`]: the logits are no good.
    pub fn take_logits(&mut self, logits: &[f32]) -> Result<Option<Token>, SamplerError> {
        let writer = &mut self.writer;
        let id = writer.sampler.sample(logits)?;
        if writer.stream.tokenizer().is_end_of_generation(id) || self.stop_tokens.contains(&id) {
            writer.stop = Some(StopReason::End);
            return Ok(None);
        }
        let logprob = self.logprobs.then(|| log_probability(logits, id));
        let top_logprobs = match self.top_logprobs {
            0 => Vec::new(),
            n => top_log_probabilities(logits, n),
        };
        writer.sampler.accept(id);
        self.tokens.push(id);
        let (text, stopped) = writer.stops.push(&writer.stream.push(id));
        writer.left = writer.left.map(|n| n.saturating_sub(1));
        // To write another one, this token has to be read first, and a full context has no position for it.
        if stopped {
            writer.stop = Some(StopReason::StopString);
        } else if writer.left == Some(0) {
            writer.stop = Some(StopReason::Limit);
        } else if self.tokens.len() > self.context {
            writer.stop = Some(StopReason::ContextFull);
        }
        Ok(Some(Token { id, text, logprob, top_logprobs }))
    }

    /// Why the text has ended, if it has.
    pub fn stop(&self) -> Option<StopReason> {
        self.writer.stop
    }

    /// The stop string that ended the text, if one did. ([`Generation::finish`] may find one in the text that was held
    /// back.)
    pub fn stop_string(&self) -> Option<&str> {
        self.writer.stops.reached()
    }

    /// Ends the text if it has not ended yet, [`StopReason::Cancelled`]. Returns the text that was still held back, and
    /// why the text ended.
    pub fn finish(self) -> (String, StopReason) {
        let Writer { mut stops, stream, stop, .. } = self.writer;
        let stop = stop.unwrap_or(StopReason::Cancelled);
        if stop == StopReason::StopString {
            return (String::new(), stop);
        }
        let (mut text, stopped) = stops.push(&stream.finish());
        if !stopped {
            text.push_str(&stops.finish());
        }
        (text, stop)
    }

    /// The state at this moment.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { written: self.tokens[self.prompt..].to_vec(), read: self.read, writer: self.writer.clone() }
    }

    /// Goes back to an earlier moment of this text. (What the caller's sequence has read since then, it has to forget:
    /// [`Sequence::truncate`](crate::Sequence::truncate).)
    ///
    /// # Panics
    /// If the checkpoint is not an earlier moment of this text: one of another text, or of tokens that have been rolled
    /// back since.
    pub fn roll_back(&mut self, checkpoint: Checkpoint) {
        let written = &self.tokens[self.prompt..];
        assert!(written.starts_with(&checkpoint.written), "the checkpoint is not an earlier moment of this text");
        self.tokens.truncate(self.prompt + checkpoint.written.len());
        self.read = checkpoint.read;
        self.writer = checkpoint.writer;
    }
}
