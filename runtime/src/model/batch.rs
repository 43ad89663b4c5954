//! What goes into a forward pass and who watches it.

use quipu_formats::families::names::Input;

/// One token of a batch. Tokens of one sequence stand in order, each at the next position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchToken {
    /// The token's id.
    pub token: u32,
    /// Which of the sequences handed to the forward pass it belongs to.
    pub sequence: usize,
    /// Whether the logits after it are wanted.
    pub logits: bool,
}

/// Why a model can't read these tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The context is full.
    #[error("the context is full: {used} positions are used and {more} more are needed, of {context}")]
    ContextFull {
        /// Positions used.
        used: usize,
        /// Tokens to read.
        more: usize,
        /// The limit.
        context: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    Token {
        /// The id.
        token: u32,
        /// Ids run below this.
        vocabulary: usize,
    },
    /// A batch names a sequence that was not handed in.
    #[error("the batch names sequence {sequence} of {sequences}")]
    Sequence {
        /// The number.
        sequence: usize,
        /// How many there are.
        sequences: usize,
    },
    /// Nothing to read.
    #[error("there are no tokens to read")]
    Empty,
}

/// Rows of activations, one for each token.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The numbers.
    pub x: &'a [f32],
    /// How many rows.
    pub count: usize,
    /// The length of a row.
    pub cols: usize,
    /// From one row's start to the next one's.
    pub stride: usize,
}

/// Who wants to see the inputs of all matrices.
pub type Observer<'a> = dyn FnMut(Input, Rows<'_>) + 'a;

/// Who wants to see the logits of tokens of the batch: `(token of the batch, values)`.
pub(crate) enum Logits<'a> {
    /// One token after the other.
    InOrder(&'a mut dyn FnMut(usize, &[f32])),
    /// Several at once: the workers call it.
    SideBySide(&'a (dyn Fn(usize, &[f32]) + Sync)),
}
