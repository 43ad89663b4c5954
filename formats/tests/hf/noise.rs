//! Files with wrong bytes: an error or a model whose rows can be read, never a panic.

use std::path::Path;

use proptest::prelude::*;
use quipu_formats::hf::HfDirectory;
use quipu_formats::source::Source;

use crate::build::{Llama, safetensors, sentencepiece_style};

const SHARD: &str = "model-1.safetensors";
const FILES: [&str; 7] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.json",
    "model.safetensors.index.json",
    SHARD,
];

fn write(dir: &Path, spm: bool) {
    let mut llama = Llama::new()
        .file("generation_config.json", r#"{"eos_token_id":[1,2]}"#)
        .file("chat_template.json", r#"{"chat_template":[{"name":"default","template":"x"}]}"#);
    if spm {
        llama = llama.tokenizer(|t| *t = sentencepiece_style());
    }
    llama.write_small_files(dir);
    let tensors = llama.payload();
    std::fs::write(dir.join(SHARD), safetensors(&tensors)).unwrap();
    let map: serde_json::Map<_, _> = tensors.iter().map(|(name, ..)| (name.clone(), SHARD.into())).collect();
    let index = serde_json::json!({ "weight_map": map });
    std::fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn wrong_bytes_never_panic(
        spm: bool,
        file in prop::sample::select(&FILES[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), spm);
        let path = dir.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, bytes).unwrap();
        match HfDirectory::open(dir.path()) {
            Err(error) => prop_assert!(!error.to_string().is_empty()),
            Ok(hf) => {
                for (index, info) in hf.tensors().iter().enumerate() {
                    let bytes = hf.rows(index, 0..info.rows()).len();
                    prop_assert_eq!(bytes, info.rows() * info.cols() * info.ty().block_bytes());
                }
            }
        }
    }
}
