//! Why a text could not be continued.

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
    /// The code that draws a token panicked while it drew one of this text.
    #[error("drawing a token of this text panicked")]
    Panicked,
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
