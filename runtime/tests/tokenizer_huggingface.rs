//! Ids equal to those of Hugging Face's `tokenizers`, for vocabularies converted from tokenizer.json.
//!
//! tests/refs/tokenizer_reference.py makes the references and says how.

use std::path::{Path, PathBuf};

use quipu_formats::gguf::Value;
use quipu_formats::hf::read_tokenizer;
use quipu_runtime::generate::{InfillError, InfillNames, InfillOrder, InfillTokens};
use quipu_runtime::tokenizer::Tokenizer;

#[derive(serde::Deserialize)]
struct Reference {
    made_by: String,
    strings: Vec<Case>,
    whole: Option<Whole>,
    #[serde(default)]
    lines: Vec<Vec<u32>>,
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    parsed: Vec<u32>,
    plain: Option<Vec<u32>>,
}

#[derive(serde::Deserialize)]
struct Whole {
    text: String,
    ids: Vec<u32>,
}

fn reference(path: &Path) -> Reference {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The vocabulary of a Hugging Face directory.
fn tokenizer(dir: &Path) -> Tokenizer {
    Tokenizer::from_metadata(&read_tokenizer(dir, None).unwrap()).unwrap()
}

/// Holds `tokenizer` against `reference` and says which texts differ.
fn compare(tokenizer: &Tokenizer, reference: &Reference) {
    let mut differences = Vec::new();
    let mut check = |text: &str, parse_special: bool, expected: &[u32]| {
        let ids = tokenizer.encode(text, false, parse_special);
        if ids != expected {
            let at = ids.iter().zip(expected).take_while(|(a, b)| a == b).count();
            let near = |ids: &[u32]| {
                ids[at.saturating_sub(2)..ids.len().min(at + 5)]
                    .iter()
                    .map(|id| tokenizer.piece(*id).to_string())
                    .collect::<Vec<_>>()
            };
            let shown: String = text.chars().take(200).collect();
            differences.push(format!("{shown:?}\n    token {at}: {:?}, expected {:?}", near(&ids), near(expected)));
        }
    };
    for case in &reference.strings {
        check(&case.text, true, &case.parsed);
        check(&case.text, false, case.plain.as_ref().unwrap_or(&case.parsed));
    }
    if let Some(whole) = &reference.whole {
        check(&whole.text, true, &whole.ids);
        assert_eq!(whole.text.split('\n').count(), reference.lines.len());
        for (line, ids) in whole.text.split('\n').zip(&reference.lines) {
            check(line, true, ids);
        }
    }
    let count = differences.len();
    differences.truncate(20);
    assert!(count == 0, "{count} texts differ from {}, such as\n{}", reference.made_by, differences.join("\n"));
    for case in &reference.strings {
        let ids = case.plain.as_ref().unwrap_or(&case.parsed);
        assert_eq!(tokenizer.decode(ids, false), case.text);
    }
}

/// The demo model's vocabulary, and one like Llama 2's.
#[test]
fn vocabularies_of_our_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (name, directory) in [("tales", "models/tales"), ("tiny-llama2", "tests/data/tiny-llama2-f16")] {
        let reference = reference(&root.join(format!("tests/data/tokenizer/{name}.json")));
        assert!(reference.strings.len() >= 300, "{name}");
        compare(&tokenizer(&root.join(directory)), &reference);
    }
}

/// Llama 3.1's vocabulary is not ours to ship, so both it and the reference may be missing.
#[test]
fn llama3_on_wikitext_and_ten_thousand_strings() {
    let shared = std::env::var_os("QUIPU_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let vocabulary = shared.join("data/llama3-hf");
    let Some(references) = std::env::var_os("QUIPU_REFS").map(PathBuf::from) else {
        println!("SKIPPED: QUIPU_REFS names no directory with tokenizer.json");
        return;
    };
    let path = references.join("tokenizer.json");
    if !vocabulary.is_dir() || !path.is_file() {
        println!("SKIPPED: {} or {} is missing", vocabulary.display(), path.display());
        return;
    }
    let reference = reference(&path);
    assert!(reference.strings.len() >= 10_000 && reference.whole.is_some());
    compare(&tokenizer(&vocabulary), &reference);
}

/// tests/refs/infill_reference.py: what stands before a gap, what stands behind it, and the prompt of transformers'
/// CodeLlamaTokenizer with either first.
#[test]
fn prompts_for_infilling_are_those_of_code_llama() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny-codellama-bf16");
    let tokenizer = tokenizer(&dir);
    let marks = InfillTokens::of(&tokenizer).unwrap();
    let cases: Vec<(String, String, Vec<u32>, Vec<u32>)> =
        serde_json::from_slice(&std::fs::read(dir.join("infill.json")).unwrap()).unwrap();
    assert!(cases.len() >= 8);
    for (before, after, prefix_first, suffix_first) in &cases {
        let prompt = |order| marks.prompt(&tokenizer, before, after, order);
        assert_eq!(&prompt(InfillOrder::PrefixFirst), prefix_first, "{before:?} {after:?}");
        assert_eq!(&prompt(InfillOrder::SuffixFirst), suffix_first, "{before:?} {after:?}");
    }
    assert!(tokenizer.is_end_of_generation(tokenizer.id("▁<EOT>").unwrap()));
    // Names of tokens are text.
    let odd = marks.prompt(&tokenizer, "a▁<MID>", "</s>b", InfillOrder::PrefixFirst);
    assert_eq!(odd.iter().filter(|&&id| tokenizer.is_control(id)).count(), 4, "BOS and three marks: {odd:?}");
}

#[test]
fn tokens_for_infilling_are_named_by_the_file_or_by_whoever_asks() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny-llama3-bf16");
    let plain = tokenizer(&dir);
    assert_eq!(InfillTokens::of(&plain), None);
    let named = |names: &str| InfillTokens::named(&plain, &names.parse::<InfillNames>()?);
    let marks = named("<|start_header_id|>, <|end_header_id|>,<|eot_id|>").unwrap();
    assert_eq!(marks.middle, plain.id("<|eot_id|>").unwrap());
    assert_eq!(marks.prompt(&plain, "", "", InfillOrder::SuffixFirst)[1..], [marks.prefix, marks.suffix, marks.middle]);
    assert_eq!(named("a,b"), Err(InfillError::Count { found: 2 }));
    assert_eq!(named("a,<MID>,b"), Err(InfillError::Unknown { name: "<MID>".into() }));
    // Present keys and older ones; one that is missing makes no set.
    for (keys, whole) in [
        (["fim_pre", "fim_suf", "fim_mid"], true),
        (["prefix", "suffix", "middle"], true),
        (["fim_pre", "suffix", "fim_mid"], false),
    ] {
        let mut metadata = read_tokenizer(&dir, None).unwrap();
        for (id, key) in keys.iter().enumerate() {
            metadata.set(format!("tokenizer.ggml.{key}_token_id"), Value::U32(id as u32 + 7));
        }
        let found = InfillTokens::of(&Tokenizer::from_metadata(&metadata).unwrap());
        assert_eq!(found, whole.then_some(InfillTokens { prefix: 7, suffix: 8, middle: 9 }), "{keys:?}");
    }
}
