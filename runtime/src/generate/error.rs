//! Why a text could not be continued.

use crate::constraint::ConstraintError;
use crate::engine::EngineError;
use crate::sampler::SamplerError;

/// Why a text could not be continued.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The forward pass failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The sampler's options, or the logits, are bad.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// Whatever could come next would write a string that must not be written.
    #[error("nothing may come next in this text that does not write a banned string")]
    OnlyBanned,
    /// The text cannot go on in its grammar.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// The code that draws a token, or makes a vector, panicked while it did so for this text.
    #[error("the code that works on this text panicked")]
    Panicked,
    /// Whoever asked for it does not want it any more. (A text that is written then has [ended], and did not fail.)
    ///
    /// [ended]: super::StopReason::Cancelled
    #[error("it was cancelled")]
    Cancelled,
    /// There is nothing to continue.
    #[error("the prompt is empty, and this model has no token that begins a text: give it a text to continue")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error("the prompt has {tokens} tokens, but the context holds only {context}")]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
    /// The memory that is set aside for keys and values can't hold the text, not even alone.
    #[error(
        "the keys and values of {tokens} tokens take {} MB, but only {} MB may be used for them",
        .needed.div_ceil(1_000_000), .budget / 1_000_000
    )]
    KvMemory {
        /// Tokens to be read, and one to be written.
        tokens: usize,
        /// Bytes that they take.
        needed: u64,
        /// Bytes that there are: [`SchedulerOptions::kv_memory`](super::SchedulerOptions::kv_memory), less what
        /// sequences hold that were handed out.
        budget: u64,
    },
}
