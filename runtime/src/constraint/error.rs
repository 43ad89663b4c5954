//! Why a text cannot go on in its grammar.

/// Why a text cannot go on in its grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The grammar wants more text, and no token of the vocabulary brings it.
    #[error("the grammar does not let the text end here, and none of the model's tokens can go on with it")]
    DeadEnd,
    /// A token that is not allowed.
    #[error("token {token} does not go on with the grammar")]
    Refused {
        /// The token.
        token: u32,
    },
    /// It would take too much time or memory to tell.
    #[error("it takes too long to tell what may come next in this grammar: {reason}")]
    TooCostly {
        /// Which limit.
        reason: String,
    },
    /// The code that follows the grammar panicked.
    #[error("following the grammar panicked")]
    Panicked,
}
