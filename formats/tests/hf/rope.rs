//! RoPE's scaling: config.json in both spellings, transformers' defaults, and the keys and tensors of a GGUF.

use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, TypeRule, write_gguf};
use quipu_formats::gguf::{GgufFile, Value as Gguf};
use quipu_formats::hf::{ConfigFault, HfDirectory, HfError, KeyError, RopeFault, RopeScaling};
use quipu_formats::source::Source;
use serde_json::{Value, json};

use crate::build::Llama;

fn fault(llama: Llama) -> RopeFault {
    match llama.error() {
        HfError::Config { fault: ConfigFault::Rope(fault), .. } => fault,
        other => panic!("expected a fault of RoPE, got {other}"),
    }
}

/// A model of 64 positions with heads of 4 elements whose `rope_scaling` is `scaling`.
fn scaled(scaling: Value) -> Llama {
    Llama::new().set("rope_scaling", scaling)
}

fn scaling(llama: Llama) -> RopeScaling {
    llama.open().unwrap_or_else(|e| panic!("{e}")).0.config().rope_scaling.clone()
}

/// As numbers: factor, original context, attention, beta_fast, beta_slow, truncate.
fn yarn(llama: Llama) -> (f64, usize, f64, f64, f64, bool) {
    match scaling(llama) {
        RopeScaling::Yarn { factor, original_context, attention, beta_fast, beta_slow, truncate } => {
            (factor, original_context, attention, beta_fast, beta_slow, truncate)
        }
        other => panic!("expected YaRN, got {other:?}"),
    }
}

/// The expected numbers were computed with transformers 5.23: `LlamaRotaryEmbedding(config).attention_scaling` and
/// `config.rope_parameters`.
#[test]
fn yarn_has_the_defaults_of_transformers() {
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    let base = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    let with = |more: Value| {
        let mut scaling = base.clone();
        scaling.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        scaled(scaling)
    };
    let (factor, original, attention, fast, slow, truncate) = yarn(with(json!({})));
    assert_eq!((factor, original, fast, slow, truncate), (4.0, 16, 32.0, 1.0, true));
    close(attention, 1.138629);
    close(yarn(with(json!({"mscale": 1.0, "mscale_all_dim": 0.5}))).2, 1.064822);
    close(yarn(with(json!({"attention_factor": 1.5, "attn_factor": 3, "mscale": 1.0, "mscale_all_dim": 0.5}))).2, 1.5);
    // Zero is absent.
    let zeros = yarn(with(json!({"beta_fast": 0, "beta_slow": 0, "mscale": 0.0, "mscale_all_dim": 1.0})));
    assert_eq!((zeros.3, zeros.4), (32.0, 1.0));
    close(zeros.2, 1.138629);
    let others = yarn(with(json!({"beta_fast": 16, "beta_slow": 2, "truncate": false})));
    assert_eq!((others.3, others.4, others.5), (16.0, 2.0, false));
    // A context that does not grow is not made louder.
    close(yarn(with(json!({"factor": 0.5}))).2, 1.0);
    // Without a factor it is the ratio of the contexts, 64 and 16.
    assert_eq!(yarn(scaled(json!({"type": "yarn", "factor": null, "original_max_position_embeddings": 16}))).0, 4.0);
    // The original context: beside the object, in it, the model's own.
    assert_eq!(yarn(with(json!({})).set("original_max_position_embeddings", json!(8))).1, 8);
    assert_eq!(yarn(scaled(json!({"type": "yarn", "factor": 4.0}))).1, 64);
    assert_eq!(yarn(scaled(json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16.0}))).1, 16);
    let fraction = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16.5});
    assert!(matches!(fault(scaled(fraction)), RopeFault::Key(KeyError::Wrong { .. })));
    let silent = with(json!({"mscale": -10.0, "mscale_all_dim": 1.0}));
    assert!(matches!(fault(silent), RopeFault::Key(KeyError::Wrong { .. })));
}

#[test]
fn longrope_and_dynamic_have_the_defaults_of_transformers() {
    let (short, long) = (vec![1.0, 1.5], vec![1.0, 4.0]);
    let factors = json!({"short_factor": short, "long_factor": long, "original_max_position_embeddings": 16});
    let with = |kind: &str, more: Value| {
        let mut scaling = factors.clone();
        scaling["rope_type"] = json!(kind);
        scaling.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        scaled(scaling)
    };
    for kind in ["longrope", "su"] {
        for (more, expected) in [
            // √(1 + ln 4 / ln 16) and √(1 + ln 2 / ln 16).
            (json!({}), 1.5f64.sqrt()),
            (json!({"factor": 2.0}), 1.25f64.sqrt()),
            (json!({"factor": 1.0}), 1.0),
            (json!({"factor": 2.0, "attention_factor": 1.75}), 1.75),
        ] {
            let RopeScaling::LongRope { short: s, long: l, original_context, attention } = scaling(with(kind, more))
            else {
                panic!("expected LongRoPE");
            };
            assert_eq!((s, l, original_context), (short.clone(), long.clone(), 16));
            assert!((attention - expected).abs() < 1e-12, "{attention} is not {expected}");
        }
    }
    let few = with("longrope", json!({"long_factor": [1.0]}));
    assert_eq!(fault(few), RopeFault::Factors { key: "long_factor", expected: 2, found: 1 });
    for bad in [json!([1.0, 0.0]), json!([1.0, "2"]), json!(2.0), json!([1.0, -1.0]), json!([1e300, 1.0])] {
        let found = fault(with("longrope", json!({"short_factor": bad})));
        assert!(matches!(found, RopeFault::Key(KeyError::Wrong { .. })), "{found}");
    }
    assert!(matches!(fault(scaled(json!({"type": "longrope"}))), RopeFault::Key(KeyError::Missing { .. })));
    assert_eq!(scaling(scaled(json!({"type": "dynamic", "factor": 2.0}))), RopeScaling::Dynamic { factor: 2.0 });
    // Where whole heads are turned this is linear.
    assert_eq!(scaling(scaled(json!({"type": "proportional"}))), RopeScaling::Linear { factor: 1.0 });
}

/// transformers 5.23 takes `rope_scaling`, if there is something in it, for the whole of `rope_parameters`.
#[test]
fn rope_scaling_goes_before_rope_parameters() {
    let parameters = json!({"rope_type": "dynamic", "rope_theta": 500000.0, "factor": 2.0});
    let both = Llama::new().without("rope_theta").set("rope_parameters", parameters.clone());
    let both = both.set("rope_scaling", json!({"type": "linear", "factor": 4.0})).open().unwrap().0;
    assert_eq!((both.config().rope_theta, &both.config().rope_scaling), (1e4, &RopeScaling::Linear { factor: 4.0 }));
    let empty = Llama::new().set("rope_parameters", parameters).set("rope_scaling", json!({})).open().unwrap().0;
    assert_eq!((empty.config().rope_theta, &empty.config().rope_scaling), (5e5, &RopeScaling::Dynamic { factor: 2.0 }));
}

/// The converted file has the keys that llama.cpp's converter writes, with its types, and the tensors.
#[test]
fn keys_and_tensors_are_llama_cpps() {
    let convert = |llama: Llama| {
        let (hf, dir) = llama.open().unwrap();
        let out = dir.path().join("out.gguf");
        let options = ConvertOptions::new(TypeRule::Keep);
        let summary = write_gguf(&hf, &options, &out, &AtomicBool::new(false), &|_| {}).unwrap();
        let warnings: Vec<String> = summary.warnings.iter().map(ToString::to_string).collect();
        let packed = write_gguf(&hf, &options.packed(true), &dir.path().join("p"), &AtomicBool::new(false), &|_| {});
        assert_eq!(packed.unwrap().warnings, [], "only Quipu reads a packed file");
        (GgufFile::open(out).unwrap(), warnings)
    };
    let key = |file: &GgufFile, key: &str| file.metadata().get(&format!("llama.rope.scaling.{key}")).cloned();
    let base = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    let (file, warnings) = convert(scaled(base.clone()));
    assert_eq!(key(&file, "type"), Some(Gguf::String("yarn".into())));
    assert_eq!(key(&file, "factor"), Some(Gguf::F32(4.0)));
    assert_eq!(key(&file, "original_context_length"), Some(Gguf::U32(16)));
    for absent in ["attn_factor", "yarn_beta_fast", "yarn_beta_slow"] {
        assert_eq!(key(&file, absent), None);
    }
    assert_eq!(warnings, [] as [&str; 0]);

    let mut more = base;
    more.as_object_mut()
        .unwrap()
        .extend(json!({"beta_fast": 16, "attention_factor": 2.0, "truncate": false}).as_object().unwrap().clone());
    let (file, warnings) = convert(scaled(more));
    // llama.cpp multiplies its own 0.1 ln 4 + 1 by this.
    assert_eq!(key(&file, "attn_factor"), Some(Gguf::F32((2.0 / (0.1 * 4f64.ln() + 1.0)) as f32)));
    assert_eq!(key(&file, "yarn_beta_fast"), Some(Gguf::F32(16.0)));
    assert_eq!(file.metadata().get("quipu.rope.yarn_truncate"), Some(&Gguf::Bool(false)));
    assert!(warnings.len() == 1 && warnings[0].contains("llama.rope.scaling.yarn_beta_fast"), "{warnings:?}");

    let longrope = json!({"type": "su", "short_factor": [1.0, 1.5], "long_factor": [1.0, 4.0], "original_max_position_embeddings": 16});
    let (file, warnings) = convert(scaled(longrope.clone()));
    assert_eq!(key(&file, "type"), Some(Gguf::String("longrope".into())));
    assert_eq!(key(&file, "original_context_length"), Some(Gguf::U32(16)));
    assert_eq!(key(&file, "attn_factor"), Some(Gguf::F32(1.5f64.sqrt() as f32)));
    // llama.cpp would divide by it, too.
    assert_eq!(key(&file, "factor"), None);
    for (name, expected) in [("long", [1.0, 4.0]), ("short", [1.0, 1.5])] {
        let index = file.find(&format!("rope_factors_{name}.weight")).unwrap();
        assert_eq!(file.values(index, 0..1), expected);
    }
    assert_eq!(warnings, [] as [&str; 0]);

    let (file, warnings) = convert(scaled(json!({"type": "dynamic", "factor": 2.0})));
    assert_eq!(key(&file, "type"), None, "llama.cpp does not open a file with a type that it does not know");
    assert_eq!(file.metadata().get("quipu.rope.dynamic_factor"), Some(&Gguf::F32(2.0)));
    assert!(warnings.len() == 1 && warnings[0].contains("beyond 64 tokens"), "{warnings:?}");
}

/// A band that is empty or the wrong way round is a step, as in transformers 5.23.
#[test]
fn llama3_takes_bands_in_any_order() {
    let factors = |low: f64, high: f64| {
        let scaling = json!({"type": "llama3", "factor": 8.0, "low_freq_factor": low, "high_freq_factor": high, "original_max_position_embeddings": 256});
        let hf: HfDirectory = scaled(scaling).open().unwrap().0;
        hf.values(hf.find("rope_freqs.weight").unwrap(), 0..1)
    };
    // Wavelengths of 6.28 and 628: the second is beyond 256/1 and 256/4.
    assert_eq!(factors(1.0, 1.0), [1.0, 8.0]);
    assert_eq!(factors(4.0, 1.0), [1.0, 8.0]);
    // Between 256/0.5 and 256/0.1 nothing is blended.
    assert_eq!(factors(0.5, 0.1), [1.0, 8.0]);
    assert_eq!(factors(0.1, 0.2), [1.0, 1.0]);
}

#[test]
fn rope_that_is_not_known_is_refused() {
    for kind in ["mrope", "ntk", "YARN"] {
        for key in ["rope_scaling", "rope_parameters"] {
            let llama = Llama::new().set(key, json!({"rope_type": kind, "factor": 2.0}));
            assert_eq!(fault(llama), RopeFault::Type { found: format!("{kind:?}") });
        }
    }
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
    for key in ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"] {
        let mut without = llama3.clone();
        without.as_object_mut().unwrap().remove(key);
        if key != "original_max_position_embeddings" {
            let missing = KeyError::Missing { key: format!("rope_scaling.{key}") };
            assert_eq!(fault(scaled(without)), missing.into());
        }
        let mut zero = llama3.clone();
        zero[key] = json!(0);
        let found = fault(scaled(zero));
        assert!(matches!(found, RopeFault::Key(KeyError::Wrong { .. })), "{key}: {found}");
    }
    for kind in ["linear", "dynamic"] {
        let missing = KeyError::Missing { key: "rope_parameters.factor".into() };
        assert_eq!(fault(Llama::new().set("rope_parameters", json!({"rope_type": kind}))), missing.into());
    }
    let partial = json!({"rope_type": "default", "partial_rotary_factor": 0.5});
    assert_eq!(fault(Llama::new().set("rope_parameters", partial)), RopeFault::PartialRotary { found: "0.5".into() });
    assert!(matches!(fault(scaled(json!("linear"))), RopeFault::Key(KeyError::Wrong { .. })));
}
