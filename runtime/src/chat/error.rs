//! Why a conversation could not be put into words.

/// Why a conversation could not be rendered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The model has no template: most likely a base model.
    #[error("this model has no chat template: it completes text and was not trained to converse")]
    NoTemplate,
    /// The template is no Jinja that we know.
    #[error("the chat template cannot be parsed: {0}")]
    Syntax(String),
    /// The template itself refused the conversation, by `raise_exception`.
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
    /// Something failed while rendering.
    #[error("the chat template failed: {0}")]
    Render(String),
    /// No messages.
    #[error("a conversation needs at least one message")]
    Empty,
    /// The last turn alone, with the system's message, leaves too little room for an answer.
    #[error("this turn has {tokens} tokens, too many for a context of {context}")]
    TooLong {
        /// Tokens of the turn.
        tokens: usize,
        /// Tokens that the context holds.
        context: usize,
    },
}
