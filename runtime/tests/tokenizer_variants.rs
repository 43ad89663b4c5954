//! Random added tokens, normalizers and pre-tokenizers: ids equal to those of Hugging Face's `tokenizers`.
//!
//! tests/refs/tokenizer_variants.py makes the references and says how.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use quipu_formats::hf::read_tokenizer;
use quipu_runtime::tokenizer::{Part, Tokenizer, TokenizerError};
use quipu_test_random::Random;
use serde_json::Value;

#[derive(serde::Deserialize)]
struct Reference {
    made_by: String,
    variants: Vec<Variant>,
}

#[derive(serde::Deserialize)]
struct Variant {
    base: String,
    added_tokens: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    texts: Vec<(String, Vec<u32>, Option<Vec<u32>>)>,
}

/// What was compared.
#[derive(Default)]
struct Counts {
    texts: usize,
    /// Tokenizers that Quipu refuses, by the reason that it gives.
    refused: BTreeMap<&'static str, usize>,
    /// Control tokens that stand in texts.
    control: usize,
}

/// The reasons why Quipu refuses tokenizers that `tokenizers` takes: a bound of its own, and what makes no sense there
/// either.
fn reason(error: &TokenizerError) -> Option<&'static str> {
    let nothing_left = "of which the normalizer leaves nothing";
    match error {
        TokenizerError::Growth { .. } => Some("growth"),
        TokenizerError::Unsupported { component, .. } => component.contains(nothing_left).then_some(nothing_left),
        _ => None,
    }
}

fn compare(path: &Path) -> Counts {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let reference: Reference = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut differences, mut counts, mut random) = (Vec::new(), Counts::default(), Random::new(1));
    for variant in &reference.variants {
        let base = root.join(if variant.base == "bytes" { "tiny-llama3-bf16" } else { "tiny-llama2-f16" });
        let mut json: Value = serde_json::from_slice(&std::fs::read(base.join("tokenizer.json")).unwrap()).unwrap();
        json["added_tokens"] = variant.added_tokens.clone();
        json["normalizer"] = variant.normalizer.clone();
        json["pre_tokenizer"] = variant.pre_tokenizer.clone();
        json["post_processor"] = Value::Null;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
        let shown = format!("{} {} {}", json["added_tokens"], json["normalizer"], json["pre_tokenizer"]);
        let metadata = read_tokenizer(dir.path(), None).unwrap_or_else(|e| panic!("{shown}: {e}"));
        let tokenizer = match Tokenizer::from_metadata(&metadata) {
            Ok(tokenizer) => tokenizer,
            Err(e) => {
                let reason = reason(&e).unwrap_or_else(|| panic!("{shown}: {e}"));
                *counts.refused.entry(reason).or_default() += 1;
                continue;
            }
        };
        let control = control_tokens(&json, &tokenizer);
        for (text, parsed, plain) in &variant.texts {
            counts.texts += 1;
            for (special, expected) in [(true, parsed), (false, plain.as_ref().unwrap_or(parsed))] {
                let whole = if special { Part::Template(text) } else { Part::Data(text) };
                for ids in [tokenizer.encode(text, false, special), tokenizer.encode_parts(&[whole])] {
                    if ids != *expected {
                        differences.push(format!("{text:?}, {special}: {ids:?}, expected {expected:?}, with {shown}"));
                    }
                }
            }
            let marks = |parts: &[Part<'_>]| {
                let mut ids = tokenizer.encode_parts(parts);
                ids.retain(|id| control.contains(id));
                ids.sort_unstable();
                ids
            };
            counts.control += marks(&[Part::Template(text)]).len();
            // What stands between two parts of the template, whatever it is, makes no control token that they do not
            // have themselves.
            let mut cut = || text.char_indices().map(|(at, _)| at).nth(random.below(text.chars().count())).unwrap();
            let (a, b) = (cut(), cut());
            let (before, data, after) = (&text[..a.min(b)], &text[a.min(b)..a.max(b)], &text[a.max(b)..]);
            if data.is_empty() {
                continue;
            }
            let found = marks(&[Part::Template(before), Part::Data(data), Part::Template(after)]);
            let mut own = marks(&[Part::Template(before)]);
            own.extend(marks(&[Part::Template(after)]));
            for id in found {
                match own.iter().position(|own| *own == id) {
                    Some(at) => drop(own.remove(at)),
                    None => differences.push(format!("{id} forged by [{before:?}]{data:?}[{after:?}] with {shown}")),
                }
            }
        }
    }
    let count = differences.len();
    differences.truncate(5);
    assert!(count == 0, "{count} texts differ from {}, such as\n{}", reference.made_by, differences.join("\n"));
    counts
}

/// The special tokens that no merge makes.
fn control_tokens(json: &Value, tokenizer: &Tokenizer) -> BTreeSet<u32> {
    let vocabulary = json["model"]["vocab"].as_object().unwrap();
    let content = |token: &Value| token["content"].as_str().unwrap().to_string();
    let is_mark = |content: &String| !vocabulary.contains_key(content) || content.starts_with('<');
    let special = json["added_tokens"].as_array().unwrap().iter().filter(|token| token["special"] == true);
    // The ids in the file are not always those that count.
    special.map(content).filter(is_mark).map(|content| tokenizer.id(&content).unwrap()).collect()
}

#[test]
fn sixty_variants() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tokenizer/variants.json");
    let counts = compare(&path);
    assert!(counts.texts >= 500 && counts.control >= 80, "{} {}", counts.texts, counts.control);
    assert!(counts.refused.values().sum::<usize>() <= 5, "{:?}", counts.refused);
}

#[test]
fn a_thousand_variants() {
    let Some(path) = std::env::var_os("QUIPU_REFS").map(|refs| PathBuf::from(refs).join("variants.json")) else {
        return println!("SKIPPED: QUIPU_REFS names no directory with variants.json");
    };
    if !path.is_file() {
        return println!("SKIPPED: {} is missing (run tests/refs/fetch.sh)", path.display());
    }
    let counts = compare(&path);
    assert!(counts.texts >= 25_000 && counts.control >= 5000, "{} {}", counts.texts, counts.control);
    assert!(counts.refused.values().all(|count| *count <= 50), "{:?}", counts.refused);
}
