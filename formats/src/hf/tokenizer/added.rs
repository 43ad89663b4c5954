//! Added tokens: those of all files of a directory, with the ids that they have in Hugging Face's `tokenizers`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::file::{AddedToken, TokenizerJson};
use super::special::{NamedObject, SpecialTexts};
use super::table::Entry;
use super::vocabulary::TokenType;
use crate::hf::error::HfError;
use crate::hf::json::{KeyError, MAX_SMALL_BYTES, describe, read_json};
use crate::oddity::Oddity;

/// The tokens that are added outside of tokenizer.json, or beside a tokenizer.model: `added_tokens_decoder` in
/// tokenizer_config.json (id to token), or the older added_tokens.json (token to id), where those are special that
/// other files call so.
pub(super) fn beside(dir: &Path, config: &NamedObject, texts: &SpecialTexts) -> Result<Vec<AddedToken>, HfError> {
    let wrong = |path: &Path, key: String, expected, found: &Value| {
        HfError::tokenizer(path, KeyError::Wrong { key, expected, found: describe(found) })
    };
    let number = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let mut added = Vec::new();
    let decoder = config.get().object("added_tokens_decoder").map_err(|e| HfError::tokenizer(&config.path, e))?;
    for (id, token) in decoder.into_iter().flatten() {
        let key = || format!("added_tokens_decoder.{id}");
        let (Ok(id), Some(content)) = (id.parse(), token.get("content").and_then(Value::as_str)) else {
            return Err(wrong(&config.path, key(), "a number, and a token with `content`", token));
        };
        let flag = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        added.push(AddedToken {
            id,
            content: content.into(),
            single_word: flag("single_word"),
            lstrip: flag("lstrip"),
            rstrip: flag("rstrip"),
            normalized: flag("normalized"),
            special: flag("special") || texts.roles.iter().any(|role| *role == content),
            in_text: false,
        });
    }
    let path = dir.join("added_tokens.json");
    let older: serde_json::Map<String, Value> = read_json(&path, MAX_SMALL_BYTES)?.unwrap_or_default();
    for (content, id) in &older {
        let Some(id) = number(id) else {
            return Err(wrong(&path, content.clone(), "a token id", id));
        };
        if !added.iter().any(|a| a.id == id || a.content == *content) {
            let special = texts.have(content);
            added.push(AddedToken { id, normalized: !special, special, ..AddedToken::new(content) });
        }
    }
    added.sort_by_key(|token| token.id);
    Ok(added)
}

/// Puts the tokens that stand `beside` tokenizer.json into it, and gives all the ids that `tokenizers` gives them,
/// whatever the files say: that of the vocabulary if it has the token, else the next one. Of equal tokens the last one
/// says how it is found, but what is special once stays that, and what has a role is special.
pub(super) fn resolve(json: &mut TokenizerJson, beside: Vec<AddedToken>, texts: &SpecialTexts) -> Vec<Oddity> {
    let (mut resolved, mut oddities): (Vec<AddedToken>, Vec<Oddity>) = (Vec::new(), Vec::new());
    let listed = std::mem::take(&mut json.added_tokens);
    let base: HashMap<&str, u32> = json.model.vocab.0.iter().map(|(token, id)| (token.as_str(), *id)).collect();
    let taken: HashSet<u32> = base.values().copied().collect();
    let mut places: HashMap<String, usize> = HashMap::new();
    let size = json.model.vocab.0.len() as u32;
    let mut next = size;
    for mut token in listed.into_iter().chain(beside).filter(|token| !token.content.is_empty()) {
        token.special |= texts.roles.contains(&token.content);
        let place = places.get(&token.content).copied();
        let id = match (place, base.get(token.content.as_str())) {
            (Some(place), _) => resolved[place].id,
            (None, Some(&id)) => id,
            // A vocabulary with holes: no id belongs to two tokens.
            (None, None) if taken.contains(&next) => token.id,
            (None, None) => next,
        };
        if id != token.id {
            oddities.push(Oddity::AddedId { token: token.content.clone(), said: token.id, id });
            token.id = id;
        }
        next = next.max(id.saturating_add(1));
        match place {
            Some(place) => {
                token.special |= resolved[place].special;
                resolved[place] = token;
            }
            None => {
                places.insert(token.content.clone(), resolved.len());
                resolved.push(token);
            }
        }
    }
    let mut joined = String::new();
    let mut made: HashSet<String> = HashSet::new();
    for (left, right) in json.model.merges.iter().filter_map(|merge| merge.parts()) {
        joined.clear();
        joined.extend([left, right]);
        if places.contains_key(&joined) {
            made.insert(joined.clone());
        }
    }
    for token in &mut resolved {
        let is_char = token.content.chars().nth(1).is_none();
        token.in_text = made.contains(&token.content) || is_char && base.contains_key(token.content.as_str());
    }
    json.added_tokens = resolved;
    oddities
}

/// The same where there is only a tokenizer.model, whose control and user-defined `pieces` are found in texts, too; no
/// text is normalised there before tokens are found.
pub(super) fn exact_alone(pieces: &[Entry], beside: &[AddedToken]) -> Option<Value> {
    let takes_more = |t: &AddedToken| t.single_word || t.lstrip || t.rstrip;
    if !beside.iter().any(takes_more) {
        return None;
    }
    let own = pieces.iter().zip(0..).filter_map(|(piece, id)| {
        let special = match piece.ty {
            TokenType::Control | TokenType::Unknown => true,
            TokenType::UserDefined => false,
            TokenType::Normal | TokenType::Unused | TokenType::Byte => return None,
        };
        Some(AddedToken { id, special, ..AddedToken::new(&piece.token) })
    });
    let mut tokens: Vec<AddedToken> = own.filter(|own| !beside.iter().any(|b| b.content == own.content)).collect();
    let is_text = |t: &AddedToken| pieces.get(t.id as usize).is_some_and(|piece| piece.ty == TokenType::Normal);
    tokens.extend(beside.iter().map(|t| AddedToken { normalized: false, in_text: is_text(t), ..t.clone() }));
    serde_json::to_value(tokens).ok()
}

/// The value of `quipu.tokenizer.added_tokens`, if there are tokens that do what GGUF's keys cannot say: take white
/// space, ask for the neighbours, stand in normalised text, have a `▁`, for which a reader takes a space, or
/// are special and text at once. Where `merging_reads` texts (in SentencePiece's BPE, any two pieces that make a
/// third), also tokens that a normalizer may spell: they stand in texts as they are alone.
pub(super) fn exact(json: &TokenizerJson, merging_reads: bool) -> Option<Value> {
    let one = std::slice::from_ref(&json.normalizer);
    let normalizers = json.normalizer["normalizers"].as_array().map_or(one, Vec::as_slice);
    let has_normalizer = normalizers.iter().any(|n| !n.is_null());
    let puts_spaces = |n: &Value| n.is_null() || n["type"] == "Prepend" || n["pattern"]["String"] == " ";
    let spells = merging_reads && !normalizers.iter().all(puts_spaces);
    let says_more = |t: &AddedToken| {
        t.single_word
            || t.lstrip
            || t.rstrip
            || (t.normalized && has_normalizer)
            || (spells && !t.special && !t.normalized && !t.in_text)
            || if t.special { t.in_text } else { t.content.contains('▁') }
    };
    let tokens = &json.added_tokens;
    tokens.iter().any(says_more).then(|| serde_json::to_value(tokens).unwrap_or(Value::Null))
}
