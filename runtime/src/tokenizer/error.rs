//! What can be wrong with a vocabulary.

use quipu_formats::gguf::MetadataError;

/// Why the tokenizer of a model file cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A key is missing or has the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A tokenizer of another kind.
    #[error(
        "`tokenizer.ggml.model` is `{model}`, which is not supported; `gpt2` (byte-level BPE) and `llama` (SentencePiece \
         BPE) are"
    )]
    UnknownModel {
        /// The value of the key.
        model: String,
    },
    /// A pre-tokenizer that is not in the table.
    #[error("`tokenizer.ggml.pre` names the unknown pre-tokenizer `{name}`; known ones: {known}")]
    UnknownPre {
        /// The value of the key.
        name: String,
        /// All names of the table.
        known: String,
    },
    /// There are no tokens.
    #[error("`tokenizer.ggml.tokens` is empty")]
    EmptyVocabulary,
    /// An array that goes with the tokens has another length.
    #[error("`{key}` has {found} entries, but there are {tokens} tokens")]
    LengthMismatch {
        /// The key of the array.
        key: &'static str,
        /// The number of tokens.
        tokens: usize,
        /// The length of the array.
        found: usize,
    },
    /// A byte-level vocabulary without a token for any byte.
    #[error("the vocabulary has none of the 256 byte tokens (`!`, `\"`, …, `ł`) that byte-level BPE begins with")]
    NotByteLevel,
    /// A SentencePiece vocabulary in which nothing stands for some bytes, so that some text could not be encoded at
    /// all.
    #[error(
        "the vocabulary lacks {count} of the 256 byte tokens, the first of them `<0x{first:02X}>`, and has no unknown token \
         to stand for them (`tokenizer.ggml.unknown_token_id`)"
    )]
    MissingBytes {
        /// How many are missing.
        count: usize,
        /// The first of them.
        first: u8,
    },
    /// A SentencePiece piece that is longer than any real one.
    #[error("token {id} is {found} bytes long; at most {limit} are supported")]
    PieceTooLong {
        /// The token.
        id: u32,
        /// Its length in bytes.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// `quipu.tokenizer.pre` is not what it should be.
    #[error("`{key}` is not a description of a pre-tokenizer: {source}")]
    Json {
        /// The key.
        key: &'static str,
        /// What the JSON reader says.
        source: serde_json::Error,
    },
    /// A component of a Hugging Face tokenizer that is not implemented.
    #[error("`{key}` asks for {component}, which is not supported")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// The component and, where it matters, its options.
        component: String,
    },
    /// A regular expression that does not compile, or that cannot be run in time linear in the text.
    #[error("the pre-tokenizer's pattern `{pattern}` is not supported: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// Edits that could make an overlong text of a short one.
    #[error("the tokenizer's normalizers make a text up to {growth} times as long; at most {limit} times is supported")]
    Growth {
        /// How much longer a text can become.
        growth: u64,
        /// The limit.
        limit: u64,
    },
    /// The special tokens are too many for one search automaton.
    #[error("cannot build a search automaton for {count} special tokens: {reason}")]
    SpecialTokens {
        /// How many there are.
        count: usize,
        /// What the automaton's builder says.
        reason: String,
    },
}
