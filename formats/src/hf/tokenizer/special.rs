//! Special tokens: which ids begin, end and fill, and what is put around every text.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::fault::TokenizerFault;
use super::file::TokenizerJson;
use super::vocabulary::{TokenType, Vocabulary};
use crate::hf::error::HfError;
use crate::hf::json::{KeyError, Object, describe};
use crate::oddity::Oddity;

/// The files of a tokenizer that are objects of loose keys.
pub(super) struct SideFiles {
    pub tokenizer_config: NamedObject,
    pub special_tokens_map: NamedObject,
    pub generation_config: NamedObject,
    pub config: NamedObject,
}

impl SideFiles {
    /// The texts of the tokens that are special, as these files say: those that have a role, and those of lists. A list
    /// in special_tokens_map.json counts, too, as in transformers 4.
    pub fn special_texts(&self) -> Result<SpecialTexts, HfError> {
        let roles = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
        let mut texts = SpecialTexts::default();
        // As in transformers, the older file counts only where the newer one has no list of added tokens.
        let older = Some(&self.special_tokens_map)
            .filter(|_| self.tokenizer_config.get().value("added_tokens_decoder").is_none());
        for file in [&self.tokenizer_config].into_iter().chain(older) {
            for role in roles {
                texts.roles.extend(file.token(role)?.map(str::to_string));
            }
            for list in ["additional_special_tokens", "extra_special_tokens"] {
                let text = |v: &Value| v.as_str().or_else(|| v["content"].as_str()).map(str::to_string);
                match file.object.get(list) {
                    Some(Value::Array(list)) => texts.listed.extend(list.iter().filter_map(text)),
                    Some(Value::Object(by_name)) => texts.listed.extend(by_name.values().filter_map(text)),
                    _ => {}
                }
            }
        }
        Ok(texts)
    }

    /// Whether config.json scales RoPE as Llama 3.1 and later do.
    pub fn is_llama31(&self) -> bool {
        let config = &self.config.object;
        let rope = ["rope_parameters", "rope_scaling"].into_iter().filter_map(|key| config.get(key));
        rope.filter_map(|rope| rope.get("rope_type").or_else(|| rope.get("type"))).any(|kind| kind == "llama3")
    }
}

/// Texts of special tokens.
#[derive(Default)]
pub(super) struct SpecialTexts {
    /// Of those that have a role: that of BOS, of padding.
    pub roles: Vec<String>,
    /// Of those that a list has.
    pub listed: Vec<String>,
}

impl SpecialTexts {
    /// Whether any of them is `text`.
    pub fn have(&self, text: &str) -> bool {
        self.roles.iter().chain(&self.listed).any(|special| special == text)
    }
}

/// A JSON object and the file that it is from, empty when there is no such file.
pub(super) struct NamedObject {
    pub path: PathBuf,
    pub object: Map<String, Value>,
}

impl NamedObject {
    pub fn get(&self) -> Object<'_> {
        Object::new(&self.object, "")
    }

    /// Puts the file's name before a fault.
    fn fault(&self, fault: impl Into<TokenizerFault>) -> HfError {
        HfError::tokenizer(&self.path, fault)
    }

    /// The text of a special token: a string, or an object with `content`.
    fn token(&self, key: &str) -> Result<Option<&str>, HfError> {
        let text = |v: &'_ Value| v.as_str().or_else(|| v["content"].as_str()).is_some();
        let found = self.get().typed(key, "a token: a string or an object with `content`", |v| text(v).then_some(v));
        let value = found.map_err(|e| self.fault(e))?;
        Ok(value.and_then(|v| v.as_str().or_else(|| v["content"].as_str())))
    }

    /// Token ids: one or a list. Those that no token has are left out; some writers put −1 for none.
    fn ids(&self, key: &str, tokens: usize, oddities: &mut Vec<Oddity>) -> Result<Vec<u32>, HfError> {
        let Some(value) = self.get().value(key) else { return Ok(Vec::new()) };
        let single = std::slice::from_ref(value);
        let list = value.as_array().map_or(single, Vec::as_slice);
        let mut ids = Vec::new();
        for v in list {
            let in_range = |id: u64| u32::try_from(id).ok().filter(|&id| (id as usize) < tokens);
            match v.as_u64().map(in_range) {
                Some(Some(id)) => ids.push(id),
                _ if v.as_i64() == Some(-1) => {}
                _ if v.is_number() => {
                    let file = self.path.file_name().unwrap_or_default().to_string_lossy();
                    let oddity = Oddity::SpecialId { key: format!("{file}: {key}"), id: describe(v), tokens };
                    if !oddities.contains(&oddity) {
                        oddities.push(oddity);
                    }
                }
                _ => {
                    let expected = "a token id or a list of them";
                    return Err(self.fault(KeyError::Wrong { key: key.into(), expected, found: describe(v) }));
                }
            }
        }
        Ok(ids)
    }
}

/// What tokenizer.json's post-processor puts before and after a text.
#[derive(Default)]
pub(super) struct TemplateRule {
    first: Option<String>,
    last: Option<String>,
}

impl TemplateRule {
    pub fn read(json: &TokenizerJson) -> Result<TemplateRule, TokenizerFault> {
        let mut rule = TemplateRule::default();
        let processor = &json.post_processor;
        let steps = match processor["processors"].as_array() {
            Some(steps) => steps.as_slice(),
            None if processor.is_null() => &[],
            None => std::slice::from_ref(processor),
        };
        for step in steps {
            match step["type"].as_str() {
                Some("ByteLevel") => {}
                Some("TemplateProcessing") => {
                    let single = step["single"].as_array().map(Vec::as_slice).unwrap_or_default();
                    let special = |piece: Option<&Value>| piece?["SpecialToken"]["id"].as_str().map(str::to_string);
                    rule.first = special(single.first());
                    rule.last = if single.len() > 1 { special(single.last()) } else { None };
                }
                other => {
                    let kind = other.unwrap_or("without a type").to_string();
                    return Err(TokenizerFault::PostProcessor { kind });
                }
            }
        }
        Ok(rule)
    }
}

/// What the vocabulary's own file says about special tokens.
pub(super) struct Hints {
    /// The token for what cannot be encoded.
    pub unknown: Option<String>,
    /// Of a tokenizer.json.
    pub template: Option<TemplateRule>,
}

/// The special tokens of GGUF.
#[derive(Default)]
pub(super) struct Special {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub eot: Option<u32>,
    pub eom: Option<u32>,
    pub unknown: Option<u32>,
    pub padding: Option<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    /// All ids that end generation, when there are more than the fields above name.
    pub more_eos: Vec<i32>,
    pub oddities: Vec<Oddity>,
}

impl Special {
    /// Finds the special tokens as llama.cpp does: by their text in tokenizer_config.json (or special_tokens_map.json),
    /// else by their id in generation_config.json or config.json.
    pub fn find(vocabulary: &Vocabulary, side: &SideFiles, hints: Hints) -> Result<Special, HfError> {
        let Hints { unknown, template } = hints;
        let id_of = |text: &str| vocabulary.tokens.iter().position(|t| t == text).map(|id| id as u32);
        let named = |key: &str| -> Result<Option<u32>, HfError> {
            for file in [&side.tokenizer_config, &side.special_tokens_map] {
                if let Some(id) = file.token(key)?.and_then(id_of) {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        };
        let (tokens, mut oddities) = (vocabulary.tokens.len(), Vec::new());
        let mut listed = |key: &str| -> Result<Vec<u32>, HfError> {
            let ids = side.generation_config.ids(key, tokens, &mut oddities)?;
            if ids.is_empty() { side.config.ids(key, tokens, &mut oddities) } else { Ok(ids) }
        };
        let (bos_list, eos_list) = (listed("bos_token_id")?, listed("eos_token_id")?);

        let template_first = template.as_ref().and_then(|t| id_of(t.first.as_deref()?));
        let template_last = template.as_ref().and_then(|t| id_of(t.last.as_deref()?));
        let bos = match (named("bos_token")?, bos_list.first().copied()) {
            (Some(id), _) | (None, Some(id)) => Some(id),
            (None, None) => template_first,
        };
        let eos = named("eos_token")?.or(eos_list.first().copied()).or(template_last);
        let unknown = match unknown.as_deref().and_then(id_of) {
            Some(id) => Some(id),
            None => named("unk_token")?,
        };
        // Many configs have -1 or an id beyond the vocabulary for a padding token that was never there.
        let config_padding = side.config.get().value("pad_token_id").and_then(Value::as_u64);
        let in_vocabulary = |id: u64| u32::try_from(id).ok().filter(|&id| (id as usize) < vocabulary.tokens.len());
        let padding = named("pad_token")?.or_else(|| config_padding.and_then(in_vocabulary));

        // Only control tokens end a turn: a text that happens to be `<|eot_id|>` in some other vocabulary does not.
        let control = |text: &str| id_of(text).filter(|&id| vocabulary.types[id as usize] == TokenType::Control);
        // Code Llama's stands behind what it has written between two texts.
        let eot = ["<|eot_id|>", "<|im_end|>", "▁<EOT>"].into_iter().find_map(control);
        let eom = control("<|eom_id|>");
        let known = [eos, eot, eom];
        let more_eos = match eos_list.iter().all(|id| known.contains(&Some(*id))) {
            true => Vec::new(),
            // Ids are below 2³¹, as sizes are.
            false => eos_list.iter().map(|id| *id as i32).collect(),
        };

        let flag = |key: &str| side.tokenizer_config.get().bool(key).map_err(|e| side.tokenizer_config.fault(e));
        // Without a tokenizer.json the tokenizer is Llama 2's own, which puts <s> first.
        let default_bos = template.is_none() || (template_first.is_some() && template_first == bos);
        let default_eos = template_last.is_some() && template_last == eos;
        let add_bos = bos.is_some() && flag("add_bos_token")?.unwrap_or(default_bos);
        let add_eos = eos.is_some() && flag("add_eos_token")?.unwrap_or(default_eos);
        Ok(Special { bos, eos, eot, eom, unknown, padding, add_bos, add_eos, more_eos, oddities })
    }
}
