//! The tokenizer: text to token ids and back, built from a model file's metadata (`tokenizer.ggml.*`).
//!
//! Encoding goes top down through three layers. `special.rs` finds tokens that stand in the text as they are,
//! `<|eot_id|>`. What lies between is normalised and cut into words (`pre/`). Words go to the model's algorithm:
//! byte-level BPE (`bpe.rs`) or SentencePiece's BPE (`spm.rs`), which end in the same merging loop (`merge.rs`).
//! [`Tokenizer`] (`encode.rs`) is all of that together. Decoding concatenates the bytes of tokens (`vocab.rs`);
//! [`TextStream`] (`decode.rs`) does so token by token.
//!
//! The reference is Hugging Face's `tokenizers` for what a text's ids are, and llama.cpp for how GGUF files describe
//! that.

mod added;
mod bpe;
mod bytes;
mod decode;
mod encode;
mod error;
mod hash;
mod merge;
mod pre;
mod special;
mod spm;
mod strings;
mod vocab;

pub use decode::TextStream;
pub use encode::{Part, Tokenizer};
pub use error::TokenizerError;
pub use vocab::TokenKind;
