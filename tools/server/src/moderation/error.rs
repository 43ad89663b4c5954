//! Why a guard cannot be asked.

use quipu_constrain::ShapeError;
use quipu_runtime::chat::ChatError;

use crate::error::ApiError;

/// Why a guard cannot be asked, or has given no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModerationError {
    /// A text that is no policy.
    #[error("line {line}: {problem}")]
    Policy {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A category that is not there.
    #[error("there is no category {code}; there are {known}")]
    NoCategory {
        /// What was asked for.
        code: String,
        /// What there is.
        known: String,
    },
    /// Nothing is left that could be violated.
    #[error("no category is left")]
    Empty,
    /// A model that is no guard, as far as its files say.
    #[error(
        "{model} is no guard that is known: neither has its chat template a list of categories between <BEGIN UNSAFE \
         CONTENT CATEGORIES> and <END UNSAFE CONTENT CATEGORIES>, nor is it called Llama Guard"
    )]
    NoGuard {
        /// The model.
        model: String,
    },
    /// The words by which a guard answers begin with the same token, or with several.
    #[error("{model} is no guard: its vocabulary cannot tell `safe` and `unsafe` apart by one token")]
    Vocabulary {
        /// The model.
        model: String,
    },
    /// There is nothing to be judged.
    #[error("there is no message of the {side} to be judged")]
    Nothing {
        /// Whose.
        side: &'static str,
    },
    /// The template cannot take the conversation.
    #[error("the guard's template cannot take the conversation: {0}")]
    Chat(#[from] ChatError),
    /// The template does not print what it is to judge.
    #[error("the guard's template leaves out what it is to judge")]
    LeftOut,
    /// The conversation does not fit.
    #[error("the question to the guard has {tokens} tokens, and there is room for {context}")]
    TooLong {
        /// Tokens of the question.
        tokens: usize,
        /// Tokens that there is room for.
        context: usize,
    },
    /// The answers cannot be kept to their form.
    #[error("the guard's answer cannot be kept to its form: {0}")]
    Shape(#[from] ShapeError),
    /// The model has not come to an end.
    #[error("the guard has given no whole answer, but {0:?}")]
    NoAnswer(String),
}

impl From<ModerationError> for ApiError {
    fn from(error: ModerationError) -> ApiError {
        match error {
            ModerationError::TooLong { tokens, context } => ApiError::exceeds_context(tokens, context),
            ModerationError::NoGuard { .. } | ModerationError::Vocabulary { .. } => {
                ApiError { param: Some("model".into()), ..ApiError::bad_request(error.to_string()) }
            }
            ModerationError::Nothing { .. } => ApiError::bad_request(error.to_string()),
            ModerationError::Chat(error) => error.into(),
            _ => ApiError::internal(error.to_string()),
        }
    }
}
