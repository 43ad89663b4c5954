//! `--target-bits`: types by what they lose.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{quipu, tales};

const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn inspect(path: &Path) -> serde_json::Value {
    quipu(["inspect", arg(path), "--json"]).json()
}

fn bits(path: &Path) -> f64 {
    inspect(path)["bits_per_weight"].as_f64().unwrap()
}

/// What it is for: less divergence than the mix of the same size, on a text that it has not seen.
#[test]
fn chosen_types_beat_a_mix_of_the_same_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (full, mix, chosen) = (path("bf16.gguf"), path("mix.gguf"), path("chosen.gguf"));
    quipu(["convert", arg(tales()), "-o", arg(&full)]).ok();
    quipu(["quantize", arg(&full), arg(&mix), "--type", "q4_k_m", "--calibrate"]).ok();
    let target = bits(&mix);
    quipu(["quantize", arg(&full), arg(&chosen), "--target-bits", &target.to_string()]).ok();
    let found = bits(&chosen);
    assert!(found <= target && found > 0.99 * target, "{found} of {target}");
    let divergence = |model: &Path| {
        let report = quipu(["perplexity", arg(model), "--kl", arg(&full), "-f", TEXT, "-c", "256", "--json"]).json();
        report["kl"].as_f64().unwrap()
    };
    let (mix, chosen) = (divergence(&mix), divergence(&chosen));
    assert!(chosen < 0.85 * mix, "{chosen} with chosen types, {mix} with those of Q4_K_M");
}

#[test]
fn types_are_the_same_everywhere_and_rules_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let quantized = |isa: &str, name: &str, options: &[&str]| {
        let output = path(name);
        let mut command = crate::command([&["quantize", STORIES, arg(&output), "-q"], options].concat());
        command.env("QUIPU_ISA", isa);
        crate::ended(command).ok();
        output
    };
    let by_text = format!("--calibrate={TEXT}");
    let options = ["--target-bits", "8", "--tensor", "attn_v=q8_0", &by_text];
    let (plain, portable) = (quantized("", "a.gguf", &options), quantized("portable", "b.gguf", &options));
    assert!(std::fs::read(&plain).unwrap() == std::fs::read(portable).unwrap());
    let report = inspect(&plain);
    let matrices =
        || report["tensors"].as_array().unwrap().iter().filter(|t| t["shape"].as_array().unwrap().len() == 2);
    let types: BTreeSet<_> = matrices().map(|t| t["type"].as_str().unwrap()).collect();
    assert!(bits(&plain) <= 8.0 && types.len() > 2, "{types:?}");
    let fixed = |t: &&serde_json::Value| t["name"].as_str().unwrap().contains("attn_v");
    assert!(matrices().filter(fixed).all(|t| t["type"] == "Q8_0"));

    let packed = quantized("", "a.quipu", &["--target-bits", "10", "--packed"]);
    assert!(bits(&packed) <= 10.0);
    assert!(!quipu(["run", arg(&packed), "Once", "-n", "4", "--temp", "0"]).ok().is_empty());
}

#[test]
fn budgets_that_cannot_be_met_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("no.gguf");
    let quantize = |options: &[&str]| quipu([&["quantize", STORIES, arg(&output)], options].concat());
    let message = quantize(&["--target-bits", "2"]).error();
    assert!(message.contains("--target-bits 2") && message.contains("smallest types the file has 6."), "{message}");
    let message = quantize(&["--target-bits", "2", "--tensor", "ffn=f16"]).error();
    assert!(message.contains("--tensor"), "{message}");
    let message = quantize(&["--target-bits", "40"]).error();
    assert!(message.contains("the file has 32.0"), "{message}");
    for wrong in [&["--target-bits", "none"][..], &["--target-bits", "-1"], &["--target-bits=nan"]] {
        assert_eq!(quantize(wrong).code, 2);
    }
    assert_eq!(quantize(&[]).code, 2, "neither a type nor a size");
    assert_eq!(quantize(&["--target-bits", "6", "--type", "q4_0"]).code, 2);
    assert_eq!(quantize(&["--target-bits", "6", "--rounding", "plain"]).code, 2);
    assert!(!output.exists());
}
