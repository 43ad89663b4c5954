//! Windows, layers without RoPE, factors and caps by the keys of a GGUF, as llama.cpp reads them.

use quipu_formats::families::{Rope, Ungated};
use quipu_formats::gguf::{Array, Metadata, Value};
use quipu_runtime::config::{Config, ConfigError};

/// A model of seven layers with these keys of its architecture.
fn read(architecture: &str, keys: &[(&str, Value)]) -> Result<Config, ConfigError> {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String(architecture.into()));
    for (key, size) in [
        ("block_count", 7),
        ("context_length", 1024),
        ("embedding_length", 64),
        ("feed_forward_length", 64),
        ("attention.head_count", 4),
    ] {
        metadata.set(format!("{architecture}.{key}"), Value::U32(size));
    }
    let kind = if architecture == "opt" { "" } else { "_rms" };
    metadata.set(format!("{architecture}.attention.layer_norm{kind}_epsilon"), Value::F32(1e-5));
    for (key, value) in keys {
        let own = key.starts_with("quipu.");
        metadata.set(if own { (*key).into() } else { format!("{architecture}.{key}") }, value.clone());
    }
    Config::from_metadata(&metadata)
}

fn config(architecture: &str, keys: &[(&str, Value)]) -> Config {
    read(architecture, keys).unwrap_or_else(|error| panic!("{architecture}: {error}"))
}

/// The window of each layer.
fn windows(config: &Config) -> Vec<Option<usize>> {
    (0..config.layers).map(|i| config.layer(i).window).collect()
}

const WINDOW: (&str, Value) = ("attention.sliding_window", Value::U32(9));
const W: Option<usize> = Some(9);

#[test]
fn windows_by_rule_number_and_list() {
    assert_eq!(windows(&config("gemma3", &[WINDOW])), [W, W, W, W, W, None, W]);
    assert_eq!(windows(&config("gemma2", &[WINDOW])), [W, None, W, None, W, None, W]);
    assert_eq!(windows(&config("gemma2", &[])), [4096, 0, 4096, 0, 4096, 0, 4096].map(|w| Some(w).filter(|w| *w > 0)));
    assert_eq!(windows(&config("olmo2", &[])), [None; 7]);
    assert_eq!(windows(&config("phi3", &[WINDOW])), [W; 7]);
    assert_eq!(windows(&config("phi3", &[("attention.sliding_window", Value::U32(0))])), [None; 7]);
    let three = ("attention.sliding_window_pattern", Value::U32(3));
    assert_eq!(windows(&config("gemma3", &[WINDOW, three])), [W, W, None, W, W, None, W]);
    let list = |n: usize| Value::Array(Array::Bool((0..n).map(|i| i == 1).collect()));
    let pattern = |n| ("attention.sliding_window_pattern", list(n));
    assert_eq!(windows(&config("llama", &[WINDOW, pattern(7)])), [None, W, None, None, None, None, None]);
    let short = read("gemma3", &[WINDOW, pattern(6)]);
    assert!(matches!(&short, Err(ConfigError::Value { found, .. }) if found == "an array of 6"), "{short:?}");
}

#[test]
fn ropes_of_layers() {
    let gemma = config("gemma3", &[WINDOW, ("rope.freq_base", Value::F32(1e6))]);
    assert_eq!((gemma.layer(4).rope, gemma.layer(5).rope), (Some(Rope::Local), Some(Rope::Global)));
    assert_eq!(gemma.plan.local_base, Some(10_000.0));
    let other = config("gemma3", &[WINDOW, ("rope.freq_base_swa", Value::F32(2e4))]);
    assert_eq!(other.plan.local_base, Some(20_000.0));
    let olmo = config("olmo2", &[WINDOW, ("rope.freq_base", Value::F32(5e5))]);
    assert_eq!(olmo.plan.local_base, Some(500_000.0));
    let roped = |config: Config| (0..7).filter(|&i| config.layer(i).rope.is_some()).collect::<Vec<_>>();
    assert_eq!(roped(config("smollm3", &[])), [0, 1, 2, 4, 5, 6]);
    let list = Value::Array(Array::Bool(vec![false, true, false, false, false, false, false]));
    assert_eq!(roped(config("smollm3", &[("quipu.rope.layers", list)])), [1]);
}

#[test]
fn factors_and_caps() {
    let number = |key, value| (key, Value::F32(value));
    let granite = config(
        "granite",
        &[number("embedding_scale", 12.0), number("residual_scale", 0.25), number("logit_scale", 8.0)],
    );
    let plan = &granite.plan;
    assert_eq!((plan.embedding_scale, plan.residual_scale, plan.logit_divisor), (12.0, 0.25, 8.0));
    // Without a key, and with what llama.cpp takes for none, as if there were no such factor.
    assert_eq!((plan.attention_scale, plan.logit_cap), (0.25, None));
    assert_eq!(config("granite", &[number("attention.scale", 0.0)]).plan.attention_scale, 0.25);
    let gemma = config("gemma2", &[number("final_logit_softcapping", 0.0)]).plan;
    assert_eq!((gemma.embedding_scale, gemma.attention_cap, gemma.logit_cap), (8.0, Some(50.0), None));
    // An architecture that has none does not read them.
    assert_eq!(config("llama", &[number("embedding_scale", 12.0)]).plan.embedding_scale, 1.0);
    for (architecture, key) in [
        ("granite", "embedding_scale"),
        ("granite", "residual_scale"),
        ("granite", "logit_scale"),
        ("granite", "attention.scale"),
        ("gemma2", "attn_logit_softcapping"),
        ("gemma3", "final_logit_softcapping"),
        ("gemma3", "rope.freq_base_swa"),
    ] {
        for value in [-1.0, f32::NAN, f32::INFINITY] {
            let found = read(architecture, &[number(key, value)]);
            assert!(matches!(found, Err(ConfigError::Value { .. })), "{key} = {value}: {found:?}");
        }
    }
}

/// What llama.cpp has no keys for.
#[test]
fn opt_by_its_keys() {
    let plain = config("opt", &[]);
    assert_eq!((plain.rope_dim, plain.embedding, plain.most_positions()), (0, 64, Some(1024)));
    assert_eq!(plain.plan.ungated, Some(Ungated::Relu));
    assert!(!plain.plan.norms_after && plain.plan.final_norm && plain.layer(3).rope.is_none());
    let text = |value: &str| ("activation", Value::String(value.into()));
    let other = config(
        "opt",
        &[
            text("gelu"),
            ("norm_after", Value::Bool(true)),
            ("final_norm", Value::Bool(false)),
            ("token_embedding_length", Value::U32(32)),
        ],
    );
    assert_eq!((other.plan.ungated, other.embedding), (Some(Ungated::Gelu), 32));
    assert!(other.plan.norms_after && !other.plan.final_norm);
    let error = read("opt", &[text("swish")]).unwrap_err().to_string();
    assert_eq!(error, "metadata key `opt.activation` is swish; expected relu or gelu");
    // In another family these keys mean nothing.
    let llama = config("llama", &[text("gelu"), ("norm_after", Value::Bool(true))]);
    assert_eq!((llama.plan.ungated, llama.plan.norms_after, llama.most_positions()), (None, false, None));
}
