//! LoRA adapters, added to a model.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use quipu_formats::hf::HfDirectory;
use quipu_formats::lora::{Adapter, Merged};
use quipu_formats::source::Source;

use crate::models::use_model;
use crate::outcome::outcome;
use crate::place::{DATA, file, scratch};

/// PEFT's files.
const FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

pub(crate) const WORDS: &[&str] = &[
    "\"peft_type\":\"LORA\",",
    "\"lora_alpha\":8,",
    "\"use_rslora\":true,",
    "\"use_dora\":true,",
    "\"bias\":\"all\",",
    "\"alpha_pattern\":{\"down_proj\":4},",
    "1e300",
    "base_model.model.model.layers.0.self_attn.q_proj",
    "base_model.model.lm_head",
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_embedding_A",
    "\"F32\"",
    "\"BF16\"",
    "\"F8_E4M3\"",
    "\"shape\":[0,64]",
    "general.type",
    "adapter.type",
    "adapter.lora.alpha",
    "blk.0.attn_q.weight.lora_a",
    "output.weight.lora_b",
    "token_embd.weight.lora_a",
];

/// A model, read once.
fn model() -> Arc<dyn Source> {
    static MODEL: OnceLock<Arc<dyn Source>> = OnceLock::new();
    let open = || -> Arc<dyn Source> {
        Arc::new(HfDirectory::open(&Path::new(DATA).join("tiny-llama3-bf16")).expect("a fixture"))
    };
    MODEL.get_or_init(open).clone()
}

/// An adapter: one by PEFT one file of which has other bytes, or a GGUF; the first byte says which.
pub(crate) fn adapter(bytes: &[u8]) -> String {
    let Some((which, bytes)) = bytes.split_first() else { return String::new() };
    let path = match FILES.get(*which as usize % 3) {
        None => file("adapter.gguf", bytes),
        Some(name) => {
            let dir = scratch().join("adapter");
            let _ = std::fs::create_dir(&dir);
            for name in FILES {
                let from = Path::new(DATA).join("lora/two").join(name);
                std::fs::copy(from, dir.join(name)).expect("a file of the fixture");
            }
            std::fs::write(dir.join(name), bytes).expect("room for a temporary file");
            dir
        }
    };
    let model = model();
    match Adapter::open(&path, &*model) {
        Err(error) => outcome(error),
        Ok(adapter) => {
            let merged = Merged::new(model, vec![(adapter, 1.0)]);
            let count = merged.changed().count();
            assert!(count > 0, "an adapter of nothing");
            format!("{count} {}", use_model(merged))
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let read = |which: u8, name: &str| {
        let bytes = std::fs::read(Path::new(DATA).join("lora").join(name)).expect("a fixture");
        [vec![which], bytes].concat()
    };
    let config = br#"{"peft_type":"LORA","lora_alpha":8,"use_rslora":false,"alpha_pattern":{"q_proj":2}}"#;
    vec![
        read(0, "two/adapter_config.json"),
        [&[0], &config[..]].concat(),
        read(1, "two/adapter_model.safetensors"),
        read(2, "one.gguf"),
    ]
}
