//! The pre-tokenizer of a Hugging Face `tokenizer.json`, for models whose pre-tokenizer has no name in the table.
//!
//! The key [`KEY`] holds a JSON object `{"normalizer": …, "pre_tokenizer": …, "ignore_merges": …}` with the components
//! as that file spells them. What they mean is defined by the crate `tokenizers`, modules `normalizers` and
//! `pre_tokenizers`.

use serde::Deserialize;
use serde_json::Value;

use super::edit::Edit;
use super::words::GPT2;
use super::{Behavior, Chosen, Pretokenizer, Stage, Step, pattern};
use crate::tokenizer::error::TokenizerError;
use crate::tokenizer::vocab::{SPACE, Spelling};

/// Where GGUF files carry the description.
pub(in crate::tokenizer) const KEY: &str = "quipu.tokenizer.pre";

/// Real tokenizers have at most ten.
const MAX_STEPS: usize = 64;

/// How many times as long as a text all edits together may make it: NFKC and SentencePiece's spaces, 132, are the most
/// that real tokenizers have.
const MAX_GROWTH: u64 = 256;

#[derive(Deserialize)]
struct Description {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    ignore_merges: Option<bool>,
}

#[derive(Deserialize)]
enum Pattern {
    Regex(String),
    String(String),
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Normalizer {
    Sequence {
        normalizers: Vec<Value>,
    },
    Prepend {
        prepend: String,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    #[serde(rename = "NFC")]
    Nfc,
    #[serde(rename = "NFD")]
    Nfd,
    #[serde(rename = "NFKC")]
    Nfkc,
    #[serde(rename = "NFKD")]
    Nfkd,
    Lowercase,
    Strip {
        #[serde(default = "yes")]
        strip_left: bool,
        #[serde(default = "yes")]
        strip_right: bool,
    },
    StripAccents,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Component {
    Sequence {
        pretokenizers: Vec<Value>,
    },
    Split {
        pattern: Pattern,
        behavior: Behavior,
        #[serde(default)]
        invert: bool,
    },
    ByteLevel {
        #[serde(default = "yes")]
        add_prefix_space: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
    Digits {
        #[serde(default)]
        individual_digits: bool,
    },
    Punctuation {
        #[serde(default = "isolated")]
        behavior: Behavior,
    },
    Metaspace {
        replacement: char,
        prepend_scheme: Option<Scheme>,
        /// What files had before there was `prepend_scheme`.
        #[serde(default = "yes")]
        add_prefix_space: bool,
        #[serde(default = "yes")]
        split: bool,
    },
    CharDelimiterSplit {
        delimiter: char,
    },
    FixedLength {
        length: usize,
    },
    BertPreTokenizer,
    Whitespace,
    WhitespaceSplit,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    First,
    Never,
    Always,
}

fn yes() -> bool {
    true
}

fn isolated() -> Behavior {
    Behavior::Isolated
}

/// What `json` describes, for a vocabulary spelled in the given way.
pub(in crate::tokenizer) fn read(json: &str, spelling: Spelling) -> Result<Chosen, TokenizerError> {
    let description: Description = serde_json::from_str(json).map_err(malformed)?;
    let mut reader = Reader { pretokenizer: Pretokenizer::default(), byte_level: false };
    if let Some(normalizer) = description.normalizer {
        reader.normalizer(normalizer)?;
    }
    if let Some(component) = description.pre_tokenizer {
        reader.component(component)?;
    }
    let pretokenizer = &reader.pretokenizer;
    let steps: usize = pretokenizer.stages.iter().map(|stage| stage.steps.len()).sum();
    if pretokenizer.edits().count().max(steps) > MAX_STEPS {
        return Err(unsupported(format!("more than {MAX_STEPS} normalizers or pre-tokenizers")));
    }
    let growth = pretokenizer.edits().fold(1u64, |growth, edit| growth.saturating_mul(edit.growth()));
    if growth > MAX_GROWTH {
        return Err(TokenizerError::Growth { growth, limit: MAX_GROWTH });
    }
    match (spelling, reader.byte_level) {
        (Spelling::ByteLevel, false) => return Err(unsupported("byte-level BPE without ByteLevel")),
        (Spelling::SentencePiece, true) => return Err(unsupported("SentencePiece's BPE with ByteLevel")),
        _ => {}
    }
    let ignore_merges = description.ignore_merges.unwrap_or(false);
    if ignore_merges && spelling == Spelling::SentencePiece {
        return Err(unsupported("ignore_merges in SentencePiece's BPE"));
    }
    Ok(Chosen { pretokenizer: reader.pretokenizer, ignore_merges, add_bos: spelling == Spelling::SentencePiece })
}

fn malformed(source: serde_json::Error) -> TokenizerError {
    TokenizerError::Json { key: KEY, source }
}

fn unsupported(component: impl Into<String>) -> TokenizerError {
    TokenizerError::Unsupported { key: KEY, component: component.into() }
}

/// Reads a component with a `type`; one whose type is not among the variants of `T` is unsupported.
fn typed<T: serde::de::DeserializeOwned>(value: Value, what: &str, known: &[&str]) -> Result<T, TokenizerError> {
    match value["type"].as_str() {
        Some(name) if !known.contains(&name) => Err(unsupported(format!("the {what} {name}"))),
        _ => serde_json::from_value(value).map_err(malformed),
    }
}

struct Reader {
    pretokenizer: Pretokenizer,
    /// Whether ByteLevel has been seen: what follows it sees GPT-2's alphabet instead of the text.
    byte_level: bool,
}

impl Reader {
    fn normalizer(&mut self, value: Value) -> Result<(), TokenizerError> {
        if value.is_null() {
            return Ok(());
        }
        let known =
            ["Sequence", "Prepend", "Replace", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents"];
        let edit = match typed(value, "normalizer", &known)? {
            Normalizer::Sequence { normalizers } => {
                return normalizers.into_iter().try_for_each(|normalizer| self.normalizer(normalizer));
            }
            Normalizer::Prepend { prepend } => Edit::Prepend(prepend),
            Normalizer::Replace { pattern: Pattern::String(from), content: to } => Edit::Replace { from, to },
            Normalizer::Replace { pattern: Pattern::Regex(pattern), content: to } => {
                Edit::ReplaceMatches { pattern: pattern::Pattern::new(&pattern)?, to }
            }
            Normalizer::Nfc => Edit::Nfc,
            Normalizer::Nfd => Edit::Nfd,
            Normalizer::Nfkc => Edit::Nfkc,
            Normalizer::Nfkd => Edit::Nfkd,
            Normalizer::Lowercase => Edit::Lowercase,
            Normalizer::Strip { strip_left: left, strip_right: right } => Edit::Strip { left, right },
            Normalizer::StripAccents => Edit::StripAccents,
        };
        self.pretokenizer.normalizers.push(edit);
        Ok(())
    }

    /// The stage that the next step belongs to.
    fn stage(&mut self) -> &mut Stage {
        let stages = &mut self.pretokenizer.stages;
        if stages.is_empty() {
            stages.push(Stage::default());
        }
        let last = stages.len() - 1;
        &mut stages[last]
    }

    /// An edit of every piece that the steps so far leave.
    fn edit(&mut self, edit: Edit) {
        if !self.stage().steps.is_empty() {
            self.pretokenizer.stages.push(Stage::default());
        }
        self.stage().edits.push(edit);
    }

    fn component(&mut self, value: Value) -> Result<(), TokenizerError> {
        let known = [
            "Sequence",
            "Split",
            "ByteLevel",
            "Digits",
            "Punctuation",
            "Metaspace",
            "CharDelimiterSplit",
            "FixedLength",
            "BertPreTokenizer",
            "Whitespace",
            "WhitespaceSplit",
        ];
        let name = value["type"].as_str().unwrap_or_default().to_string();
        let component = typed(value, "pre-tokenizer", &known)?;
        let allowed_late = match &component {
            Component::Sequence { .. } => true,
            Component::Split { pattern: Pattern::Regex(pattern), .. } => is_of_ascii_digits(pattern),
            _ => false,
        };
        if self.byte_level && !allowed_late {
            return Err(unsupported(format!("{name} after ByteLevel")));
        }
        let step = match component {
            Component::Sequence { pretokenizers } => {
                return pretokenizers.into_iter().try_for_each(|component| self.component(component));
            }
            Component::Split { pattern: Pattern::Regex(pattern), behavior, invert } => {
                Step::regex(&pattern, behavior, invert)?
            }
            Component::Split { pattern: Pattern::String(text), behavior, invert } => {
                Step::literal(text, behavior, invert)
            }
            Component::ByteLevel { add_prefix_space, use_regex } => {
                self.byte_level = true;
                if add_prefix_space {
                    self.edit(Edit::Lead { with: ' ', only_first: false });
                }
                if !use_regex {
                    return Ok(());
                }
                Step::isolate(GPT2)?
            }
            Component::Digits { individual_digits: true } => Step::isolate(r"\p{N}")?,
            Component::Digits { individual_digits: false } => Step::isolate(r"\p{N}+")?,
            Component::Punctuation { behavior } => Step::regex(PUNCTUATION, behavior, false)?,
            Component::CharDelimiterSplit { delimiter } => Step::literal(delimiter.into(), Behavior::Removed, false),
            Component::FixedLength { length } if (1..=1000).contains(&length) => {
                Step::isolate(&format!(r"[\s\S]{{1,{length}}}"))?
            }
            Component::FixedLength { length } => return Err(unsupported(format!("FixedLength of {length}"))),
            Component::BertPreTokenizer => {
                let spaces = Step::regex(r"\s", Behavior::Removed, false)?;
                self.stage().steps.push(spaces);
                Step::isolate(PUNCTUATION)?
            }
            Component::Metaspace { replacement, prepend_scheme, add_prefix_space, split } => {
                if replacement != SPACE {
                    return Err(unsupported("Metaspace with another character"));
                }
                self.edit(Edit::escape_spaces());
                let older = if add_prefix_space { Scheme::Always } else { Scheme::Never };
                let scheme = prepend_scheme.unwrap_or(older);
                if scheme != Scheme::Never {
                    self.edit(Edit::Lead { with: SPACE, only_first: scheme == Scheme::First });
                }
                if !split {
                    return Ok(());
                }
                Step::literal(SPACE.into(), Behavior::MergedWithNext, false)
            }
            Component::Whitespace => Step::regex(r"\w+|[^\w\s]+", Behavior::Removed, true)?,
            Component::WhitespaceSplit => Step::regex(r"\s", Behavior::Removed, false)?,
        };
        self.stage().steps.push(step);
        Ok(())
    }
}

/// What Unicode or ASCII has for punctuation.
const PUNCTUATION: &str = r"[\p{P}!-/:-@\[-`{-~]";

/// Whether `pattern` is made of digits alone (`[0-9][0-9][0-9]`, `[0-9]{1,3}`): it means the same in GPT-2's alphabet.
fn is_of_ascii_digits(pattern: &str) -> bool {
    pattern.chars().all(|c| c.is_ascii_digit() || "[]{}-,+".contains(c))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(normalizer: Value, components: &[Value], spelling: Spelling, text: &str, first: bool) -> Vec<String> {
        let json = json!({
            "normalizer": normalizer, "pre_tokenizer": {"type": "Sequence", "pretokenizers": components}
        });
        let pretokenizer = read(&json.to_string(), spelling).unwrap().pretokenizer;
        let mut words = Vec::new();
        let (text, begins) = pretokenizer.normalize_beginning(text, first);
        for piece in pretokenizer.pieces(&text, begins) {
            pretokenizer.split(&piece, &mut |word| words.push(word.to_string()));
        }
        words
    }

    #[test]
    fn byte_level_components() {
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
        let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
        let cases: [(Vec<Value>, &[&str]); 10] = [
            (vec![byte_level.clone()], &["ab 12, 3"]),
            (vec![gpt2.clone()], &["ab", " 12", ",", " 3"]),
            (vec![json!({"type": "ByteLevel"})], &[" ab", " 12", ",", " 3"]),
            (vec![json!({"type": "Digits", "individual_digits": true}), gpt2], &["ab", " ", "1", "2", ",", " ", "3"]),
            (vec![json!({"type": "Digits"}), byte_level.clone()], &["ab ", "12", ", ", "3"]),
            (vec![json!({"type": "Punctuation"}), byte_level.clone()], &["ab 12", ",", " 3"]),
            (vec![json!({"type": "WhitespaceSplit"}), byte_level.clone()], &["ab", "12,", "3"]),
            (vec![json!({"type": "Whitespace"}), byte_level.clone()], &["ab", "12", ",", "3"]),
            (vec![split(json!({"String": " "}), "MergedWithNext"), byte_level.clone()], &["ab", " 12,", " 3"]),
            (vec![byte_level, split(json!({"Regex": "[0-9]"}), "Isolated")], &["ab ", "1", "2", ", ", "3"]),
        ];
        for (components, expected) in cases {
            assert_eq!(
                words(Value::Null, &components, Spelling::ByteLevel, "ab 12, 3", true),
                expected,
                "{components:?}"
            );
        }
    }

    #[test]
    fn sentence_piece_components() {
        let metaspace = |scheme: &str, split: bool| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split});
        let spm = |normalizer, components: &[Value], text, first| {
            words(normalizer, components, Spelling::SentencePiece, text, first)
        };
        assert_eq!(spm(Value::Null, &[metaspace("always", true)], "a b", false), ["▁a", "▁b"]);
        assert_eq!(spm(Value::Null, &[metaspace("always", false)], " a b", false), ["▁a▁b"]);
        assert_eq!(spm(Value::Null, &[metaspace("first", false)], "a b", true), ["▁a▁b"]);
        assert_eq!(spm(Value::Null, &[metaspace("first", false)], "a b", false), ["a▁b"]);
        assert_eq!(spm(Value::Null, &[metaspace("never", false)], "a b", true), ["a▁b"]);
        let older = json!({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true});
        assert_eq!(spm(Value::Null, &[older], "a b", false), ["▁a", "▁b"]);
        let llama2 = json!({"type": "Sequence", "normalizers": [
            {"type": "NFKC"},
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]});
        assert_eq!(spm(llama2, &[], " a ²", true), ["▁▁a▁2"]);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let error = |json: Value, spelling| read(&json.to_string(), spelling).map(|_| ()).unwrap_err().to_string();
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false});
        let cases = [
            (json!({"normalizer": {"type": "Nmt"}, "pre_tokenizer": byte_level}), "the normalizer Nmt"),
            (json!({"pre_tokenizer": {"type": "UnicodeScripts"}}), "the pre-tokenizer UnicodeScripts"),
            (json!({"pre_tokenizer": {"type": "Digits"}}), "without ByteLevel"),
            (
                json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [byte_level, {"type": "Digits"}]}}),
                "Digits after ByteLevel",
            ),
            (
                json!({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}}),
                "`(a` is not supported",
            ),
            (
                json!({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"(a)\1"}, "behavior": "Isolated"}}),
                r"`(a)\1` is not supported: it uses a back-reference",
            ),
            (
                json!({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(1000)}}),
                "up to 1000 times as long",
            ),
            (
                json!({"normalizer": {"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 65]}}),
                "more than 64",
            ),
            (json!([]), KEY),
            (json!({"pre_tokenizer": {"type": "Split"}}), "missing field `pattern`"),
            (json!({"pre_tokenizer": 3}), KEY),
        ];
        for (json, message) in cases {
            let error = error(json, Spelling::ByteLevel);
            assert!(error.contains(message), "{message}: {error}");
        }
        assert!(error(json!({"pre_tokenizer": byte_level}), Spelling::SentencePiece).contains("with ByteLevel"));
        assert!(error(json!({"ignore_merges": true}), Spelling::SentencePiece).contains("ignore_merges"));
    }
}
