//! The layouts of Meta and Mistral give the model that the Hugging Face layout gives.

use std::path::Path;

use quipu_formats::families::Sizes;
use quipu_formats::hf::{ConfigFault, HfDirectory, HfError, WeightsFault};
use quipu_formats::source::Source;
use serde_json::{Value, json};

use crate::build::*;
use crate::torch_build::checkpoint;

type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// The tensors of `llama` as Meta and Mistral have them: their names, and q and k in the order of neighbours.
fn native(llama: &Llama) -> Vec<Tensor> {
    let rename = |name: &str| {
        let mut name = name.strip_prefix("model.").unwrap_or(name).to_string();
        for (hf, own) in [
            ("self_attn.q_proj", "attention.wq"),
            ("self_attn.k_proj", "attention.wk"),
            ("self_attn.v_proj", "attention.wv"),
            ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"),
            ("mlp.down_proj", "feed_forward.w2"),
            ("mlp.up_proj", "feed_forward.w3"),
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("embed_tokens", "tok_embeddings"),
            ("lm_head", "output"),
        ] {
            name = name.replace(hf, own);
        }
        name
    };
    let each = |(name, dtype, shape, bytes): Tensor| {
        let own = rename(&name);
        let bytes = if own.contains(".wq.") || own.contains(".wk.") { neighbours(&bytes, shape[1] * 2) } else { bytes };
        (own, dtype, shape, bytes)
    };
    llama.payload().into_iter().map(each).collect()
}

/// Rows of `row` bytes: of each head of four, the halves (0 1)(2 3) become the neighbours 0 2 1 3.
fn neighbours(bytes: &[u8], row: usize) -> Vec<u8> {
    let rows: Vec<&[u8]> = bytes.chunks(row).collect();
    assert_eq!(HEAD_DIM, 4);
    rows.chunks(4).flat_map(|head| [head[0], head[2], head[1], head[3]].concat()).collect()
}

/// Part `n` of two of a BF16 matrix: of its rows or its columns.
fn half(bytes: &[u8], shape: &[usize], along: usize, n: usize) -> (Vec<usize>, Vec<u8>) {
    let row = shape[1] * 2;
    let mut part = shape.to_vec();
    part[along] /= 2;
    let bytes = match along {
        0 => bytes[n * bytes.len() / 2..][..bytes.len() / 2].to_vec(),
        _ => bytes.chunks(row).flat_map(|r| r[n * row / 2..][..row / 2].to_vec()).collect(),
    };
    (part, bytes)
}

fn params(more: Value) -> Value {
    let mut params = json!({"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": KV_HEADS, "head_dim": HEAD_DIM,
        "norm_eps": 1e-5, "vocab_size": VOCAB});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    params
}

fn write(dir: &Path, params: &Value) {
    std::fs::write(dir.join("params.json"), params.to_string()).unwrap();
    std::fs::write(dir.join("tokenizer.json"), byte_level().to_string()).unwrap();
}

fn assert_same_weights(found: &HfDirectory, expected: &HfDirectory) {
    assert_eq!(found.tensors(), expected.tensors());
    for (index, info) in expected.tensors().iter().enumerate() {
        let rows = info.rows();
        assert_eq!(found.rows(index, 0..rows), expected.rows(index, 0..rows), "{}", info.name);
        for row in 0..rows {
            assert_eq!(found.rows(index, row..row + 1), expected.rows(index, row..row + 1), "{} {row}", info.name);
        }
    }
}

#[test]
fn mistrals_layout() {
    let llama = Llama::new();
    let (expected, _dir) = llama.open().unwrap();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &params(json!({"hidden_dim": FFN, "rope_theta": 1e6, "sliding_window": 4096})));
    std::fs::write(dir.path().join("consolidated.safetensors"), safetensors(&native(&llama))).unwrap();
    let found = HfDirectory::open(dir.path()).unwrap();
    assert_same_weights(&found, &expected);
    let config = found.config();
    let sizes = Sizes { positions: 32768, ..expected.config().sizes };
    assert_eq!((config.sizes, config.layers), (sizes, LAYERS));
    assert_eq!((config.context, config.rope_theta, config.rms_norm_eps, config.tied), (32768, 1e6, 1e-5, false));
    assert_eq!(config.plan.window.as_ref().map(|window| window.length), Some(4096));
    // Rows that need no other order are mapped.
    assert!(found.mapped(found.find("blk.0.attn_q.weight").unwrap()).is_some());
    // With a config.json, which goes first, too.
    llama.write_small_files(dir.path());
    let both = HfDirectory::open(dir.path()).unwrap();
    assert_same_weights(&both, &expected);
    assert_eq!(both.config().rope_theta, 10000.0);

    let qwen = Llama::new().set("model_type", json!("qwen2")).set("architectures", json!(["Qwen2ForCausalLM"]));
    qwen.write_small_files(dir.path());
    match HfDirectory::open(dir.path()).unwrap_err() {
        HfError::Weights { fault, .. } => assert_eq!(*fault, WeightsFault::OrderOfRows { architecture: "qwen2" }),
        other => panic!("{other}"),
    }

    for key in ["moe", "yarn", "llama_4_scaling"] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &params(json!({"hidden_dim": FFN, key: {"factor": 4}})));
        std::fs::write(dir.path().join("consolidated.safetensors"), safetensors(&native(&llama))).unwrap();
        match HfDirectory::open(dir.path()).unwrap_err() {
            HfError::Config { path, fault: ConfigFault::Params { key: found, .. } } => {
                assert!(path.ends_with("params.json") && found == key);
            }
            other => panic!("{other}"),
        }
    }
}

/// Two files with half of each matrix; `embedding` says of what of the embedding.
fn meta(llama: &Llama, embedding: usize, params: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), params);
    for n in 0..2 {
        let part = |(name, _, shape, bytes): Tensor| {
            let along = match name.as_str() {
                "tok_embeddings.weight" => embedding,
                name if name.contains(".wo.") || name.contains(".w2.") => 1,
                _ => 0,
            };
            let (shape, bytes) = if shape.len() == 2 { half(&bytes, &shape, along, n) } else { (shape, bytes) };
            (name, "BFloat16Storage", 2, shape, bytes)
        };
        let mut tensors: Vec<_> = native(llama).into_iter().map(part).collect();
        tensors.push(("rope.freqs".into(), "FloatStorage", 4, vec![2], vec![0; 8]));
        std::fs::write(dir.path().join(format!("consolidated.0{n}.pth")), checkpoint(&tensors)).unwrap();
    }
    dir
}

#[test]
fn metas_layout_in_parts() {
    let llama = Llama::new();
    let (expected, _dir) = llama.open().unwrap();
    for embedding in [0, 1] {
        let dir = meta(&llama, embedding, &params(json!({"multiple_of": 4, "vocab_size": -1})));
        let found = HfDirectory::open(dir.path()).unwrap();
        assert_same_weights(&found, &expected);
        assert_eq!(
            (found.config().sizes, found.config().context),
            (Sizes { positions: 4096, ..expected.config().sizes }, 4096)
        );
        assert_eq!(found.config().rope_theta, 10000.0);
    }
    let scaled = meta(&llama, 0, &params(json!({"use_scaled_rope": true, "rope_theta": 500000.0})));
    let found = HfDirectory::open(scaled.path()).unwrap();
    assert_eq!(found.config().context, 131_072);
    assert!(found.find("rope_freqs.weight").is_some());
    // One file of two: half of every matrix is missing.
    std::fs::remove_file(scaled.path().join("consolidated.01.pth")).unwrap();
    match HfDirectory::open(scaled.path()).unwrap_err() {
        HfError::Weights { fault, .. } => assert!(matches!(*fault, WeightsFault::Shape { .. }), "{fault}"),
        other => panic!("{other}"),
    }
    // Parts of another model.
    let dir = meta(&llama, 0, &params(json!({})));
    let other = checkpoint(&[("norm.weight".into(), "BFloat16Storage", 2, vec![HIDDEN], vec![0; 2 * HIDDEN])]);
    std::fs::write(dir.path().join("consolidated.01.pth"), other).unwrap();
    match HfDirectory::open(dir.path()).unwrap_err() {
        HfError::Weights { fault, .. } => assert!(matches!(*fault, WeightsFault::Parts { .. }), "{fault}"),
        other => panic!("{other}"),
    }
}
