//! What is particular to a family, from the checkpoints that transformers wrote.

use std::path::Path;

use quipu_formats::gguf::Value as Gguf;
use quipu_formats::hf::HfDirectory;
use quipu_formats::oddity::Oddity;
use quipu_formats::safetensors::SafetensorsFile;
use quipu_formats::source::Source;
use serde_json::json;

use crate::build::Llama;

fn tiny(name: &str) -> HfDirectory {
    HfDirectory::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(name)).unwrap()
}

/// Whether tensor `gguf` has the bytes of `hf` in the checkpoint, in their order.
fn is_as_it_lies(directory: &HfDirectory, gguf: &str, hf: &str) -> bool {
    let file = SafetensorsFile::open(directory.path().join("model.safetensors")).unwrap();
    let (ours, theirs) = (directory.find(gguf).unwrap(), file.tensors().iter().position(|t| t.name == hf).unwrap());
    directory.mapped(ours) == Some(file.data(theirs))
}

#[test]
fn qwen2() {
    let hf = tiny("tiny-qwen2-bf16");
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("qwen2".into())));
    assert_eq!(m.get("qwen2.block_count"), Some(&Gguf::U32(2)));
    assert_eq!(m.get("qwen2.rope.freq_base"), Some(&Gguf::F32(1e6)));
    assert_eq!(m.get("tokenizer.ggml.pre"), Some(&Gguf::String("qwen2".into())));
    assert_eq!(m.get("tokenizer.ggml.add_bos_token"), Some(&Gguf::Bool(false)));
    assert!(m.str_opt("tokenizer.chat_template").unwrap().unwrap().contains("<|im_start|>"));
    // Nine tensors of a layer and three biases; the embedding is the output matrix.
    assert_eq!(hf.tensors().len(), 2 * 12 + 2);
    for part in ["q", "k", "v"] {
        let hf_name = format!("model.layers.1.self_attn.{part}_proj.weight");
        assert!(is_as_it_lies(&hf, &format!("blk.1.attn_{part}.weight"), &hf_name), "{part}: no row changes its place");
        let bias = hf.values(hf.find(&format!("blk.1.attn_{part}.bias")).unwrap(), 0..1);
        assert!(bias.iter().any(|b| *b != 0.0));
    }
    assert!(hf.find("blk.1.attn_output.bias").is_none());
}

#[test]
fn qwen3() {
    let hf = tiny("tiny-qwen3-bf16");
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("qwen3".into())));
    // A head is longer than the hidden size divided by the number of heads.
    assert_eq!((hf.config().sizes.head_dim, hf.config().sizes.hidden / hf.config().sizes.heads), (24, 16));
    assert_eq!(m.get("qwen3.attention.key_length"), Some(&Gguf::U32(24)));
    // Eleven tensors of a layer; the output matrix is one of its own.
    assert_eq!(hf.tensors().len(), 2 * 11 + 3);
    for part in ["q", "k"] {
        let (norm, matrix) = (format!("blk.0.attn_{part}_norm.weight"), format!("blk.0.attn_{part}.weight"));
        assert_eq!(hf.tensors()[hf.find(&norm).unwrap()].shape, [24]);
        assert!(is_as_it_lies(&hf, &matrix, &format!("model.layers.0.self_attn.{part}_proj.weight")), "{part}");
    }
}

/// The window of Mistral hides nothing within a context of its length; a key that is absent is not one that is null.
#[test]
fn mistral() {
    let mistral = || {
        let llama =
            Llama::new().set("model_type", json!("mistral")).set("architectures", json!(["MistralForCausalLM"]));
        llama.set("max_position_embeddings", json!(32768))
    };
    let context = |llama: Llama| {
        let (hf, _dir) = llama.open().unwrap();
        assert_eq!(hf.metadata().get("general.architecture"), Some(&Gguf::String("llama".into())));
        assert_eq!(hf.metadata().get("llama.context_length"), Some(&Gguf::U32(hf.config().context as u32)));
        // Who gets a shorter context than config.json says is told.
        let said = hf.oddities().iter().find_map(|oddity| match oddity {
            Oddity::Window { window, context } => Some((*window, *context)),
            _ => None,
        });
        assert_eq!(said, (hf.config().context < 32768).then_some((hf.config().context, 32768)));
        hf.config().context
    };
    assert_eq!(context(mistral().set("sliding_window", json!(null))), 32768);
    assert_eq!(context(mistral().set("sliding_window", json!(1024))), 1024);
    assert_eq!(context(mistral().set("sliding_window", json!(65536))), 32768);
    assert_eq!(context(mistral()), 4096);
    assert_eq!(context(mistral().without("max_position_embeddings").set("sliding_window", json!(null))), 131_072);
    // Of key/value heads an absent key says 8, of which there are none with 4 heads.
    let error = mistral().without("num_key_value_heads").error();
    assert!(error.to_string().contains("`num_key_value_heads` 8"), "{error}");
    // Its rows of q and k change their places as Llama's do.
    let (hf, _dir) = mistral().open().unwrap();
    let (llama, _dir) = Llama::new().open().unwrap();
    for name in ["blk.1.attn_q.weight", "blk.1.attn_k.weight"] {
        let index = hf.find(name).unwrap();
        assert_eq!(hf.rows(index, 0..8), llama.rows(index, 0..8));
    }
    let mixed = Llama::new().set("model_type", json!("mistral")).error();
    assert!(mixed.to_string().contains("LlamaForCausalLM"), "{mixed}");
}
