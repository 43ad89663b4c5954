//! A Hugging Face tokenizer as GGUF's `tokenizer.*` keys.
//!
//! Read are tokenizer.json (or, where there is none, Mistral's tekken.json, Meta's or SentencePiece's tokenizer.model,
//! GPT-2's vocab.json and merges.txt), tokenizer_config.json, special_tokens_map.json, generation_config.json,
//! config.json and the chat templates. Two kinds of tokenizer come out, as llama.cpp names them:
//!
//! - `gpt2`: byte-level BPE (Llama 3, SmolLM): `tokens`, `token_type`, `merges`, and in `tokenizer.ggml.pre` the name
//!   of the pre-tokenizer, told from the patterns in tokenizer.json (see `pre.rs`).
//! - `llama`: SentencePiece-style BPE with byte fallback (Llama 2): `tokens`, `token_type`, `scores`; a higher score
//!   merges first.
//!
//! # What GGUF's keys cannot say
//!
//! Quipu writes keys of its own; other readers ignore them.
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
//! **`quipu.tokenizer.added_tokens`** (string, JSON) is there only when an added token takes white space with it, asks
//! for its neighbours, stands in normalised text (`lstrip`, `rstrip`, `single_word`, `normalized`), has a `▁`, or is
//! special and text at once. It is the list `added_tokens` of tokenizer.json, completed from tokenizer_config.json or
//! added_tokens.json, and a reader finds these tokens and no others. `in_text` is true for a token that merging makes,
//! too.
//!
//! **`quipu.tokenizer.eos_token_ids`** (array of i32) lists every id that ends generation when generation_config.json
//! (or config.json) has more of them than `eos_token_id`, `eot_token_id` and `eom_token_id` can name.

mod added;
mod bpe;
mod chat_template;
pub(super) mod fault;
mod file;
mod gpt2;
mod pre;
mod ranks;
mod sentencepiece;
mod special;
mod spm;
mod table;
mod vocabulary;

use std::path::Path;

use super::config::Json;
use super::error::HfError;
use super::json::{MAX_SMALL_BYTES, MAX_TOKENIZER_BYTES, read_bytes, read_json};
use crate::gguf::{Array, Metadata, Value};
use crate::oddity::Oddity;
use file::TokenizerJson;
use sentencepiece::SentencePieceModel;
use special::{NamedObject, SideFiles};
use vocabulary::Vocabulary;

pub use fault::{SentencePieceFault, TokenizerFault};

/// Reads the tokenizer in the directory `dir` as `tokenizer.*` keys. `vocab_size` is the number of rows of the model's
/// embedding, up to which ids without a token are filled with unused ones; `None` takes as many as there are tokens.
pub fn read_tokenizer(dir: &Path, vocab_size: Option<usize>) -> Result<Metadata, HfError> {
    let mut metadata = Metadata::default();
    read_into(&mut metadata, dir, vocab_size, None)?;
    Ok(metadata)
}

/// [`read_tokenizer`] into metadata that exists; returns what is odd. `config` stands in for config.json.
pub(super) fn read_into(
    metadata: &mut Metadata,
    dir: &Path,
    vocab_size: Option<usize>,
    config: Option<&Json>,
) -> Result<Vec<Oddity>, HfError> {
    let json_path = dir.join("tokenizer.json");
    // Mistral writes the version of its control tokens behind the name.
    let names =
        ["tokenizer.model", "tokenizer.model.v7", "tokenizer.model.v3", "tokenizer.model.v2", "tokenizer.model.v1"];
    let model_path = names.map(|name| dir.join(name)).into_iter().find(|path| path.exists());
    let model_path = model_path.unwrap_or_else(|| dir.join(names[0]));
    let side = |name: &str| -> Result<NamedObject, HfError> {
        let path = dir.join(name);
        let object = read_json(&path, MAX_SMALL_BYTES)?.unwrap_or_default();
        Ok(NamedObject { path, object })
    };
    let side = SideFiles {
        tokenizer_config: side("tokenizer_config.json")?,
        special_tokens_map: side("special_tokens_map.json")?,
        generation_config: side("generation_config.json")?,
        config: match config {
            Some(config) => NamedObject { path: dir.join("params.json"), object: config.clone() },
            None => side("config.json")?,
        },
    };
    let pieces = || -> Result<Option<SentencePieceModel>, HfError> {
        let Some(bytes) = read_bytes(&model_path, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
        SentencePieceModel::parse(&bytes).map(Some).map_err(|fault| HfError::tokenizer(&model_path, fault))
    };

    let json = match read_json::<TokenizerJson>(&json_path, MAX_TOKENIZER_BYTES)? {
        Some(json) => Some((json_path, json)),
        None => match ranks::find(dir, side.is_llama31())? {
            Some(found) => Some(found),
            None => gpt2::find(dir, &side)?,
        },
    };
    let texts = side.special_texts()?;
    let beside = added::beside(dir, &side.tokenizer_config, &texts)?;
    let mut oddities = Vec::new();
    let exact_added;
    let (vocabulary, specials) = match json {
        Some((json_path, mut json)) => {
            let in_json = |fault| HfError::tokenizer(&json_path, fault);
            json.check().map_err(in_json)?;
            oddities = added::resolve(&mut json, beside, &texts);
            exact_added = added::exact(&json, !pre::is_byte_level(&json));
            let mut vocabulary = if pre::is_byte_level(&json) {
                bpe::read(&mut json, vocab_size).map_err(in_json)?
            } else if json.model.byte_fallback {
                // Meta's own tokenizer.model (not SentencePiece's format) stands beside Llama 3's byte-level BPE only.
                spm::from_json(&mut json, pieces()?, vocab_size).map_err(in_json)?
            } else {
                return Err(in_json(TokenizerFault::UnknownAlphabet));
            };
            if exact_added.is_some() && vocabulary.add_space_prefix.is_some() && !json.pre_tokenizer.is_null() {
                // Whether spaces become ▁ before or after these tokens are looked for makes a difference.
                vocabulary.exact_pre.get_or_insert_with(|| pre::exact(&json));
            }
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
            exact_added = added::exact_alone(&model.pieces, &beside);
            let vocabulary =
                spm::from_model(model, beside, vocab_size).map_err(|fault| HfError::tokenizer(&model_path, fault))?;
            (vocabulary, special::Hints { unknown, template: None })
        }
    };

    let mut special = special::Special::find(&vocabulary, &side, specials)?;
    oddities.append(&mut special.oddities);
    write(metadata, vocabulary, special);
    if let Some(exact) = exact_added {
        metadata.set("quipu.tokenizer.added_tokens", Value::String(exact.to_string()));
    }
    oddities.extend(chat_template::add(metadata, dir, &side.tokenizer_config)?);
    Ok(oddities)
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
