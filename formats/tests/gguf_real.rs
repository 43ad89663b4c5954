//! GGUF files that others wrote.

use std::path::PathBuf;
use std::time::Instant;

use quipu_formats::gguf::GgufFile;
use quipu_formats::source::Source;
use quipu_quant::TensorType;

fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("QUIPU_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")), PathBuf::from);
    let path = root.join(path);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not here (QUIPU_SHARED names its place)", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn vocabularies_of_llama_cpp() {
    for (name, tokens) in [("llama-bpe", 128_256), ("llama-spm", 32_000), ("gpt-2", 50_257), ("qwen2", 151_936)] {
        let Some(path) = shared(&format!("data/vocab/ggml-vocab-{name}.gguf")) else { continue };
        let file = GgufFile::open(path).unwrap();
        assert!(file.tensors().is_empty());
        assert_eq!(file.metadata().strings_opt("tokenizer.ggml.tokens").unwrap().unwrap().len(), tokens, "{name}");
        assert_eq!(file.metadata().i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap().len(), tokens, "{name}");
    }
}

#[test]
fn a_vocabulary_of_128k_tokens_opens_at_once() {
    if std::env::var_os("QUIPU_SKIP_TIMING").is_some() {
        return eprintln!("SKIPPED: how long a vocabulary takes to open: QUIPU_SKIP_TIMING is set");
    }
    let Some(path) = shared("data/vocab/ggml-vocab-llama-bpe.gguf") else { return };
    // The best of five, since other programs run on this machine too.
    let best = (0..5).map(|_| {
        let start = Instant::now();
        GgufFile::open(&path).unwrap();
        start.elapsed()
    });
    let best = best.min().unwrap();
    eprintln!("opened in {best:?}");
    assert!(best.as_millis() < 150, "{best:?}");
}

#[test]
fn a_model() {
    let Some(path) = shared("data/stories260K/stories260K-f32.gguf") else { return };
    let file = GgufFile::open(path).unwrap();
    let embedding = file.find("token_embd.weight").unwrap();
    let info = &file.tensors()[embedding];
    assert_eq!((info.ty(), &info.shape[..]), (TensorType::F32, &[64, 512][..]));
    let third = file.rows(embedding, 3..4);
    assert_eq!(*third, file.data(embedding)[3 * 256..4 * 256]);
    file.release(embedding);
    assert_eq!(*third, file.data(embedding)[3 * 256..4 * 256]);
}
