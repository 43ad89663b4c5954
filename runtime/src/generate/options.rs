//! How a text is continued, and why it ends.

use std::sync::Arc;

use crate::constraint::Grammar;
use crate::sampler::{SamplerOptions, SamplerState};
use crate::setters::setters;

/// How to continue a text.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Where the sampler of an earlier text was that the prompt ends with ([`Finished::sampler`]): then this text goes
    /// on as that one would have, with the same [`GenerateOptions::sampler`].
    ///
    /// [`Finished::sampler`]: super::Finished::sampler
    pub resume: Option<SamplerState>,
    /// Stop strings: the text ends before the first of them.
    pub stops: Vec<String>,
    /// Strings that the text must not contain. When one is complete, the text goes back to the token in which it
    /// begins, and another one is drawn there; nothing before it changes. They are looked for before stop strings.
    /// Where a grammar leaves nothing else, the text fails.
    pub bans: Vec<String>,
    /// Tokens that end the text, besides those that the model ends texts with.
    pub stop_tokens: Vec<u32>,
    /// Never to draw a token that the model ends texts with, so that the text goes on to its limit. It counts as a bias
    /// of −∞ in [`SamplerOptions::logit_bias`]; a text with a grammar ends with it all the same.
    pub ignore_end: bool,
    /// Control tokens that are spelled out in the text, for whoever reads it to see them: `<|python_tag|>`. The others
    /// put nothing into it.
    pub spelled: Vec<u32>,
    /// The most tokens to write; `None` leaves it to the model and the context. With 0 the prompt is read and nothing
    /// is written.
    pub max_tokens: Option<usize>,
    /// Whether to tell how likely each token was. That costs a pass over the vocabulary for each.
    pub logprobs: bool,
    /// How many of the likeliest tokens to tell in each place; 0 for none.
    pub top_logprobs: usize,
    /// Tokens of which it is told in each place how likely they were, behind the likeliest, unless they are among them.
    /// These are always the model's own probabilities.
    pub watched: Vec<u32>,
    /// What the text may be; `None` for anything. Tokens that end a text are drawn only where the grammar lets it end,
    /// so a text that ends with [`StopReason::End`] is one of the grammar's. The probabilities that are told remain
    /// those of the model.
    pub grammar: Option<Arc<dyn Grammar>>,
    /// Whether the grammar is for the answer alone: where the end of the prompt has opened thoughts (`<think>`), it
    /// holds from what closes them on.
    pub after_thoughts: bool,
    /// The most tokens that the model may think (`<think>`, `[THINK]`), whether the prompt has opened the thoughts or
    /// the text does: after them the mark that closes thoughts comes next, as part of the text, and with 0 at once.
    /// `None` leaves it to the model.
    pub thinking_budget: Option<usize>,
    /// Whether to tell how likely each token of the prompt was after those before it ([`Event::Prompt`]), with as many
    /// of the likeliest as [`GenerateOptions::top_logprobs`] says. Then all of the prompt is read, whatever is kept of
    /// it, and each of its tokens costs the products and the pass over the vocabulary that a written one does.
    ///
    /// [`Event::Prompt`]: super::Event::Prompt
    pub prompt_logprobs: bool,
    /// Whether the probabilities of written tokens are those of the draw, after penalties, truncation and temperature,
    /// and not the model's own.
    pub sampled_logprobs: bool,
}

impl GenerateOptions {
    /// With this sampler, and everything else as by default.
    pub fn new(sampler: SamplerOptions) -> GenerateOptions {
        GenerateOptions { sampler, ..GenerateOptions::default() }
    }
}

setters!(GenerateOptions {
    sampler: SamplerOptions,
    resume: impl Into<Option<SamplerState>>,
    stops: impl Into<Vec<String>>,
    bans: impl Into<Vec<String>>,
    stop_tokens: impl Into<Vec<u32>>,
    ignore_end: bool,
    spelled: impl Into<Vec<u32>>,
    max_tokens: impl Into<Option<usize>>,
    logprobs: bool,
    top_logprobs: usize,
    watched: impl Into<Vec<u32>>,
    grammar: impl Into<Option<Arc<dyn Grammar>>>,
    after_thoughts: bool,
    thinking_budget: impl Into<Option<usize>>,
    prompt_logprobs: bool,
    sampled_logprobs: bool,
});

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// A token that ends a text.
    End,
    /// A stop string.
    StopString,
    /// [`GenerateOptions::max_tokens`].
    Limit,
    /// The context is full.
    ContextFull,
    /// It was ended early: whoever asked for it has cancelled.
    Cancelled,
    /// [`Request::deadline`](super::Request::deadline).
    Deadline,
}

impl StopReason {
    /// One word for it, as for a log.
    pub fn name(self) -> &'static str {
        match self {
            StopReason::End => "end",
            StopReason::StopString => "stop",
            StopReason::Limit => "limit",
            StopReason::ContextFull => "context",
            StopReason::Cancelled => "cancelled",
            StopReason::Deadline => "deadline",
        }
    }
}
