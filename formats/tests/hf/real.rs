//! Real checkpoints and vocabularies.

use std::path::{Path, PathBuf};

use quipu_formats::gguf::{GgufFile, Metadata, Value as Gguf};
use quipu_formats::hf::{HfDirectory, RopeScaling, read_tokenizer};
use quipu_formats::source::Source;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file or directory of the data that is not shipped; `None`, with a visible line, where it is missing.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("QUIPU_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is missing (QUIPU_SHARED names another place)", path.display());
    None
}

fn strings<'a>(m: &'a Metadata, key: &str) -> &'a [String] {
    m.strings_opt(key).unwrap().unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn the_demo_model() {
    let hf = HfDirectory::open(&workspace().join("models/tales")).unwrap();
    let c = hf.config();
    assert_eq!((c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.vocab_size), (8, 256, 4, 2, 64, 8192));
    assert!(matches!(c.rope_scaling, RopeScaling::Llama3 { factor: 32.0, original_context: 8192.0, .. }) && c.tied);
    assert_eq!(hf.tensors().len(), 8 * 9 + 3, "nine a layer, embedding, norm, RoPE factors");
    let m = hf.metadata();
    assert_eq!(m.get("general.name"), Some(&Gguf::String("tales".into())));
    assert_eq!(m.get("general.size_label"), Some(&Gguf::String("8.4M".into())));
    assert_eq!(m.get("tokenizer.ggml.pre"), Some(&Gguf::String("llama-bpe".into())));
    assert_eq!(m.get("tokenizer.ggml.bos_token_id"), Some(&Gguf::U32(8184)));
    assert_eq!(m.get("tokenizer.ggml.eos_token_id"), Some(&Gguf::U32(8185)));
    assert_eq!(m.get("tokenizer.ggml.eot_token_id"), Some(&Gguf::U32(8188)));
    assert_eq!(m.get("tokenizer.ggml.add_bos_token"), Some(&Gguf::Bool(true)));
    let (tokens, types) =
        (strings(m, "tokenizer.ggml.tokens"), m.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap());
    assert_eq!((tokens.len(), types.len()), (8192, 8192));
    assert!(types[..8184].iter().all(|t| *t == 1) && types[8184..].iter().all(|t| *t == 3));
}

#[test]
fn the_checkpoints_that_transformers_wrote() {
    let tiny = |name: &str| HfDirectory::open(&workspace().join("tests/data").join(name)).unwrap();
    let three = tiny("tiny-llama3-bf16");
    assert!(matches!(three.config().rope_scaling, RopeScaling::Llama3 { original_context: 32.0, .. }));
    assert!(three.config().tied && three.find("rope_freqs.weight").is_some());
    let two = tiny("tiny-llama2-f16");
    assert_eq!(two.config().rope_scaling, RopeScaling::Linear { factor: 2.0 });
    assert!(two.config().attention_bias && two.config().mlp_bias && !two.config().tied);
    assert_eq!(two.config().head_dim, 24);
    assert_eq!(two.metadata().get("tokenizer.ggml.model"), Some(&Gguf::String("llama".into())));
    assert_eq!(two.metadata().get("general.file_type"), Some(&Gguf::U32(1)));
}

/// Llama 3's tokenizer.json against the vocabulary that llama.cpp's converter made of it.
#[test]
fn llama_3s_vocabulary_is_what_llama_cpp_made_of_it() {
    let (Some(hf), Some(gguf)) = (shared("data/llama3-hf"), shared("data/vocab/ggml-vocab-llama-bpe.gguf")) else {
        return;
    };
    let hf = read_tokenizer(&hf, Some(128_256)).unwrap();
    let gguf = GgufFile::open(gguf).unwrap();
    let gguf = gguf.metadata();
    for key in ["model", "pre", "tokens", "token_type", "merges", "bos_token_id"] {
        let key = format!("tokenizer.ggml.{key}");
        assert!(hf.get(&key).is_some() && hf.get(&key) == gguf.get(&key), "{key} differs");
    }
    // The file that llama.cpp made is of the base model; this tokenizer_config.json is of the instruct model.
    assert_eq!(hf.get("tokenizer.ggml.eos_token_id"), Some(&Gguf::U32(128_009)));
    assert_eq!(hf.get("tokenizer.ggml.eot_token_id"), Some(&Gguf::U32(128_009)));
    assert_eq!(hf.get("tokenizer.ggml.add_bos_token"), Some(&Gguf::Bool(true)));
    assert!(hf.get("quipu.tokenizer.pre").is_none());
    assert!(hf.str_opt("tokenizer.chat_template").unwrap().unwrap().contains("<|start_header_id|>"));
}
