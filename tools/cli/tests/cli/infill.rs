//! `quipu infill`, with a small random model that has Code Llama's tokens.

use std::path::Path;

use serde_json::json;

use crate::{ids, quipu, quipu_with_input};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny-codellama-bf16");

#[test]
fn a_gap_is_filled_from_files_and_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (before, after) = (path("before"), path("after"));
    std::fs::write(&before, "the llama").unwrap();
    std::fs::write(&after, " walked home").unwrap();
    let common = ["infill", MODEL, "--prefix", &before, "-n", "12", "--seed", "3"];
    let told = quipu(common.iter().copied().chain(["--suffix", &after, "--json"])).json();
    let expected = std::fs::read(Path::new(MODEL).join("infill.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(told["prompt_tokens"], expected[0][2]);
    // To the byte: no line end, no prompt.
    let text = quipu_with_input(common, " walked home").ok();
    assert_eq!(json!(text), told["text"]);
    let spm = quipu(common.iter().copied().chain(["--suffix", &after, "--json", "--spm"])).json();
    assert_eq!(spm["prompt_tokens"], expected[0][3]);
    // Whoever names the same tokens gets the same text.
    let named =
        quipu(common.iter().copied().chain(["--suffix", &after, "--json", "--fim", "▁<PRE>,▁<SUF>,▁<MID>"])).json();
    assert_eq!(ids(&named["tokens"]), ids(&told["tokens"]));
}

#[test]
fn what_cannot_be_filled_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text").display().to_string();
    std::fs::write(&file, "x").unwrap();
    let run = |more: &[&str]| quipu(["infill", "demo", "--prefix", &file, "--suffix", &file].iter().chain(more));
    let error = run(&[]).error();
    assert!(error.contains("no tokens for infilling") && error.contains("--fim"), "{error}");
    let error = run(&["--fim", "<P>,<S>,<M>"]).error();
    assert!(error.contains("--fim: the model's vocabulary has no token \"<P>\""), "{error}");
    assert_eq!(run(&["--fim", "<P>,<S>"]).code, 2);
    assert!(quipu(["infill", "demo", "--prefix", "/no/such", "--suffix", &file]).error().contains("/no/such"));
}
