use quipu_formats::gguf::{GgufWriter, Metadata, Value};

use crate::{quipu, quipu_with_input};

#[test]
fn a_model_that_is_not_there_is_named() {
    for command in ["run", "tokenize", "score"] {
        let message = quipu([command, "no/such/model.gguf", "x"]).error();
        assert!(message.contains("no/such/model.gguf"), "{message}");
    }
    assert!(quipu(["inspect", "no/such/model.gguf"]).error().contains("no/such/model.gguf"));
}

#[test]
fn what_is_no_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    std::fs::write(&file, "<!DOCTYPE html><html>404</html>").unwrap();
    let message = quipu(["run", file.to_str().unwrap(), "x"]).error();
    assert!(message.contains("model.gguf") && message.contains("GGUF"), "{message}");
    let message = quipu(["run", dir.path().to_str().unwrap(), "x"]).error();
    assert!(message.contains("config.json"), "{message}");
}

#[test]
fn a_model_that_is_no_llama_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mamba.gguf");
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("mamba".into()));
    GgufWriter::create(&file, None, &metadata, &[]).unwrap().finish().unwrap();
    let message = quipu(["run", file.to_str().unwrap(), "x"]).error();
    assert!(message.contains("mamba") && message.contains("llama"), "{message}");
}

#[test]
fn a_truncated_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.gguf");
    quipu(["convert".as_ref(), crate::tales().as_os_str(), "-o".as_ref(), whole.as_os_str()]).ok();
    let bytes = std::fs::read(&whole).unwrap();
    for length in [0, 3, 20, 1000, bytes.len() / 2, bytes.len() - 1] {
        let part = dir.path().join("part.gguf");
        std::fs::write(&part, &bytes[..length]).unwrap();
        let message = quipu(["run", part.to_str().unwrap(), "x"]).error();
        assert!(message.contains("part.gguf"), "{length}: {message}");
    }
}

#[test]
fn more_threads_than_the_machine_has_are_as_many_as_it_has() {
    let ended = quipu(["run", "demo", "x", "-n", "1", "-t", "100000"]);
    assert!(ended.code == 0 && ended.stderr.starts_with("warning: -t 100000: "), "{}", ended.stderr);
    // A measurement would be of something else.
    assert!(quipu(["bench", "demo", "-t", "100000"]).error().contains("100000"));
    quipu(["run", "demo", "x", "-t", "0"]).error();
}

#[test]
fn a_prompt_too_long_says_how_long() {
    let message = quipu(["run", "demo", "one two three four five six seven eight", "-c", "6"]).error();
    assert!(message.contains("9 tokens") && message.contains('6'), "{message}");
}

#[test]
fn bad_sampling_options_are_named() {
    for (flag, value) in [("--temp", "-1"), ("--top-p", "1.5"), ("--min-p", "7"), ("--repeat-penalty", "0")] {
        let ended = quipu(["run", "demo", "x", &format!("{flag}={value}")]);
        let message = ended.error();
        assert!(message.contains(value), "{message}");
    }
    assert!(quipu(["run", "demo", "x", "--stop", ""]).error().contains("empty"));
}

#[test]
fn unknown_tokens_are_named() {
    let message = quipu(["score", "demo", "--tokens", "1,2,4000000"]).error();
    assert!(message.contains("4000000"), "{message}");
}

#[test]
fn an_empty_text_cannot_be_scored_without_a_token() {
    // The demo model begins texts with a token, so there is something, but nothing is predicted.
    let json = quipu_with_input(["score", "demo", "--json"], "").json();
    assert_eq!(json["tokens"].as_array().unwrap().len(), 1);
    assert_eq!(json["total"], 0.0);
}
