//! What can be wrong with a tokenizer's files.

use crate::hf::json::KeyError;

/// What is wrong with a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum TokenizerFault {
    /// A list of ranked tokens breaks a rule of its format.
    #[error("{what}")]
    Ranks { what: String },
    /// No tokenizer that Quipu reads.
    #[error("expected tokenizer.json or tokenizer.model{hint}")]
    NoTokenizer { hint: &'static str },
    /// A key is missing or of the wrong type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Another algorithm than BPE.
    #[error("a {kind} tokenizer; Llamas have BPE, and Quipu reads no other")]
    UnsupportedModel { kind: String },
    /// BPE with an option that Llamas do not have.
    #[error("{option} is not supported")]
    UnsupportedOption { option: String },
    /// BPE over characters, with no way to encode the rest.
    #[error("neither byte-level (pre-tokenizer ByteLevel) nor SentencePiece-style (`byte_fallback`) BPE")]
    UnknownAlphabet,
    /// The vocabulary has a token twice.
    #[error("token {token:?} has two ids, {first} and {second}")]
    TokenTwice { token: String, first: u32, second: u32 },
    /// Two tokens have the same id.
    #[error("the id {id} belongs to {first:?} and to {second:?}")]
    IdTwice { id: u32, first: String, second: String },
    /// The model has no embedding for a token.
    #[error("token {token:?} has the id {id}, but the model's vocabulary has only {vocab_size} entries (`vocab_size`)")]
    BeyondVocabulary { token: String, id: u32, vocab_size: usize },
    /// Most of the model's vocabulary is unknown to the tokenizer.
    #[error(
        "the vocabulary has {vocab_size} entries, but only {tokens} tokens are known: the tokenizer of another model?"
    )]
    MostlyUnknown { vocab_size: usize, tokens: usize },
    /// No tokens at all.
    #[error("the vocabulary is empty")]
    Empty,
    /// A merge is not two parts.
    #[error("merge number {number}: {merge:?} is not two tokens")]
    MergeForm { number: usize, merge: String },
    /// A merge joins or makes what is not a token.
    #[error("merge number {number}: {token:?} is not in the vocabulary")]
    MergeUnknown { number: usize, token: String },
    /// Something else than a template adds special tokens.
    #[error("the post-processor {kind} is not supported")]
    PostProcessor { kind: String },
    /// tokenizer.model is broken.
    #[error(transparent)]
    SentencePiece(#[from] SentencePieceFault),
}

/// A way in which a tokenizer.model can be broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum SentencePieceFault {
    /// The file ends within a value, or a length leads out of its message.
    #[error("no SentencePiece model: byte {at}: {needed} bytes needed, {left} left (a truncated download?)")]
    Truncated { at: usize, needed: u64, left: usize },
    /// An integer of more than 64 bits.
    #[error("no SentencePiece model: byte {at}: an integer of more than 64 bits")]
    LongInteger { at: usize },
    /// A field number of zero or a wire type that is not in use.
    #[error("no SentencePiece model: byte {at}: field {field} of wire type {wire_type}")]
    Tag { at: usize, field: u64, wire_type: u8 },
    /// A field of another type than the format says.
    #[error("no SentencePiece model: field {field} of {message} is of wire type {found}, expected {expected}")]
    FieldType { message: &'static str, field: u64, expected: u8, found: u8 },
    /// A piece is not UTF-8.
    #[error("piece {piece} is not UTF-8")]
    InvalidUtf8 { piece: usize },
    /// A piece of a type that does not exist.
    #[error("piece {piece} has the type {found}; 1 to 6 exist")]
    PieceType { piece: usize, found: u64 },
    /// A score that is no number.
    #[error("piece {piece} has the score {found}")]
    Score { piece: usize, found: String },
    /// No pieces.
    #[error("a SentencePiece model without pieces")]
    NoPieces,
}
