//! config.json.

use quipu_formats::hf::{ConfigFault, HfDirectory, HfError, KeyError, RopeFault, RopeScaling};
use quipu_formats::source::Source;
use serde_json::{Value, json};

use crate::build::Llama;

fn fault(llama: Llama) -> ConfigFault {
    match llama.error() {
        HfError::Config { path, fault } => {
            assert!(path.ends_with("config.json"));
            fault
        }
        other => panic!("expected a fault of config.json, got {other}"),
    }
}

#[test]
fn both_spellings_say_the_same() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
    let mut inner = scaling.clone();
    inner["rope_theta"] = json!(500000.0);
    let four = Llama::new().set("rope_theta", json!(500000.0)).set("rope_scaling", scaling.clone());
    let five = Llama::new()
        .without("rope_theta")
        .set("rope_parameters", inner)
        .without("torch_dtype")
        .set("dtype", json!("bfloat16"));
    let mut with_type = scaling;
    let object = with_type.as_object_mut().unwrap();
    let kind = object.remove("rope_type").unwrap();
    object.insert("type".into(), kind);
    let older = Llama::new().set("rope_theta", json!(500000)).set("rope_scaling", with_type);
    let (four, five, older) = (four.open().unwrap().0, five.open().unwrap().0, older.open().unwrap().0);
    assert_eq!(four.config(), five.config());
    assert_eq!(four.config(), older.config());
    assert_eq!(four.config().rope_theta, 500_000.0);
    assert!(matches!(four.config().rope_scaling, RopeScaling::Llama3 { factor: 8.0, original_context: 32.0, .. }));
    let factors = |hf: &HfDirectory| hf.rows(hf.find("rope_freqs.weight").unwrap(), 0..1).into_owned();
    assert_eq!(factors(&four), factors(&five));
}

#[test]
fn absent_keys_have_the_defaults_of_transformers() {
    let mut llama = Llama::new();
    for key in
        ["rope_theta", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings", "hidden_act", "torch_dtype"]
    {
        llama = llama.without(key);
    }
    let c = llama.set("attention_bias", Value::Null).open().unwrap().0.config().clone();
    assert_eq!((c.rope_theta, c.rope_scaling, c.rms_norm_eps, c.context), (10_000.0, RopeScaling::None, 1e-6, 2048));
    assert!(!c.tied && c.biases.is_empty());
}

#[test]
fn heads_follow_from_the_hidden_size() {
    // hidden 8, 4 heads: head_dim 2, and without num_key_value_heads as many key/value heads.
    let mut llama = Llama::new().without("head_dim").without("num_key_value_heads");
    for n in 0..2 {
        for p in ["q", "k", "v", "o"] {
            llama = llama.tensor(&format!("model.layers.{n}.self_attn.{p}_proj.weight"), &[8, 8]);
        }
    }
    let c = llama.open().unwrap().0.config().sizes;
    assert_eq!((c.heads, c.kv_heads, c.head_dim), (4, 4, 2));
}

#[test]
fn every_hostile_value_has_its_name() {
    let sizes = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"];
    for key in sizes {
        assert_eq!(fault(Llama::new().without(key)), KeyError::Missing { key: key.into() }.into(), "{key}");
    }
    let bad =
        [json!(0), json!(-1), json!(1.5), json!("8"), json!(2147483648u64), json!(u64::MAX), json!([8]), json!(true)];
    for key in sizes.into_iter().chain(["num_key_value_heads", "head_dim", "max_position_embeddings"]) {
        for value in &bad {
            match fault(Llama::new().set(key, value.clone())) {
                ConfigFault::Key(KeyError::Wrong { key: found, .. }) => assert_eq!(found, key),
                other => panic!("{key} = {value}: {other}"),
            }
        }
    }
    for key in ["rms_norm_eps", "rope_theta"] {
        for value in [json!(0), json!(-1e-5), json!(1e-300), json!(1e300), json!("1e-5"), json!({})] {
            match fault(Llama::new().set(key, value.clone())) {
                ConfigFault::Key(KeyError::Wrong { key: found, .. })
                | ConfigFault::Rope(RopeFault::Key(KeyError::Wrong { key: found, .. })) => assert_eq!(found, key),
                other => panic!("{key} = {value}: {other}"),
            }
        }
    }
    for key in ["tie_word_embeddings", "attention_bias", "mlp_bias"] {
        assert!(
            matches!(fault(Llama::new().set(key, json!("yes"))), ConfigFault::Key(KeyError::Wrong { .. })),
            "{key}"
        );
    }
    let cases = [
        (Llama::new().set("num_key_value_heads", json!(3)), ConfigFault::HeadsPerKvHead { heads: 4, kv_heads: 3 }),
        (Llama::new().set("num_key_value_heads", json!(8)), ConfigFault::HeadsPerKvHead { heads: 4, kv_heads: 8 }),
        (
            Llama::new().without("head_dim").set("hidden_size", json!(10)),
            ConfigFault::HiddenPerHead { hidden: 10, heads: 4 },
        ),
        (Llama::new().set("head_dim", json!(3)), ConfigFault::OddHeadDim { head_dim: 3 }),
        (Llama::new().set("head_dim", json!(1 << 30)), ConfigFault::HeadsOverflow { heads: 4, head_dim: 1 << 30 }),
        (
            Llama::new().set("hidden_act", json!("gelu")),
            ConfigFault::Activation { key: "hidden_act", found: "\"gelu\"".into(), expected: "silu" },
        ),
        (
            Llama::new().set("quantization_config", json!({"quant_method": "gptq", "bits": 4})),
            ConfigFault::Quantized { method: "\"gptq\"".into() },
        ),
        (
            Llama::new().set("architectures", json!(["MistralForCausalLM"])),
            ConfigFault::Family { found: "\"MistralForCausalLM\"".into() },
        ),
        (Llama::new().set("model_type", json!("gemma9")), ConfigFault::Family { found: "\"gemma9\"".into() }),
        (Llama::new().set("model_type", json!(5)), ConfigFault::Family { found: "5".into() }),
        (
            Llama::new().without("model_type").without("architectures"),
            KeyError::Missing { key: "model_type".into() }.into(),
        ),
    ];
    for (llama, expected) in cases {
        assert_eq!(fault(llama), expected);
    }
}

/// The model has two layers; it is refused if one of them sees only a sliding window.
#[test]
fn sliding_windows_are_refused_by_name() {
    let types = |kinds: [&str; 2]| Llama::new().set("layer_types", json!(kinds));
    let used =
        |first: usize| Llama::new().set("use_sliding_window", json!(true)).set("max_window_layers", json!(first));
    let found = "\"sliding_attention\"".to_string();
    assert_eq!(
        fault(types(["full_attention", "sliding_attention"])),
        ConfigFault::SlidingWindow { key: "layer_types", found }
    );
    let expected = ConfigFault::SlidingWindow { key: "use_sliding_window", found: "true".into() };
    assert_eq!(fault(used(1)), expected);
    // The first layer with a window would come after the last layer, or there are no windows at all.
    for llama in [used(2), used(28), types(["full_attention"; 2]), Llama::new().set("sliding_window", json!(4096))] {
        assert!(llama.open().is_ok());
    }
}

#[test]
fn a_directory_that_is_none_says_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let error = HfDirectory::open(dir.path()).unwrap_err();
    assert!(matches!(error, HfError::NoConfig { .. }) && error.to_string().contains("config.json"), "{error}");
    let error = HfDirectory::open(&dir.path().join("none")).unwrap_err();
    assert!(matches!(error, HfError::NotADirectory { .. }), "{error}");
    std::fs::write(dir.path().join("file"), b"x").unwrap();
    let error = HfDirectory::open(&dir.path().join("file")).unwrap_err();
    assert!(matches!(error, HfError::NotADirectory { .. }), "{error}");
    for (content, at) in [("", "line 1"), ("{\"a\":", "line 1"), ("[]", "map"), ("{\"a\":NaN}", "line 1")] {
        std::fs::write(dir.path().join("config.json"), content).unwrap();
        let error = HfDirectory::open(dir.path()).unwrap_err();
        assert!(matches!(error, HfError::File(_)), "{error}");
        assert!(error.to_string().contains("config.json") && error.to_string().contains(at), "{error}");
    }
}
