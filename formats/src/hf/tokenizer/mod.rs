//! A Hugging Face tokenizer as GGUF's `tokenizer.*` keys.
//!
//! Read are tokenizer.json (or, in older checkpoints, SentencePiece's tokenizer.model), tokenizer_config.json,
//! special_tokens_map.json, generation_config.json, config.json and the chat templates. Two kinds of tokenizer come
//! out, as llama.cpp names them:
//!
//! - `gpt2`: byte-level BPE (Llama 3, SmolLM): `tokens`, `token_type`, `merges`, and in `tokenizer.ggml.pre` the name
//!   of the pre-tokenizer, told from the patterns in tokenizer.json (see `pre.rs`).
//! - `llama`: SentencePiece-style BPE with byte fallback (Llama 2): `tokens`, `token_type`, `scores`; a higher score
//!   merges first.
//!
//! # What GGUF's keys cannot say
//!
//! Quipu writes two keys of its own; other readers ignore them.
//!
//! **`quipu.tokenizer.pre`** (string, JSON) is there only when `tokenizer.ggml.pre` and
//! `tokenizer.ggml.add_space_prefix` do not tell the whole truth about how text is prepared; then it tells it, and a
//! reader follows it instead of them:
//!
//! ```json
//! {"normalizer": …, "pre_tokenizer": …, "ignore_merges": true}
//! ```
//!
//! `normalizer` and `pre_tokenizer` are the values of the same name in tokenizer.json, untouched (`null` when there is
//! none), and `ignore_merges` is its `model.ignore_merges`: a piece that is a token as it stands is not taken apart.
//! `tokenizer.ggml.pre` is then the nearest name that llama.cpp has, or `default`.
//!
//! **`quipu.tokenizer.eos_token_ids`** (array of i32) lists every id that ends generation when generation_config.json
//! (or config.json) has more of them than `eos_token_id`, `eot_token_id` and `eom_token_id` can name.

mod bpe;
mod chat_template;
mod file;
mod pre;
mod sentencepiece;
mod special;
mod spm;
mod table;

use std::path::Path;

use super::HfError;
use super::json::{KeyError, MAX_SMALL_BYTES, MAX_TOKENIZER_BYTES, read_bytes, read_json};
use crate::gguf::{Array, Metadata, Value};
use file::TokenizerJson;
use sentencepiece::SentencePieceModel;

pub use sentencepiece::SentencePieceFault;

/// What is wrong with a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
pub enum TokenizerFault {
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
    /// A special token's id is not one of the vocabulary.
    #[error("`{key}` is {id}, but the vocabulary has only {vocab_size} entries")]
    SpecialOutOfRange { key: String, id: u64, vocab_size: usize },
    /// Something else than a template adds special tokens.
    #[error("the post-processor {kind} is not supported")]
    PostProcessor { kind: String },
    /// tokenizer.model is broken.
    #[error(transparent)]
    SentencePiece(#[from] SentencePieceFault),
}

/// GGUF's token types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// What either kind of tokenizer comes down to.
struct Vocabulary {
    /// `gpt2` or `llama`.
    model: &'static str,
    pre: &'static str,
    tokens: Vec<String>,
    types: Vec<TokenType>,
    /// Of `llama`.
    scores: Option<Vec<f32>>,
    /// Of `gpt2`: two tokens with a space between.
    merges: Option<Vec<String>>,
    /// Of `llama`: a space is put before the text.
    add_space_prefix: Option<bool>,
    /// What `pre` and `add_space_prefix` do not say, for `quipu.tokenizer.pre`.
    exact_pre: Option<serde_json::Value>,
}

/// The files of a tokenizer that are objects of loose keys.
struct SideFiles {
    tokenizer_config: special::NamedObject,
    special_tokens_map: special::NamedObject,
    generation_config: special::NamedObject,
    config: special::NamedObject,
}

/// Reads the tokenizer in the directory `dir` as `tokenizer.*` keys. `vocab_size` is the number of rows of the model's
/// embedding, up to which ids without a token are filled with unused ones; `None` takes as many as there are tokens.
pub fn read_tokenizer(dir: &Path, vocab_size: Option<usize>) -> Result<Metadata, HfError> {
    let mut metadata = Metadata::default();
    read_into(&mut metadata, dir, vocab_size)?;
    Ok(metadata)
}

/// [`read_tokenizer`] into metadata that exists.
pub(super) fn read_into(metadata: &mut Metadata, dir: &Path, vocab_size: Option<usize>) -> Result<(), HfError> {
    let json_path = dir.join("tokenizer.json");
    let model_path = dir.join("tokenizer.model");
    let side = |name: &str| -> Result<special::NamedObject, HfError> {
        let path = dir.join(name);
        let object = read_json(&path, MAX_SMALL_BYTES)?.unwrap_or_default();
        Ok(special::NamedObject { path, object })
    };
    let side = SideFiles {
        tokenizer_config: side("tokenizer_config.json")?,
        special_tokens_map: side("special_tokens_map.json")?,
        generation_config: side("generation_config.json")?,
        config: side("config.json")?,
    };
    let pieces = || -> Result<Option<SentencePieceModel>, HfError> {
        let Some(bytes) = read_bytes(&model_path, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
        SentencePieceModel::parse(&bytes).map(Some).map_err(|fault| HfError::tokenizer(&model_path, fault))
    };

    let (vocabulary, specials) = match read_json::<TokenizerJson>(&json_path, MAX_TOKENIZER_BYTES)? {
        Some(mut json) => {
            let in_json = |fault| HfError::tokenizer(&json_path, fault);
            json.check().map_err(in_json)?;
            let vocabulary = if pre::is_byte_level(&json) {
                bpe::read(&mut json, vocab_size).map_err(in_json)?
            } else if json.model.byte_fallback {
                // Meta's own tokenizer.model (not SentencePiece's format) stands beside Llama 3's byte-level BPE only.
                spm::from_json(&mut json, pieces()?, vocab_size).map_err(in_json)?
            } else {
                return Err(in_json(TokenizerFault::UnknownAlphabet));
            };
            let rule = special::TemplateRule::read(&json).map_err(in_json)?;
            (vocabulary, special::Hints { unknown: json.model.unk_token.take(), template: Some(rule) })
        }
        None => {
            let Some(model) = pieces()? else {
                let has_slow = dir.join("vocab.json").exists();
                let hint = if has_slow {
                    "; there is a vocab.json: load the tokenizer with transformers and save_pretrained it, which writes tokenizer.json"
                } else {
                    " (an incomplete download?)"
                };
                return Err(HfError::tokenizer(dir, TokenizerFault::NoTokenizer { hint }));
            };
            let unknown = model.unknown.clone();
            let added = spm::added_beside_model(dir, &side.tokenizer_config)?;
            let vocabulary =
                spm::from_model(model, added, vocab_size).map_err(|fault| HfError::tokenizer(&model_path, fault))?;
            (vocabulary, special::Hints { unknown, template: None })
        }
    };

    let special = special::Special::find(&vocabulary, &side, specials)?;
    write(metadata, vocabulary, special);
    chat_template::add(metadata, dir, &side.tokenizer_config)
}

fn write(metadata: &mut Metadata, vocabulary: Vocabulary, special: special::Special) {
    let mut set = |key: &str, value: Value| metadata.set(format!("tokenizer.ggml.{key}"), value);
    set("model", Value::String(vocabulary.model.into()));
    set("pre", Value::String(vocabulary.pre.into()));
    set("tokens", Value::Array(Array::String(vocabulary.tokens.into_iter().collect())));
    if let Some(scores) = vocabulary.scores {
        set("scores", Value::Array(Array::F32(scores)));
    }
    set("token_type", Value::Array(Array::I32(vocabulary.types.into_iter().map(|t| t as i32).collect())));
    if let Some(merges) = vocabulary.merges {
        set("merges", Value::Array(Array::String(merges.into_iter().collect())));
    }
    for (key, id) in [
        ("bos_token_id", special.bos),
        ("eos_token_id", special.eos),
        ("eot_token_id", special.eot),
        ("eom_token_id", special.eom),
        ("unknown_token_id", special.unknown),
        ("padding_token_id", special.padding),
    ] {
        if let Some(id) = id {
            set(key, Value::U32(id));
        }
    }
    set("add_bos_token", Value::Bool(special.add_bos));
    set("add_eos_token", Value::Bool(special.add_eos));
    if let Some(prefix) = vocabulary.add_space_prefix {
        set("add_space_prefix", Value::Bool(prefix));
    }
    if let Some(exact) = vocabulary.exact_pre {
        metadata.set("quipu.tokenizer.pre", Value::String(exact.to_string()));
    }
    if !special.more_eos.is_empty() {
        metadata.set("quipu.tokenizer.eos_token_ids", Value::Array(Array::I32(special.more_eos)));
    }
}
