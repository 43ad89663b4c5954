//! The pre-tokenizer of a Hugging Face `tokenizer.json`, for models whose pre-tokenizer has no name in the table.
//!
//! The key [`KEY`] holds a JSON object `{"normalizer": …, "pre_tokenizer": …, "ignore_merges": …}` with the components as that
//! file spells them. What they mean is defined by the crate `tokenizers`, modules `pre_tokenizers` and `normalizers`.

use serde::Deserialize;
use serde_json::Value;

use super::words::GPT2;
use super::{Behavior, Chosen, Pretokenizer, Step};
use crate::tokenizer::error::TokenizerError;

/// Where GGUF files carry the description.
pub(in crate::tokenizer) const KEY: &str = "quipu.tokenizer.pre";

#[derive(Deserialize)]
struct Description {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    ignore_merges: Option<bool>,
}

#[derive(Deserialize)]
struct Sequence {
    #[serde(alias = "normalizers")]
    pretokenizers: Vec<Value>,
}

#[derive(Deserialize)]
enum Pattern {
    Regex(String),
    String(String),
}

#[derive(Deserialize)]
struct Split {
    pattern: Pattern,
    behavior: Behavior,
    #[serde(default)]
    invert: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct ByteLevel {
    #[serde(default = "yes")]
    add_prefix_space: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

#[derive(Deserialize)]
struct Digits {
    #[serde(default)]
    individual_digits: bool,
}

#[derive(Deserialize)]
struct Punctuation {
    #[serde(default)]
    behavior: Option<Behavior>,
}

/// What `json` describes.
pub(in crate::tokenizer) fn read(json: &str) -> Result<Chosen, TokenizerError> {
    let description: Description = serde_json::from_str(json).map_err(malformed)?;
    if let Some(normalizer) = &description.normalizer {
        check_normalizer(normalizer)?;
    }
    let mut reader = Reader { pretokenizer: Pretokenizer::default(), byte_level: false };
    if let Some(component) = description.pre_tokenizer {
        reader.component(component)?;
    }
    if !reader.byte_level {
        return Err(unsupported("a pre-tokenizer without ByteLevel".into()));
    }
    let ignore_merges = description.ignore_merges.unwrap_or(false);
    Ok(Chosen { pretokenizer: reader.pretokenizer, ignore_merges, add_bos: false })
}

fn malformed(source: serde_json::Error) -> TokenizerError {
    TokenizerError::Json { key: KEY, source }
}

fn unsupported(component: String) -> TokenizerError {
    TokenizerError::Unsupported { key: KEY, component }
}

fn options<T: serde::de::DeserializeOwned>(component: Value) -> Result<T, TokenizerError> {
    serde_json::from_value(component).map_err(malformed)
}

fn type_of(component: &Value) -> Result<String, TokenizerError> {
    #[derive(Deserialize)]
    struct Tag {
        r#type: String,
    }
    Ok(Tag::deserialize(component).map_err(malformed)?.r#type)
}

/// Only normalizers that change nothing are supported.
fn check_normalizer(normalizer: &Value) -> Result<(), TokenizerError> {
    if normalizer.is_null() {
        return Ok(());
    }
    match type_of(normalizer)?.as_str() {
        "Sequence" => options::<Sequence>(normalizer.clone())?.pretokenizers.iter().try_for_each(check_normalizer),
        other => Err(unsupported(format!("the normalizer {other}"))),
    }
}

struct Reader {
    pretokenizer: Pretokenizer,
    /// Whether ByteLevel has been seen: what follows it sees GPT-2's alphabet instead of the text.
    byte_level: bool,
}

impl Reader {
    fn component(&mut self, component: Value) -> Result<(), TokenizerError> {
        let name = type_of(&component)?;
        match name.as_str() {
            "Sequence" => {
                let sequence: Sequence = options(component)?;
                return sequence.pretokenizers.into_iter().try_for_each(|component| self.component(component));
            }
            "Split" => {
                let Split { pattern, behavior, invert } = options(component)?;
                let step = match pattern {
                    Pattern::Regex(pattern) if self.byte_level && !is_of_ascii_digits(&pattern) => {
                        return Err(unsupported(format!("Split by `{pattern}` after ByteLevel")));
                    }
                    Pattern::String(_) if self.byte_level => return Err(unsupported("Split after ByteLevel".into())),
                    Pattern::Regex(pattern) => Step::regex(&pattern, behavior, invert)?,
                    Pattern::String(text) => Step::literal(text, behavior, invert),
                };
                self.pretokenizer.steps.push(step);
            }
            _ if self.byte_level => return Err(unsupported(format!("{name} after ByteLevel"))),
            "ByteLevel" => {
                let ByteLevel { add_prefix_space, use_regex } = options(component)?;
                if add_prefix_space && !self.pretokenizer.steps.is_empty() {
                    return Err(unsupported("ByteLevel with add_prefix_space after another component".into()));
                }
                self.byte_level = true;
                self.pretokenizer.add_prefix_space = add_prefix_space;
                if use_regex {
                    self.pretokenizer.steps.push(Step::isolate(GPT2)?);
                }
            }
            "Digits" => {
                let Digits { individual_digits } = options(component)?;
                self.pretokenizer.steps.push(Step::isolate(if individual_digits { r"\p{N}" } else { r"\p{N}+" })?);
            }
            "Punctuation" => {
                let Punctuation { behavior } = options(component)?;
                let behavior = behavior.unwrap_or(Behavior::Isolated);
                self.pretokenizer.steps.push(Step::regex(r"[\p{P}!-/:-@\[-`{-~]", behavior, false)?);
            }
            "WhitespaceSplit" => self.pretokenizer.steps.push(Step::regex(r"\s", Behavior::Removed, false)?),
            "Whitespace" => self.pretokenizer.steps.push(Step::regex(r"\w+|[^\w\s]+", Behavior::Removed, true)?),
            _ => return Err(unsupported(format!("the pre-tokenizer {name}"))),
        }
        Ok(())
    }
}

/// Whether `pattern` is made of digits alone (`[0-9][0-9][0-9]`, `[0-9]{1,3}`): it means the same in GPT-2's alphabet.
fn is_of_ascii_digits(pattern: &str) -> bool {
    pattern.chars().all(|c| c.is_ascii_digit() || "[]{}-,+".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(json: &str, text: &str) -> Vec<String> {
        let pretokenizer = read(json).unwrap().pretokenizer;
        let mut words = Vec::new();
        pretokenizer.split(text, &mut |word| words.push(word.to_string()));
        words
    }

    #[test]
    fn components() {
        let json = |components: &str| {
            format!(
                r#"{{"normalizer": null, "pre_tokenizer": {{"type": "Sequence", "pretokenizers": [{components}]}}}}"#
            )
        };
        let byte_level =
            r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}"#;
        let gpt2 = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}"#;
        let each = r#"{"type": "Digits", "individual_digits": true}"#;
        let split = |rest: &str| format!(r#"{{"type": "Split", {rest}}}"#);
        let cases = [
            (byte_level.to_string(), vec!["ab 12, 3"]),
            (gpt2.to_string(), vec!["ab", " 12", ",", " 3"]),
            (format!("{each}, {gpt2}"), vec!["ab", " ", "1", "2", ",", " ", "3"]),
            (format!(r#"{{"type": "Digits"}}, {byte_level}"#), vec!["ab ", "12", ", ", "3"]),
            (format!(r#"{{"type": "Punctuation"}}, {byte_level}"#), vec!["ab 12", ",", " 3"]),
            (format!(r#"{{"type": "WhitespaceSplit"}}, {byte_level}"#), vec!["ab", "12,", "3"]),
            (format!(r#"{{"type": "Whitespace"}}, {byte_level}"#), vec!["ab", "12", ",", "3"]),
            (
                split(r#""pattern": {"String": " "}, "behavior": "MergedWithNext", "invert": false"#)
                    + ","
                    + byte_level,
                vec!["ab", " 12,", " 3"],
            ),
            (
                format!("{byte_level}, ")
                    + &split(r#""pattern": {"Regex": "[0-9]"}, "behavior": "Isolated", "invert": false"#),
                vec!["ab ", "1", "2", ", ", "3"],
            ),
        ];
        for (components, expected) in cases {
            assert_eq!(words(&json(&components), "ab 12, 3"), expected, "{components}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let error = |json: &str| read(json).map(|_| ()).unwrap_err().to_string();
        let byte_level = r#"{"type": "ByteLevel", "add_prefix_space": false}"#;
        assert!(
            error(&format!(r#"{{"normalizer": {{"type": "NFKC"}}, "pre_tokenizer": {byte_level}}}"#)).contains("NFKC")
        );
        assert!(error(r#"{"pre_tokenizer": {"type": "Metaspace"}}"#).contains("Metaspace"));
        assert!(error(r#"{"pre_tokenizer": {"type": "Digits"}}"#).contains("without ByteLevel"));
        let after = format!(
            r#"{{"pre_tokenizer": {{"type": "Sequence", "pretokenizers": [{byte_level}, {{"type": "Digits"}}]}}}}"#
        );
        assert!(error(&after).contains("Digits after ByteLevel"));
        assert!(error("[").contains(KEY));
        let regex = r#"{"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated"}}"#;
        assert!(error(regex).contains("`(a`"));
    }
}
