//! A real chat model, where `tests/refs/fetch.sh` has put one.

use std::path::{Path, PathBuf};

use crate::{quipu, quipu_with_input};

/// A path under a directory that a variable names, or nothing and a line that says so.
fn optional(variable: &str, default: &str, path: &str) -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = std::env::var_os(variable).map_or_else(|| workspace.join(default), PathBuf::from);
    let path = root.join(path);
    if !path.exists() {
        println!("SKIPPED: {} is missing (tests/refs/fetch.sh, QUIPU_SHARED)", path.display());
        return None;
    }
    Some(path.to_str().unwrap().to_string())
}

fn model() -> Option<String> {
    optional("QUIPU_REFS", "target/refs", "smollm2.gguf")
}

#[test]
fn a_conversation_makes_sense() {
    let Some(model) = model() else { return };
    let questions = "What is the capital of Peru?\nAnd of France?\n";
    let answers = quipu_with_input(["chat", &model, "--temp", "0", "-n", "40"], questions).ok();
    let (lima, paris) = (answers.find("Lima"), answers.find("Paris"));
    assert!(lima.is_some() && lima < paris, "the second question makes sense only after the first: {answers}");
}

/// llama.cpp's figure for the same file, text and context: tests/data/smollm2/llama_cpp_perplexity.json.
#[test]
fn perplexity_is_llama_cpps() {
    let Some(model) = model() else { return };
    let Some(text) = optional("QUIPU_SHARED", "../shared", "data/text/wiki.test.raw") else { return };
    let reference = include_str!("../../../../tests/data/smollm2/llama_cpp_perplexity.json");
    let reference: serde_json::Value = serde_json::from_str(reference).unwrap();
    let text = std::fs::read(text).unwrap();
    let text = std::str::from_utf8(&text[..reference["bytes"].as_u64().unwrap() as usize]).unwrap();
    let got = quipu_with_input(["perplexity", &model, "-c", "512", "--json"], text).json();
    assert_eq!((&got["chunks"], &got["ctx"]), (&reference["chunks"], &reference["context"]));
    let (got, want) = (got["ppl"].as_f64().unwrap(), reference["perplexity"].as_f64().unwrap());
    println!("perplexity {got:.4}, llama.cpp's {want:.4}");
    assert!((got / want - 1.0).abs() < 0.005, "{got}, llama.cpp has {want}");
}

#[test]
fn the_template_of_the_file_is_used() {
    let Some(model) = model() else { return };
    let json = quipu(["inspect", &model, "--json"]).json();
    assert!(json["metadata"]["tokenizer.chat_template"].as_str().unwrap().contains("<|im_start|>"));
}
