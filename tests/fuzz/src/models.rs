//! Targets that are models.

use std::path::Path;

use quipu_formats::gguf::GgufFile;
use quipu_formats::hf::HfDirectory;
use quipu_formats::source::Source;
use quipu_runtime::{Engine, LoadOptions, TuningChoice};

use crate::outcome::outcome;
use crate::place::{DATA, scratch};
use crate::texts::use_tokenizer;

/// What is read of a tensor.
const NUMBERS: usize = 1 << 16;

/// A GGUF, plain or packed.
pub(crate) fn model_file(bytes: &[u8]) -> String {
    match GgufFile::from_bytes("input.gguf", bytes.to_vec()) {
        Err(error) => outcome(error),
        Ok(file) => use_model(file),
    }
}

/// Checkpoints of all families.
pub(crate) const BASES: [&str; 16] = [
    "tiny-yarn-bf16",
    "tiny-qwen2-bf16",
    "tiny-qwen3-bf16",
    "tiny-longrope-beyond-bf16",
    "tiny-gemma2-bf16",
    "tiny-gemma3-bf16",
    "tiny-phi3-bf16",
    "tiny-olmo2-bf16",
    "tiny-olmo3-bf16",
    "tiny-granite-bf16",
    "tiny-smollm3-bf16",
    "tiny-mixtral-bf16",
    "tiny-qwen3moe-bf16",
    "tiny-llama4-bf16",
    "tiny-galactica-bf16",
    "tiny-galactica-bare-bf16",
];

/// Files of a checkpoint, of which a base has the first four.
pub(crate) const FILES: [&str; 8] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
];

/// A checkpoint of Hugging Face one file of which has other bytes: the first says of which checkpoint, and which file.
pub(crate) fn checkpoint(bytes: &[u8]) -> String {
    const WEIGHTS: &str = "model-00001-of-00001.safetensors";
    let Some((which, bytes)) = bytes.split_first() else { return String::new() };
    let (base, which) = (BASES[*which as usize / FILES.len() % BASES.len()], *which as usize % FILES.len());
    let from = Path::new(DATA).join(base);
    let dir = scratch().join(base);
    if !dir.exists() {
        std::fs::create_dir(&dir).expect("room for a temporary directory");
        for (name, to) in FILES[..4].iter().map(|name| (*name, *name)).chain([("model.safetensors", WEIGHTS)]) {
            std::fs::copy(from.join(name), dir.join(to)).expect("a file of the fixture");
        }
    }
    let name = FILES[which];
    std::fs::write(dir.join(name), bytes).expect("room for a temporary file");
    let opened = HfDirectory::open(&dir);
    // As it was before.
    std::fs::remove_file(dir.join(name)).expect("a file that was just written");
    if from.join(name).exists() {
        std::fs::copy(from.join(name), dir.join(name)).expect("a file of the fixture");
    }
    match opened {
        Err(error) => outcome(error),
        Ok(model) => use_model(model),
    }
}

/// Reads tensors, tokens, and three tokens with the model.
pub(crate) fn use_model(source: impl Source + 'static) -> String {
    let mut said = String::new();
    for (index, info) in source.tensors().iter().enumerate() {
        if info.cols() > 0 && info.cols() <= NUMBERS {
            let rows = info.rows().min(NUMBERS / info.cols());
            let values = source.values(index, 0..rows);
            assert_eq!(values.len(), rows * info.cols(), "{}", info.name);
        }
        if !said.contains(info.encoding.name()) {
            said += info.encoding.name();
        }
    }
    source.oddities().iter().for_each(|oddity| said += &outcome(oddity));
    said += &use_tokenizer(source.metadata(), "Once upon a time\n <s>");
    let options = LoadOptions::default().threads(1).context(64).batch(8).tuning(TuningChoice::Defaults);
    match Engine::load(Box::new(source), &options, &|_, _| {}) {
        Err(error) => said + &outcome(error),
        Ok(mut engine) => {
            let mut sequence = engine.new_sequence();
            match engine.prefill(&mut sequence, &[0, 1, 2]) {
                Err(error) => said + &outcome(error),
                Ok(logits) => {
                    assert!(logits.iter().all(|logit| logit.is_finite()));
                    said + "logits"
                }
            }
        }
    }
}
