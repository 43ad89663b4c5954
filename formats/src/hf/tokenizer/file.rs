//! tokenizer.json, as far as a BPE tokenizer needs it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::fault::TokenizerFault;

#[derive(serde::Deserialize)]
pub(super) struct TokenizerJson {
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    pub model: Model,
}

#[derive(Clone, serde::Deserialize, serde::Serialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    /// It is one only between characters that are not of words.
    #[serde(default)]
    pub single_word: bool,
    /// It takes the white space before it.
    #[serde(default)]
    pub lstrip: bool,
    /// It takes the white space after it.
    #[serde(default)]
    pub rstrip: bool,
    /// It is looked for in normalised text.
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
    /// The vocabulary has it, too, and text becomes it without being looked through for added tokens.
    #[serde(skip_deserializing)]
    pub in_text: bool,
}

impl AddedToken {
    /// A token without an id, which is found wherever it stands.
    pub fn new(content: &str) -> AddedToken {
        AddedToken {
            id: 0,
            content: content.into(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: false,
            in_text: false,
        }
    }
}

#[derive(serde::Deserialize)]
pub(super) struct Model {
    /// Absent in the oldest files, which are BPE when they have merges.
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    pub vocab: Vocab,
    #[serde(default)]
    pub merges: Vec<Merge>,
    pub unk_token: Option<String>,
    #[serde(default)]
    pub byte_fallback: bool,
    #[serde(default)]
    pub ignore_merges: bool,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Tokens and ids, duplicates kept. Empty for the models whose vocabulary is a list (they are refused by their type).
#[derive(Default)]
pub(super) struct Vocab(pub Vec<(String, u32)>);

/// A merge: two tokens with a space between, and where the space is.
pub(super) struct Merge {
    pub text: String,
    /// `None` when there is not exactly one space.
    space: Option<usize>,
}

impl Merge {
    /// The two tokens.
    pub fn parts(&self) -> Option<(&str, &str)> {
        let (left, right) = self.text.split_at(self.space?);
        Some((left, &right[1..]))
    }
}

impl TokenizerJson {
    /// Refuses what is not BPE as Llamas have it.
    pub fn check(&self) -> Result<(), TokenizerFault> {
        match self.model.kind.as_deref() {
            Some("BPE") => {}
            None if !self.model.merges.is_empty() => {}
            other => return Err(TokenizerFault::UnsupportedModel { kind: other.unwrap_or("nameless").into() }),
        }
        let affixes = [
            ("continuing_subword_prefix", &self.model.continuing_subword_prefix),
            ("end_of_word_suffix", &self.model.end_of_word_suffix),
        ];
        for (option, value) in affixes {
            if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
                return Err(TokenizerFault::UnsupportedOption { option: format!("`{option}` {value:?}") });
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReadVocab;
        impl<'de> Visitor<'de> for ReadVocab {
            type Value = Vocab;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object from tokens to ids")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Vocab(entries))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocab::default())
            }
        }
        deserializer.deserialize_any(ReadVocab)
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReadMerge;
        impl<'de> Visitor<'de> for ReadMerge {
            type Value = Merge;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a merge: \"a b\" or [\"a\", \"b\"]")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Merge, E> {
                let space = text.find(' ').filter(|&at| !text[at + 1..].contains(' '));
                Ok(Merge { text: text.into(), space })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let (Some(left), Some(right)) = (seq.next_element::<String>()?, seq.next_element::<String>()?) else {
                    return Err(A::Error::custom("a merge of fewer than two tokens"));
                };
                if seq.next_element::<IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom("a merge of more than two tokens"));
                }
                // GGUF keeps a merge as one string, in which a space can only separate; byte-level and
                // SentencePiece-style tokens write their spaces as Ġ and ▁.
                let space = Some(left.len()).filter(|_| !left.contains(' ') && !right.contains(' '));
                Ok(Merge { text: format!("{left} {right}"), space })
            }
        }
        deserializer.deserialize_any(ReadMerge)
    }
}
