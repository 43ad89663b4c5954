//! GPT-2's tokenizer as its own two files, vocab.json and merges.txt (Radford et al. 2019): all that OPT's repositories
//! have. They become a tokenizer.json as transformers' converter makes it, and go its way.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::fault::TokenizerFault;
use super::file::TokenizerJson;
use super::special::SideFiles;
use crate::hf::error::HfError;
use crate::hf::json::{MAX_TOKENIZER_BYTES, read_bytes, read_json};

/// Classes of transformers whose files these are. Others that have such files cut text by other patterns.
const CLASSES: [&str; 2] = ["GPT2Tokenizer", "GPT2TokenizerFast"];

/// The tokenizer of a directory with these two files and such a class, and the file with the vocabulary.
pub(super) fn find(dir: &Path, side: &SideFiles) -> Result<Option<(PathBuf, TokenizerJson)>, HfError> {
    let (path, merges_path) = (dir.join("vocab.json"), dir.join("merges.txt"));
    let config = &side.tokenizer_config;
    let in_config = |error| HfError::tokenizer(&config.path, error);
    if !config.get().string("tokenizer_class").map_err(in_config)?.is_some_and(|class| CLASSES.contains(&class)) {
        return Ok(None);
    }
    let Some(vocabulary) = read_json::<Value>(&path, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
    let Some(merges) = read_bytes(&merges_path, MAX_TOKENIZER_BYTES)? else { return Ok(None) };
    let wrong = |what: String| TokenizerFault::Ranks { what };
    let merges = String::from_utf8(merges).map_err(|e| HfError::tokenizer(&merges_path, wrong(e.to_string())))?;
    // The first line may name a version.
    let merges: Vec<&str> = merges.lines().filter(|line| !line.is_empty() && !line.starts_with("#version")).collect();
    let special = side.special_texts()?.roles.into_iter();
    let special = special.map(|token| json!({"id": vocabulary[&token], "content": token, "special": true}));
    let special: Vec<Value> = special.filter(|token| token["id"].is_u64()).collect();
    let prefix = config.get().bool("add_prefix_space").map_err(in_config)?.unwrap_or(false);
    let made = json!({
        "added_tokens": special,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": prefix, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges}
    });
    let made = serde_json::from_value(made).map_err(|e| HfError::tokenizer(&path, wrong(e.to_string())))?;
    Ok(Some((path, made)))
}
