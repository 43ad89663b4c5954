//! What goes into a forward pass, and what it shows.

use quipu_formats::families::names::Input;

use crate::host::memory::Shortage;

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
    /// A sequence of another engine: its keys and values are those of another model.
    #[error("the sequence is of another engine; an engine reads into sequences that it made itself")]
    OtherEngine,
    /// Adapters of another engine.
    #[error("an adapter is of another engine; a text is read with adapters that its engine has loaded")]
    OtherAdapter,
    /// The model's numbers are none any more: NaN, infinite, or too large to compute with.
    #[error("the model computes NaN or infinity for token {token} at position {position}: {cause}")]
    NotFinite {
        /// The first such token's id.
        token: u32,
        /// Its position in its sequence.
        position: usize,
        /// Which of the sequences handed in that is.
        sequence: usize,
        /// The weight that is to blame, if one is.
        cause: String,
    },
    /// There is no memory for the keys and values, or for the activations, of so many tokens.
    #[error(transparent)]
    Memory(#[from] Shortage),
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
    /// From one row's start to the next one's, in numbers.
    pub stride: usize,
    /// The expert whose input this is, where the matrices are a bank of experts'.
    pub expert: Option<usize>,
}

/// A function that is shown the inputs of all matrices.
pub type Observer<'a> = dyn FnMut(Input, Rows<'_>) + 'a;

/// A function that is shown logits: `(number of the token in the batch, values)`.
pub(crate) enum Logits<'a> {
    /// Called for one token after the other, in order.
    InOrder(&'a mut dyn FnMut(usize, &[f32])),
    /// Called by the workers, for several tokens at once.
    SideBySide(&'a (dyn Fn(usize, &[f32]) + Sync)),
    /// Called by the workers, for several sequences at once, but for the tokens of one of them in order.
    BySequence(&'a (dyn Fn(usize, &[f32]) + Sync)),
}
