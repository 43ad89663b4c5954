//! What either kind of tokenizer comes down to: a vocabulary as GGUF has it.

/// GGUF's token types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A vocabulary as GGUF has it.
pub(super) struct Vocabulary {
    /// `gpt2` or `llama`.
    pub model: &'static str,
    pub pre: &'static str,
    pub tokens: Vec<String>,
    pub types: Vec<TokenType>,
    /// Of `llama`.
    pub scores: Option<Vec<f32>>,
    /// Of `gpt2`: two tokens with a space between.
    pub merges: Option<Vec<String>>,
    /// Of `llama`: a space is put before the text.
    pub add_space_prefix: Option<bool>,
    /// What `pre` and `add_space_prefix` do not say, for `quipu.tokenizer.pre`.
    pub exact_pre: Option<serde_json::Value>,
}
