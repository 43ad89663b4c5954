//! A text being written, without the engine.

use std::sync::Arc;

use super::error::GenerateError;
use super::options::{GenerateOptions, StopReason};
use crate::constraint::{Ahead, Next, TokenMask};
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
    /// The natural logarithm of the token's probability under the model, before penalties, truncation and temperature,
    /// unless [`GenerateOptions::sampled_logprobs`] wanted them; if [`GenerateOptions::logprobs`] asked for it.
    pub logprob: Option<f64>,
    /// The likeliest tokens in its place with the logarithms of their probabilities, the likeliest first: as many as
    /// [`GenerateOptions::top_logprobs`] asked for; and behind them those that are [watched](GenerateOptions::watched).
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
/// penalties have seen, the place in the grammar, held-back text, limits. So what is written after a rollback is what
/// would have been written if the tokens rolled back had never been drawn.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The prompt, and what was written after it.
    tokens: Vec<u32>,
    /// How many of them have been read.
    read: usize,
    prompt: usize,
    context: usize,
    /// The tokens that end it.
    ends: Arc<[u32]>,
    logprobs: bool,
    top_logprobs: usize,
    watched: Arc<[u32]>,
    prompt_logprobs: bool,
    sampled_logprobs: bool,
    writer: Writer,
}

/// What writing changes, besides the tokens.
#[derive(Clone, Debug)]
struct Writer {
    sampler: Sampler,
    /// Its place in the grammar, if it has one.
    grammar: Option<Ahead>,
    stops: StopMatcher,
    stream: TextStream<Arc<Tokenizer>>,
    /// Tokens that may still be written.
    left: Option<usize>,
    stop: Option<StopReason>,
}

/// What the next token is drawn from, with the logarithms of its probabilities, the likeliest first; none is there that
/// could not be drawn.
fn distribution(sampler: &Sampler, logits: &[f32], mask: Option<&TokenMask>) -> Result<Vec<(u32, f64)>, SamplerError> {
    let all = match mask {
        None => sampler.distribution(logits)?,
        Some(mask) => {
            let among = |(&logit, id)| if mask.contains(id) { logit } else { f32::NEG_INFINITY };
            sampler.distribution(&logits.iter().zip(0..).map(among).collect::<Vec<f32>>())?
        }
    };
    Ok(all.into_iter().filter(|&(_, p)| p > 0.0).map(|(id, p)| (id, libm::log(p))).collect())
}

/// The `n` likeliest tokens, if any are wanted.
fn likeliest(logits: &[f32], n: usize) -> Vec<(u32, f64)> {
    if n == 0 { Vec::new() } else { top_log_probabilities(logits, n) }
}

impl Token {
    /// The first token of a prompt, which nothing stands before.
    pub(super) fn first_of_prompt(id: u32) -> Token {
        Token { id, text: String::new(), logprob: None, top_logprobs: Vec::new() }
    }

    /// Token `id` of a prompt, with the `n` likeliest in its place.
    pub(super) fn of_prompt(id: u32, logits: &[f32], n: usize) -> Token {
        let logprob = Some(log_probability(logits, id));
        Token { id, text: String::new(), logprob, top_logprobs: likeliest(logits, n) }
    }
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
        // Where a grammar has come to its end, nothing else is left.
        if options.ignore_end && options.grammar.is_none() {
            sampler.logit_bias.extend(tokenizer.ends().map(|id| (id, f32::NEG_INFINITY)));
        }
        let mut sampler = Sampler::for_tokenizer(sampler, &tokenizer)?;
        let stops = StopMatcher::new(options.stops.iter().cloned())?;
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        prompt.iter().for_each(|&token| sampler.accept(token));
        let ends: Arc<[u32]> = tokenizer.ends().chain(options.stop_tokens.iter().copied()).collect();
        let grammar = options.grammar.as_deref();
        let grammar = grammar.map(|grammar| Ahead::new(grammar, tokenizer.vocab_size(), ends.clone())).transpose()?;
        let stream = TextStream::continuing(tokenizer, false).spelling(options.spelled.as_slice());
        Ok(Generation {
            read: 0,
            prompt: prompt.len(),
            tokens: prompt,
            context,
            ends,
            logprobs: options.logprobs,
            top_logprobs: options.top_logprobs,
            watched: options.watched.as_slice().into(),
            prompt_logprobs: options.prompt_logprobs,
            sampled_logprobs: options.sampled_logprobs,
            writer: Writer { sampler, grammar, stops, stream, left: options.max_tokens, stop: None },
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

    /// The place in the grammar where the next token is drawn, if there is one and it is wanted.
    pub(super) fn grammar(&self) -> Option<&Ahead> {
        self.writer.grammar.as_ref().filter(|_| self.wants_logits())
    }

    /// Takes the logits after all tokens so far and writes the next one. `None` for a token that ends the text, such as
    /// `<|eot_id|>`, which is not part of it.
    ///
    /// # Errors
    /// [`GenerateError::Sampler`]: the logits are no good. [`GenerateError::Constraint`]: nothing can follow in the
    /// grammar.
    pub fn take_logits(&mut self, logits: &[f32]) -> Result<Option<Token>, GenerateError> {
        let tell = self.sampled_logprobs && (self.logprobs || self.top_logprobs > 0);
        let (n, mut told) = (self.top_logprobs, None);
        let Writer { sampler, grammar, .. } = &mut self.writer;
        let mut draw = |sampler: &mut Sampler, mask: Option<&TokenMask>| -> Result<u32, SamplerError> {
            if tell {
                told = Some(distribution(sampler, logits, mask)?);
            }
            match mask {
                Some(mask) => sampler.sample_among(logits, mask),
                None => sampler.sample(logits),
            }
        };
        let id = match grammar {
            None => Some(draw(sampler, None)?),
            Some(grammar) => grammar.draw(|next| match next {
                Next::Forced(token) => Ok::<_, GenerateError>(Some(sampler.force(token).map(|()| token)?)),
                Next::Among(mask) => Ok(Some(draw(sampler, Some(mask))?)),
                Next::End => Ok(None),
            })?,
        };
        let Some(id) = id.filter(|id| !self.ends.contains(id)) else {
            self.writer.stop = Some(StopReason::End);
            return Ok(None);
        };
        let (logprob, mut top_logprobs) = match told {
            Some(all) => {
                let drawn = all.iter().find(|&&(other, _)| other == id).map_or(f64::NEG_INFINITY, |&(_, log)| log);
                (drawn, all.into_iter().take(n).collect())
            }
            // Nothing else could be drawn.
            None if tell => (0.0, [(id, 0.0)].into_iter().take(n).collect()),
            None if self.logprobs => (log_probability(logits, id), likeliest(logits, n)),
            None => (0.0, likeliest(logits, n)),
        };
        for &watched in &*self.watched {
            if !top_logprobs.iter().any(|&(told, _)| told == watched) {
                top_logprobs.push((watched, log_probability(logits, watched)));
            }
        }
        let logprob = self.logprobs.then_some(logprob);
        Ok(Some(self.write(id, logprob, top_logprobs)))
    }

    /// Writes the next token without logits, if the grammar lets no other come next and nobody wants to know how likely
    /// it is. It is the token that [`Generation::take_logits`] would have written, with the same random numbers.
    pub fn take_forced(&mut self) -> Option<Token> {
        let wants_logits = self.logprobs || self.top_logprobs > 0 || !self.watched.is_empty();
        let Writer { sampler, grammar, stop, .. } = &mut self.writer;
        let grammar = grammar.as_ref().filter(|_| !wants_logits && stop.is_none())?;
        let id = grammar.draw_forced(|token| sampler.force(token))?;
        Some(self.write(id, None, Vec::new()))
    }

    /// Adds a token to the text.
    fn write(&mut self, id: u32, logprob: Option<f64>, top_logprobs: Vec<(u32, f64)>) -> Token {
        let writer = &mut self.writer;
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
        Token { id, text, logprob, top_logprobs }
    }

    /// Whether token number `i` is one of the prompt whose probability is wanted: that takes the logits after the token
    /// before it.
    pub(super) fn is_scored(&self, i: usize) -> bool {
        self.prompt_logprobs && i < self.prompt
    }

    /// Whether the probabilities of the prompt's tokens are wanted.
    pub(super) fn scores_prompt(&self) -> bool {
        self.prompt_logprobs
    }

    /// Token number `i`, and how many of the likeliest in its place are wanted.
    pub(super) fn scored(&self, i: usize) -> (u32, usize) {
        (self.tokens[i], self.top_logprobs)
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
