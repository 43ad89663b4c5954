//! Quantised checkpoints: every layout gives the numbers that torch gives.

use quipu_formats::hf::{ConfigFault, HfError, WeightsFault};
use quipu_formats::source::{Encoding, Source};
use quipu_quant::TensorType;
use serde_json::{Value, json};

use crate::build::*;

/// A matrix of `tests/refs/make_quantised.py`, 8 × 40, as the way down of layer 1.
fn cases() -> Vec<Value> {
    serde_json::from_str(include_str!("../../../tests/data/quantised.json")).unwrap()
}

const STEM: &str = "model.layers.1.mlp.down_proj";
const COLS: usize = 40;

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// A Llama of which that matrix alone is quantised, its tensors changed by `edit`.
fn checkpoint(case: &Value, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Llama {
    let mut llama = Llama::new().set("intermediate_size", json!(COLS));
    llama = llama.set("quantization_config", case["quantization_config"].clone());
    for n in 0..LAYERS {
        for (name, shape) in [("gate", [COLS, HIDDEN]), ("up", [COLS, HIDDEN]), ("down", [HIDDEN, COLS])] {
            llama = llama.tensor(&format!("model.layers.{n}.mlp.{name}_proj.weight"), &shape);
        }
    }
    llama = llama.drop_tensor(&format!("{STEM}.weight"));
    let mut tensors = case["tensors"].as_object().unwrap().clone();
    edit(&mut tensors);
    for (name, tensor) in tensors {
        let dtype = tensor["dtype"].as_str().unwrap().to_string();
        let shape = serde_json::from_value(tensor["shape"].clone()).unwrap();
        llama.raw.push((format!("{STEM}.{name}"), dtype.leak(), shape, bytes(&tensor["bytes"])));
    }
    llama
}

#[test]
fn every_layout_gives_what_torch_gives() {
    let cases = cases();
    assert!(cases.len() > 20);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        // Scales for the KV cache beside other matrices change nothing.
        let mut llama = checkpoint(case, |_| {});
        for scale in ["k_scale", "v_scale"] {
            llama.raw.push((format!("model.layers.0.self_attn.{scale}"), "F32", vec![], vec![0; 4]));
        }
        let (hf, _dir) = llama.open().unwrap_or_else(|e| panic!("{name}: {e}"));
        let index = hf.find("blk.1.ffn_down.weight").unwrap();
        assert_eq!(hf.tensors()[index].encoding, Encoding::Plain(TensorType::F32));
        assert_eq!(hf.tensors()[index].shape, [COLS, HIDDEN]);
        let expected = bytes(&case["expected"]);
        assert_eq!(*hf.rows(index, 0..HIDDEN), expected, "{name}");
        let row = COLS * 4;
        for start in 0..HIDDEN {
            assert_eq!(*hf.rows(index, start..start + 1), expected[start * row..][..row], "{name} row {start}");
        }
        assert!(hf.mapped(index).is_none());
        hf.read_ahead(index);
        hf.release(index);
        // The other matrices are as they were.
        let other = hf.find("blk.0.ffn_down.weight").unwrap();
        assert_eq!(hf.tensors()[other].encoding, Encoding::Plain(TensorType::BF16));
    }
}

fn fault(llama: &Llama) -> WeightsFault {
    match llama.error() {
        HfError::Weights { fault, .. } => *fault,
        other => panic!("expected a fault of the weights, got {other}"),
    }
}

#[test]
fn what_does_not_fit_has_its_name() {
    let all = cases();
    let case = |start: &str| all.iter().find(|c| c["name"].as_str().unwrap().starts_with(start)).unwrap();
    let says = |llama: &Llama, last: &str, what: &str| match fault(llama) {
        WeightsFault::Quantised { tensor, what: found } => {
            assert_eq!(tensor, format!("{STEM}.{last}"));
            assert!(found.contains(what), "{found}");
        }
        other => panic!("{other}"),
    };
    let fp8 = case("fp8, whole");
    let wrong = checkpoint(fp8, |t| t["weight_scale_inv"]["shape"] = json!([5, 2]));
    says(&wrong, "weight_scale", "which no scales of 8 × 40 weights have");
    says(&checkpoint(fp8, |t| t["weight_scale_inv"]["dtype"] = json!("I32")), "weight_scale", "expected floats");
    // Codes without scales are no numbers.
    let bare = checkpoint(fp8, |t| drop(t.remove("weight_scale_inv")));
    assert!(matches!(fault(&bare), WeightsFault::Dtype { .. }));
    // Scales without codes.
    let scaled = checkpoint(fp8, |t| drop(t.remove("weight"))).tensor(&format!("{STEM}.weight"), &[HIDDEN, COLS]);
    assert!(
        matches!(fault(&scaled), WeightsFault::UnknownTensor { tensor, .. } if tensor.ends_with("weight_scale_inv"))
    );

    let packed = case("pack-quantized, 4 bits, groups with");
    says(&checkpoint(packed, |t| drop(t.remove("weight_shape"))), "weight_shape", "is missing");
    let huge = "ffffffffffffff7fffffffffffffff7f";
    says(&checkpoint(packed, |t| t["weight_shape"]["bytes"] = json!(huge)), "weight_packed", "expected I32 in");
    let wide = "08000000000000002a00000000000000";
    says(&checkpoint(packed, |t| t["weight_shape"]["bytes"] = json!(wide)), "weight_packed", "42 codes of [4] bits");
    let zeros = checkpoint(packed, |t| t["weight_zero_point"] = t["weight_scale"].clone());
    says(&zeros, "weight_zero_point", "expected integers");
    let ordered = case("pack-quantized, 4 bits, groups in another");
    let first = |group: &str| {
        checkpoint(ordered, |t| {
            let rest = t["weight_g_idx"]["bytes"].as_str().unwrap()[8..].to_string();
            t["weight_g_idx"]["bytes"] = json!(format!("{group}{rest}"));
        })
    };
    says(&first("05000000"), "weight_g_idx", "has group 5, of which there are 5");
    says(&first("feffffff"), "weight_g_idx", "has group -2");
    assert!(first("ffffffff").open().is_ok(), "an order that was never set");
}

#[test]
fn methods_that_are_not_read_are_named() {
    let groups =
        |format: &str| json!({"quant_method": "compressed-tensors", "config_groups": {"g": {"format": format}}});
    for (config, what) in [
        (json!({"quant_method": "gptq", "bits": 4}), "\"gptq\""),
        (json!({"quant_method": "awq"}), "\"awq\""),
        (json!({"quant_method": "bitsandbytes"}), "\"bitsandbytes\""),
        (json!({"quant_method": "mxfp4"}), "\"mxfp4\""),
        (json!({}), "unnamed"),
        (json!({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}), "nvfp4-pack-quantized"),
        (
            json!({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}}),
            "sparse-24",
        ),
        (groups("mxfp4-pack-quantized"), "mxfp4-pack-quantized"),
        (json!({"quant_method": "fp8", "weight_block_size": [128]}), "weight_block_size"),
        (json!({"quant_method": "fp8", "weight_block_size": [0, 128]}), "weight_block_size"),
    ] {
        match Llama::new().set("quantization_config", config).error() {
            HfError::Config { fault: ConfigFault::Quantized { method }, .. } => {
                assert!(method.contains(what), "{method}")
            }
            other => panic!("{what}: {other}"),
        }
    }
}
