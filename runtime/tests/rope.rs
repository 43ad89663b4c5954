//! RoPE's scaling by the keys of a GGUF, as llama.cpp reads them.

use quipu_formats::gguf::{Metadata, Value};
use quipu_runtime::config::{Config, ConfigError};
use quipu_runtime::rope_scaling::{RopeMethod, RopeScaling};

/// A model made for 1024 positions, with these keys of `llama.rope`.
fn read(keys: &[(&str, Value)]) -> Result<RopeScaling, ConfigError> {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", Value::String("llama".into()));
    for (key, size) in [
        ("block_count", 1),
        ("context_length", 1024),
        ("embedding_length", 64),
        ("feed_forward_length", 64),
        ("attention.head_count", 4),
    ] {
        metadata.set(format!("llama.{key}"), Value::U32(size));
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    for (key, value) in keys {
        let own = key.starts_with("quipu.");
        metadata.set(if own { (*key).into() } else { format!("llama.rope.{key}") }, value.clone());
    }
    Config::from_metadata(&metadata).map(|config| config.rope)
}

fn kind(name: &str) -> (&'static str, Value) {
    ("scaling.type", Value::String(name.into()))
}

const FOUR: (&str, Value) = ("scaling.factor", Value::F32(4.0));

fn scaling(keys: &[(&str, Value)]) -> RopeScaling {
    read(keys).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn no_scaling_and_linear() {
    let none = RopeScaling { method: RopeMethod::Linear, factor: 1.0, attention: 1.0, original_context: 1024 };
    assert_eq!(scaling(&[]), none);
    // llama.cpp takes a factor without a type as linear, a factor of 0 for none, and none for none.
    assert_eq!(scaling(&[FOUR]), RopeScaling { factor: 4.0, ..none });
    assert_eq!(scaling(&[("scale_linear", Value::F32(4.0))]), RopeScaling { factor: 4.0, ..none });
    assert_eq!(scaling(&[("scaling.factor", Value::F32(0.0))]), none);
    assert_eq!(scaling(&[kind("none"), FOUR]), none);
    assert_eq!(scaling(&[kind("linear"), FOUR]), RopeScaling { factor: 4.0, ..none });
    let louder = ("scaling.attn_factor", Value::F32(1.5));
    assert_eq!(scaling(&[louder]), RopeScaling { attention: 1.5, ..none });
}

#[test]
fn yarn() {
    let own = 0.1 * 4f64.ln() + 1.0;
    let close = |keys: &[(&str, Value)], expected: f64| {
        let mut all = vec![kind("yarn"), FOUR, ("scaling.original_context_length", Value::U32(256))];
        all.extend_from_slice(keys);
        let found = scaling(&all);
        assert!((found.attention - expected).abs() < 1e-6, "{keys:?}: {} is not {expected}", found.attention);
        assert_eq!((found.factor, found.original_context), (4.0, 256));
        found.method
    };
    let default = RopeMethod::Yarn { blend: 1.0, beta_fast: 32.0, beta_slow: 1.0, truncate: true };
    assert_eq!(close(&[], own), default);
    let number = |key, value| (key, Value::F32(value));
    close(&[number("scaling.attn_factor", 1.5)], 1.5 * own);
    close(&[number("scaling.yarn_attn_factor", 1.5)], 1.5);
    close(&[number("scaling.yarn_log_multiplier", 0.5)], own / (0.05 * 4f64.ln() + 1.0));
    close(&[number("scaling.yarn_ext_factor", 0.0)], 1.0);
    assert_eq!(close(&[number("scaling.yarn_ext_factor", -1.0)], own), default, "less than 0 is unset");
    let others = [
        number("scaling.yarn_ext_factor", 0.5),
        number("scaling.yarn_beta_fast", 16.0),
        number("scaling.yarn_beta_slow", 2.0),
        ("quipu.rope.yarn_truncate", Value::Bool(false)),
    ];
    let expected = RopeMethod::Yarn { blend: 0.5, beta_fast: 16.0, beta_slow: 2.0, truncate: false };
    assert_eq!(close(&others, own), expected);
}

#[test]
fn others_and_what_is_refused() {
    let longrope = scaling(&[kind("longrope"), ("scaling.original_context_length", Value::U32(256))]);
    assert_eq!((longrope.method, longrope.original_context), (RopeMethod::LongRope, 256));
    let dynamic = scaling(&[("quipu.rope.dynamic_factor", Value::F32(2.0))]);
    assert_eq!((dynamic.method, dynamic.factor), (RopeMethod::Dynamic { factor: 2.0 }, 1.0));
    assert!(matches!(read(&[kind("mrope")]), Err(ConfigError::RopeScaling { found }) if found == "mrope"));
    let bad = |key: &'static str, value: f32| match read(&[kind("yarn"), FOUR, (key, Value::F32(value))]) {
        Err(ConfigError::Value { key: found, .. }) => assert_eq!(found, format!("llama.rope.{key}")),
        other => panic!("{key} = {value}: {other:?}"),
    };
    for value in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let keys =
            ["scaling.attn_factor", "scaling.yarn_attn_factor", "scaling.yarn_beta_fast", "scaling.yarn_beta_slow"];
        keys.into_iter().for_each(|key| bad(key, value));
    }
    for key in ["scaling.factor", "scaling.yarn_ext_factor", "scaling.yarn_log_multiplier"] {
        bad(key, f32::NAN);
    }
    bad("scaling.factor", -4.0);
    bad("freq_base", 1.0);
    for value in [0.0, f32::NAN] {
        let found = read(&[("quipu.rope.dynamic_factor", Value::F32(value))]);
        assert!(matches!(found, Err(ConfigError::Value { .. })), "{value}: {found:?}");
    }
}
