//! What only the `quipu` binary shows: a conversation, and perplexity over a text.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use quipu_tests::{binary, data, json, refs, shared};

/// The standard output of `quipu` with these arguments and this input.
fn quipu(binary: &Path, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("quipu starts");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("quipu reads its input");
    let output = child.wait_with_output().expect("quipu ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "quipu {arguments:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_conversation_makes_sense() {
    let (Some(binary), Some(model)) = (binary(), refs("smollm2.gguf")) else { return };
    let model = model.to_str().expect("UTF-8");
    let arguments =
        ["chat", model, "--system", "You are a helpful assistant.", "--temp", "0", "-n", "60", "-c", "1024"];
    let answers = quipu(&binary, &arguments, "What is the capital of France?\nAnd of Italy?\n");
    let lines: Vec<_> = answers.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 2, "{answers}");
    assert!(lines[0].contains("Paris"), "{answers}");
    // Only the first question says that it is about capitals.
    assert!(lines[1].contains("Rome"), "{answers}");
}

/// The first 64 KiB of WikiText-2's test set, by the method of llama.cpp's tool (`tests/refs/smollm2_reference.py` made the figure).
#[test]
fn perplexity_is_llama_cpps() {
    let (Some(binary), Some(model)) = (binary(), refs("smollm2.gguf")) else { return };
    let Some(wiki) = shared("data/text/wiki.test.raw") else { return };
    let expected = json(data("smollm2/llama_cpp_perplexity.json"));
    let number = |key: &str| expected[key].as_f64().unwrap_or_else(|| panic!("{key}"));
    let text = std::fs::read(wiki).expect("wiki.test.raw");
    let directory = tempfile::tempdir().expect("scratch directory");
    let file = directory.path().join("beginning.txt");
    std::fs::write(&file, &text[..number("bytes") as usize]).expect("scratch file");
    let (model, file) = (model.to_str().expect("UTF-8"), file.to_str().expect("UTF-8"));
    let printed = quipu(&binary, &["perplexity", model, "-f", file, "-c", "512", "--json"], "");
    let result: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    println!("{result}");
    let (ours, theirs) = (result["ppl"].as_f64().expect("ppl"), number("perplexity"));
    assert!((ours / theirs - 1.0).abs() < 0.005, "{ours}, llama.cpp {theirs}");
}
