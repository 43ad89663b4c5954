//! LoRA adapters: the logits that transformers and PEFT compute in float64, from a directory and from a GGUF, for one
//! adapter and for two with scales (`tests/refs/lora_reference.py`).

use std::path::Path;
use std::sync::Arc;

use quipu_formats::lora::{Adapter, Merged};
use quipu_formats::source::Source;
use quipu_runtime::{Engine, Isa};
use quipu_tests::{assert_same_bits, data, json, logits, max_difference, open, options};

fn model() -> Arc<dyn Source> {
    open(&data("tiny-llama3-bf16")).into()
}

fn merged(adapters: &[(&str, f32)]) -> Arc<dyn Source> {
    let model = model();
    let read = |&(name, scale): &(&str, f32)| {
        let adapter = Adapter::open(&data("lora").join(name), &*model).unwrap_or_else(|e| panic!("{e}"));
        (adapter, scale)
    };
    let adapters = adapters.iter().map(read).collect();
    Arc::new(Merged::new(model, adapters))
}

fn tokens() -> Vec<u32> {
    let reference = json(data("lora/logits.json"));
    reference["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn run(source: Arc<dyn Source>, isa: Option<Isa>) -> Vec<Vec<f32>> {
    let mut engine = Engine::load_shared(source, &options().isa(isa), &|_, _| {}).unwrap_or_else(|e| panic!("{e}"));
    logits(&mut engine, &tokens(), 5)
}

#[test]
fn logits_are_those_of_transformers_and_peft() {
    let reference = json(data("lora/logits.json"));
    for (name, adapters) in [
        ("one", &[("one", 1.0)][..]),
        ("one", &[("one.gguf", 1.0)]),
        ("two", &[("two", 1.0)]),
        ("both", &[("one", 0.5), ("two", 2.0)]),
    ] {
        let row =
            |row: &serde_json::Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let expected: Vec<Vec<f32>> = reference[name].as_array().unwrap().iter().map(row).collect();
        let found = run(merged(adapters), None);
        let difference = max_difference(&found, &expected);
        println!("{adapters:?}: {difference:.1e}");
        assert!(difference < 2e-4, "{adapters:?}: {difference}");
        assert!(max_difference(&run(model(), None), &expected) > 1.0);
    }
}

#[test]
fn every_instruction_set_has_the_same_bits() {
    let expected = run(merged(&[("one", 0.5), ("two", 2.0)]), Some(Isa::Portable));
    for isa in Isa::available() {
        assert_same_bits(&run(merged(&[("one", 0.5), ("two", 2.0)]), Some(isa)), &expected, isa.name());
    }
}

/// The order of sums that is stated: `d ← d + b·a` for ascending ranks, then `w ← w + s·d`, adapters in turn.
#[test]
fn sums_have_the_order_that_is_stated() {
    let (plain, changed) = (model(), merged(&[("one", 0.5), ("two", 2.0)]));
    let index = plain.find("blk.1.ffn_down.weight").unwrap();
    let mut expected = plain.values(index, 3..5);
    let cols = plain.tensors()[index].cols();
    for (directory, scale) in [("one", 0.5f32 * (6.0f32 / 4.0)), ("two", 2.0 * (2.0 / 3f64.sqrt()) as f32)] {
        let file = quipu_formats::safetensors::SafetensorsFile::open(
            data("lora").join(directory).join("adapter_model.safetensors"),
        );
        let file = file.unwrap();
        let half = |half: &str| -> (Vec<f32>, usize) {
            let at = file.find(&format!("base_model.model.model.layers.1.mlp.down_proj.lora_{half}.weight")).unwrap();
            let (tensor, bytes) = (&file.tensors()[at], file.data(at));
            let values = match tensor.dtype.bits() {
                32 => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
                _ => bytes.chunks(2).map(|b| half_to_f32(u16::from_le_bytes(b.try_into().unwrap()))).collect(),
            };
            (values, tensor.shape[1])
        };
        let ((a, _), (b, rank)) = (half("A"), half("B"));
        for (row, values) in (3..5).zip(expected.chunks_mut(cols)) {
            for (col, value) in values.iter_mut().enumerate() {
                let sum = (0..rank).fold(0.0f32, |sum, i| sum + b[row * rank + i] * a[i * cols + col]);
                *value += scale * sum;
            }
        }
    }
    assert_eq!(changed.values(index, 3..5), expected);
    // What no adapter changes stays as it was.
    let embedding = plain.find("token_embd.weight").unwrap();
    assert_eq!(changed.rows(embedding, 0..9), plain.rows(embedding, 0..9));
}

/// A finite half-precision number.
fn half_to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let value = if exponent == 0 { fraction * 2f32.powi(-24) } else { (1024.0 + fraction) * 2f32.powi(exponent - 25) };
    if sign == 1 { -value } else { value }
}

/// What is more than LoRA, or no adapter, or one for another model, is refused by name.
#[test]
fn what_does_not_fit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let config = std::fs::read_to_string(data("lora/one/adapter_config.json")).unwrap();
    std::fs::copy(data("lora/one/adapter_model.safetensors"), directory.path().join("adapter_model.safetensors"))
        .unwrap();
    let refused = |path: &Path, model: &dyn Source| Adapter::open(path, model).unwrap_err().to_string();
    for (from, to, named) in [
        ("\"use_dora\": false", "\"use_dora\": true", "DoRA"),
        ("\"bias\": \"none\"", "\"bias\": \"all\"", "`bias`"),
        ("\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]", "modules_to_save"),
        ("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"", "pissa"),
        ("\"peft_type\": \"LORA\"", "\"peft_type\": \"IA3\"", "peft_type"),
        ("\"lora_alpha\": 6", "\"lora_alpha\": \"x\"", "lora_alpha"),
    ] {
        assert!(config.contains(from), "{from}");
        std::fs::write(directory.path().join("adapter_config.json"), config.replace(from, to)).unwrap();
        let message = refused(directory.path(), &*model());
        assert!(message.contains(named) && message.contains("adapter_config.json"), "{message}");
    }
    std::fs::write(directory.path().join("adapter_config.json"), &config).unwrap();
    assert!(Adapter::open(directory.path(), &*model()).is_ok());
    let smaller = open(&data("stories260K/stories260K-f32.gguf"));
    assert!(refused(directory.path(), &*smaller).contains("expected"), "another model's shapes");
    let other = open(&data("tiny-qwen2-bf16"));
    assert!(refused(&data("lora/one.gguf"), &*other).contains("architecture"));
    assert!(refused(&data("stories260K/stories260K-f32.gguf"), &*model()).contains("general.type"));
    assert!(refused(&data("tiny-llama3-bf16"), &*model()).contains("no adapter_config.json"));
    std::fs::remove_file(directory.path().join("adapter_model.safetensors")).unwrap();
    assert!(refused(directory.path(), &*model()).contains("no adapter_model.safetensors"));
}
