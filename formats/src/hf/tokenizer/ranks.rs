//! Vocabularies as lists of ranked byte strings: Meta's tokenizer.model of Llama 3 (tiktoken's format) and Mistral's
//! tekken.json.
//!
//! In both, text is cut by a pattern and the pair of neighbours with the lowest rank is merged first. tokenizer.json
//! says the same with merges: every way to put a token together of two, in the order of the token's rank, then of the
//! ranks of the two. So the list becomes a tokenizer.json as transformers' converters make it, and goes its way.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::fault::TokenizerFault;
use super::file::TokenizerJson;
use super::pre::LLAMA3;
use crate::hf::error::HfError;
use crate::hf::json::{MAX_SMALL_BYTES, read_bytes, read_json};

/// The longest token that is taken; real ones have up to some hundred bytes. What merges cost grows with it.
const MAX_TOKEN_BYTES: usize = 1024;

/// The tokenizer of a directory without a tokenizer.json, if it is one of these, and the file that it is from.
/// `llama31` says that the model is Llama 3.1 or later, which gave names to some reserved tokens.
pub(super) fn find(dir: &Path, llama31: bool) -> Result<Option<(PathBuf, TokenizerJson)>, HfError> {
    let path = dir.join("tekken.json");
    if let Some(file) = read_json::<Value>(&path, MAX_SMALL_BYTES)? {
        let made = tekken(&file).and_then(finish).map_err(|fault| HfError::tokenizer(&path, fault))?;
        return Ok(Some((path, made)));
    }
    let path = dir.join("tokenizer.model");
    match read_bytes(&path, MAX_SMALL_BYTES) {
        Ok(Some(bytes)) if is_tiktoken(&bytes) => {
            let made = tiktoken(&bytes, llama31).and_then(finish).map_err(|fault| HfError::tokenizer(&path, fault))?;
            Ok(Some((path, made)))
        }
        // Not this format, whatever else it is.
        _ => Ok(None),
    }
}

fn wrong(what: impl Into<String>) -> TokenizerFault {
    TokenizerFault::Ranks { what: what.into() }
}

/// A vocabulary before it is a tokenizer.json.
struct Ranks {
    /// By rank.
    tokens: Vec<Vec<u8>>,
    /// The id of rank 0.
    first: usize,
    /// Control tokens with their ids.
    special: Vec<(String, usize)>,
    pattern: String,
    /// What is put before every text.
    bos: &'static str,
}

/// Whether a tokenizer.model begins with a line of base64 and a rank.
fn is_tiktoken(bytes: &[u8]) -> bool {
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let mut parts = line.trim_ascii_end().split(|&b| b == b' ');
    let (token, rank) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    decode_base64(token).is_some_and(|token| !token.is_empty())
        && !rank.is_empty()
        && rank.iter().all(u8::is_ascii_digit)
}

/// Meta's tokenizer.model: a line for each token, in base64, with its rank; the control tokens are in Meta's code.
fn tiktoken(bytes: &[u8], llama31: bool) -> Result<Ranks, TokenizerFault> {
    let mut tokens = Vec::new();
    for (number, line) in bytes.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end).enumerate() {
        if line.is_empty() {
            continue;
        }
        let read = || {
            let (token, rank) = std::str::from_utf8(line).ok()?.split_once(' ')?;
            Some((decode_base64(token.as_bytes())?, rank.parse::<usize>().ok()?))
        };
        let Some((token, rank)) = read() else {
            return Err(wrong(format!("line {}: expected a token in base64 and its rank", number + 1)));
        };
        if rank != tokens.len() {
            return Err(wrong(format!("line {}: rank {rank}, expected {}", number + 1, tokens.len())));
        }
        tokens.push(token);
    }
    let first = tokens.len();
    let special = llama3_special(llama31).into_iter().enumerate().map(|(n, token)| (token, first + n)).collect();
    Ok(Ranks { tokens, first: 0, special, pattern: LLAMA3.into(), bos: "<|begin_of_text|>" })
}

/// Llama 3's 256 control tokens (Meta's `tokenizer.py`, with the names that Hugging Face's files have).
fn llama3_special(llama31: bool) -> Vec<String> {
    let named: &[(usize, &str)] = match llama31 {
        true => &[(4, "<|finetune_right_pad_id|>"), (8, "<|eom_id|>"), (10, "<|python_tag|>")],
        false => &[],
    };
    let both = [
        (0, "<|begin_of_text|>"),
        (1, "<|end_of_text|>"),
        (6, "<|start_header_id|>"),
        (7, "<|end_header_id|>"),
        (9, "<|eot_id|>"),
    ];
    let mut reserved = 0..;
    (0..256)
        .map(|n| match both.iter().chain(named).find(|(at, _)| *at == n) {
            Some((_, name)) => (*name).to_string(),
            None => format!("<|reserved_special_token_{}|>", reserved.next().unwrap_or(n)),
        })
        .collect()
}

/// Mistral's tekken.json: control tokens first, then the vocabulary by rank, of which the first ones count.
fn tekken(file: &Value) -> Result<Ranks, TokenizerFault> {
    /// Those of the first version, which the file does not list.
    const UNLISTED: [&str; 20] = [
        "<unk>",
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
        "[TOOL_CALLS]",
        "[IMG]",
        "<pad>",
        "[IMG_BREAK]",
        "[IMG_END]",
        "[PREFIX]",
        "[MIDDLE]",
        "[SUFFIX]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
        "[TOOL_CONTENT]",
    ];
    let config = &file["config"];
    let size = |key: &str| {
        let value = config[key].as_u64().and_then(|v| usize::try_from(v).ok()).filter(|&v| v < 1 << 31);
        value.ok_or_else(|| wrong(format!("`config.{key}` is no size")))
    };
    let (vocabulary, first) = (size("default_vocab_size")?, size("default_num_special_tokens")?);
    let pattern = config["pattern"].as_str().ok_or_else(|| wrong("`config.pattern` is no string"))?;
    let entries = file["vocab"].as_array().ok_or_else(|| wrong("`vocab` is no array"))?;
    let listed = file["special_tokens"].as_array().map(Vec::as_slice).unwrap_or_default();
    if first > vocabulary || first > UNLISTED.len().max(listed.len()) + 4096 {
        return Err(wrong(format!("`config.default_num_special_tokens` is {first}")));
    }
    let mut tokens = Vec::new();
    for (rank, entry) in entries.iter().take(vocabulary - first).enumerate() {
        let token = entry["token_bytes"].as_str().and_then(|token| decode_base64(token.as_bytes()));
        tokens.push(token.ok_or_else(|| wrong(format!("`vocab[{rank}].token_bytes` is no base64")))?);
    }
    let names: Vec<&str> = match listed {
        [] => UNLISTED.into(),
        listed => listed.iter().filter_map(|token| token["token_str"].as_str()).collect(),
    };
    if names.len() > first {
        return Err(wrong(format!("{} special tokens, of which there should be {first}", names.len())));
    }
    let filled = (0..first).map(|id| names.get(id).map_or_else(|| format!("<SPECIAL_{id}>"), |name| (*name).into()));
    let special = filled.zip(0..).collect();
    Ok(Ranks { tokens, first, special, pattern: pattern.into(), bos: "<s>" })
}

/// The tokenizer.json that says the same.
fn finish(ranks: Ranks) -> Result<TokenizerJson, TokenizerFault> {
    let Ranks { tokens, first, special, pattern, bos } = ranks;
    if let Some(long) = tokens.iter().position(|token| token.len() > MAX_TOKEN_BYTES || token.is_empty()) {
        return Err(wrong(format!("the token of rank {long} has {} bytes", tokens[long].len())));
    }
    let letters = byte_letters();
    let spelled = |bytes: &[u8]| bytes.iter().map(|&b| letters[usize::from(b)]).collect::<String>();
    let by_bytes: HashMap<&[u8], usize> = tokens.iter().enumerate().map(|(rank, t)| (t.as_slice(), rank)).collect();
    let (mut vocabulary, mut merges) = (Map::new(), Vec::new());
    for (rank, token) in tokens.iter().enumerate() {
        if vocabulary.insert(spelled(token), (first + rank).into()).is_some() {
            return Err(wrong(format!("the token of rank {rank} is there twice")));
        }
        let halves = |at| Some((*by_bytes.get(&token[..at])?, *by_bytes.get(&token[at..])?, at));
        let mut ways: Vec<_> = (1..token.len()).filter_map(halves).collect();
        ways.sort_unstable();
        merges.extend(ways.into_iter().map(|(_, _, at)| json!([spelled(&token[..at]), spelled(&token[at..])])));
    }
    let added: Vec<Value> =
        special.into_iter().map(|(content, id)| json!({"id": id, "content": content, "special": true})).collect();
    let made = json!({
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        ]},
        "model": {"type": "BPE", "ignore_merges": true, "vocab": vocabulary, "merges": merges}
    });
    serde_json::from_value(made).map_err(|error| wrong(error.to_string()))
}

/// The letter that stands for each byte in byte-level BPE (Radford et al. 2019): itself where it can be seen, and those
/// from U+0100 on for the others, in their order.
fn byte_letters() -> [char; 256] {
    let mut letters = ['\0'; 256];
    let mut others = '\u{100}'..;
    for (byte, letter) in (0..=255u8).zip(&mut letters) {
        *letter = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => others.next().unwrap_or_default(),
        };
    }
    letters
}

/// The bytes of a text in base64 (RFC 4648, with padding); `None` when it is none.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (fours, rest) = text.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    for (number, four) in fours.iter().enumerate() {
        let padding = four.iter().rev().take_while(|&&b| b == b'=').count();
        if padding > 2 || (padding > 0 && number + 1 < fours.len()) {
            return None;
        }
        let mut word = 0_u32;
        for &byte in &four[..4 - padding] {
            word = word << 6 | u32::from(digit(byte)?);
        }
        word <<= 6 * padding;
        bytes.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")] {
            assert_eq!(decode_base64(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
        for wrong in ["Z", "Zg", "Zg=", "Z===", "Zg==Zg==", "Zm9v\n", "Zm_v"] {
            assert_eq!(decode_base64(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
