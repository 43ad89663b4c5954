//! What is asked of the scheduler, and what it tells.

use std::fmt;
use std::time::{Duration, Instant};

use super::error::GenerateError;
use super::options::{GenerateOptions, StopReason};
use super::token::Token;
use crate::adapters::Adapters;
use crate::cancel::Cancel;
use crate::kv::{NearMiss, Sequence};
use crate::sampler::SamplerState;
use crate::setters::setters;

/// A text to be continued.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// The prompt.
    pub tokens: Vec<u32>,
    /// How it is continued.
    pub options: GenerateOptions,
    /// Ends the text early; may be raised from any thread, at any time. A clone of the request has the same flag.
    pub cancel: Cancel,
    /// The adapters that it is read and continued with.
    pub adapters: Adapters,
    /// A sequence of the same engine that was read with the same adapters, to be reused: the tokens with which both it
    /// and the prompt begin are not read again, and what it holds beyond them is forgotten.
    pub sequence: Option<Sequence>,
    /// When the text ends at the latest, [`StopReason::Deadline`]: looked at once a step, also while it waits.
    pub deadline: Option<Instant>,
}

impl Request {
    /// Continues `tokens`, from an empty sequence.
    pub fn new(tokens: Vec<u32>, options: GenerateOptions) -> Request {
        Request {
            tokens,
            options,
            cancel: Cancel::new(),
            adapters: Adapters::default(),
            sequence: None,
            deadline: None,
        }
    }
}

setters!(Request {
    cancel: Cancel,
    adapters: Adapters,
    sequence: impl Into<Option<Sequence>>,
    deadline: impl Into<Option<Instant>>,
});

/// Which request an event is about: a number that its scheduler gives out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Tokens that went through the model, and the time of the steps in which they did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// The tokens.
    pub tokens: usize,
    /// The time. A step that served several requests counts in full for each.
    pub time: Duration,
}

/// Tokens of a text that were guessed and read ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drafted {
    /// All of them.
    pub tokens: usize,
    /// Those that were right: each has saved a step.
    pub accepted: usize,
}

/// What has happened to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Its turn has come; the first event of a request that is served.
    Started {
        /// Tokens of the prompt that need not be read: the request's sequence held them, or another text had them.
        cached: usize,
        /// Where a text that is kept parts from this one, which has to be read from there on: what changed?
        near_miss: Option<NearMiss>,
    },
    /// A piece of the prompt was read, and there is more of it.
    Prefill {
        /// Tokens of the prompt that are read, those included that a sequence held already.
        read: usize,
        /// All tokens of the prompt.
        total: usize,
    },
    /// The next tokens of the prompt with their probabilities, if [`GenerateOptions::prompt_logprobs`] asked for them;
    /// their `text` is empty, and the first has no probability, since nothing stands before it.
    Prompt(Vec<Token>),
    /// A token was written.
    Token(Token),
    /// The text has ended; the last event of its request.
    Finished(Finished),
    /// The vectors that were asked for, one for each text; the last event of their request.
    Embedded(Vec<Vec<f32>>),
    /// The text cannot be continued; the last event of its request.
    Failed(Failed),
}

impl Event {
    /// Whether it hands out a sequence, which holds pages.
    pub(super) fn has_sequence(&self) -> bool {
        match self {
            Event::Finished(finished) => !finished.sequence.is_empty(),
            Event::Failed(failed) => failed.sequence.as_ref().is_some_and(|sequence| !sequence.is_empty()),
            _ => false,
        }
    }
}

/// A text that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finished {
    /// The text that was still held back.
    pub text: String,
    /// Why it ended.
    pub stop: StopReason,
    /// The stop string that ended it.
    pub stop_string: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that did not have to be read: the request's sequence held them, or they were kept from another
    /// text.
    pub cached_tokens: usize,
    /// Reading the prompt, and drawing the first token.
    pub prefill: Timing,
    /// Reading what was written, and drawing what comes next. The first token is drawn after the prompt and the last
    /// one drawn is not read, so of `n` tokens drawn, [`StopReason::End`]'s included, `n - 1` went through the model.
    pub decode: Timing,
    /// What was read once more, since its pages had been taken for others meanwhile.
    pub recomputed: Timing,
    /// Tokens that were guessed and read ahead: those that were right are in `decode`, too.
    pub drafted: Drafted,
    /// The prompt, and what was written.
    pub tokens: Vec<u32>,
    /// Where the sampler is, for a later request that goes on from here ([`GenerateOptions::resume`]).
    pub sampler: SamplerState,
    /// What was read, for the same.
    pub sequence: Sequence,
}

/// A request that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
#[error("{error}")]
pub struct Failed {
    /// Why.
    #[source]
    pub error: GenerateError,
    /// The request's sequence with what was read, if it had one or was begun.
    pub sequence: Option<Sequence>,
}
