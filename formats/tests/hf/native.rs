//! The layouts of Meta and Mistral give the model that the Hugging Face layout gives.

use std::path::Path;

use quipu_formats::families::Sizes;
use quipu_formats::hf::{ConfigFault, HfDirectory, HfError, WeightsFault};
use quipu_formats::source::Source;
use quipu_test_random::Random;
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

/// Meta's Llama 3.2 in four bits: codes in groups of 32, embeddings in eight bits; with SpinQuant's turn before w2, or
/// with QLoRA's matrices beside each.
#[test]
fn metas_four_bits() {
    let mut random = Random::new(5);
    let mut draw = |n: usize| (0..n).map(|_| random.below(16) as i8 - 8).collect::<Vec<i8>>();
    let bytes = |codes: &[i8]| codes.iter().map(|&code| code as u8).collect::<Vec<u8>>();
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    const DIM: usize = 32;
    const WIDE: usize = 64;
    let shapes = [
        ("tok_embeddings", VOCAB, DIM),
        ("output", VOCAB, DIM),
        ("layers.0.attention.wq", 32, DIM),
        ("layers.0.attention.wk", 16, DIM),
        ("layers.0.attention.wv", 16, DIM),
        ("layers.0.attention.wo", DIM, 32),
        ("layers.0.feed_forward.w1", WIDE, DIM),
        ("layers.0.feed_forward.w3", WIDE, DIM),
        ("layers.0.feed_forward.w2", DIM, WIDE),
    ];
    for adapted in [false, true] {
        let mut tensors: Vec<Tensor> = Vec::new();
        let (mut w2, mut scales, mut a, mut b) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, rows, cols) in shapes {
            let per_row = !name.contains("layers");
            let groups = if per_row { 1 } else { cols / 32 };
            w2 = draw(rows * cols);
            scales = draw(rows * groups).iter().map(|&n| (f32::from(n) + 8.5) / 64.0).collect();
            tensors.push((format!("{name}.weight"), "I8", vec![rows, cols], bytes(&w2)));
            tensors.push((format!("{name}.scales"), "F32", vec![rows, groups], floats(&scales)));
            if adapted && !per_row {
                a = draw(2 * cols).iter().map(|&n| f32::from(n) / 16.0).collect::<Vec<f32>>();
                b = draw(rows * 2).iter().map(|&n| f32::from(n) / 16.0).collect::<Vec<f32>>();
                tensors.push((format!("{name}.adaptor.A.weight"), "F32", vec![2, cols], floats(&a)));
                tensors.push((format!("{name}.adaptor.B.weight"), "F32", vec![rows, 2], floats(&b)));
            }
        }
        for name in ["norm", "layers.0.attention_norm", "layers.0.ffn_norm"] {
            tensors.push((format!("{name}.weight"), "F32", vec![DIM], floats(&[1.0; DIM])));
        }
        let dir = tempfile::tempdir().unwrap();
        let mut params = json!({"dim": DIM, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "norm_eps": 1e-5, "rope_theta": 500000.0,
            "use_scaled_rope": true, "vocab_size": VOCAB,
            "quantization_args": {"scheme": "int4_weight_int8_dynamic_activation", "group_size": 32, "spinquant": !adapted}});
        if adapted {
            params["lora_args"] = json!({"rank": 2, "scale": 2.0});
        }
        write(dir.path(), &params);
        std::fs::write(dir.path().join("consolidated.safetensors"), safetensors(&tensors)).unwrap();
        let hf = HfDirectory::open(dir.path()).unwrap();
        // What is left in the variables is w2's, the last.
        let down = hf.find("blk.0.ffn_down.weight").unwrap();
        let found = hf.values(down, 0..DIM);
        for row in 0..DIM {
            let plain = |col: usize| f64::from(w2[row * WIDE + col]) * f64::from(scales[row * 2 + col / 32]);
            for col in 0..WIDE {
                let expected = if adapted {
                    let product = |r: usize| f64::from(b[row * 2 + r]) * f64::from(a[r * WIDE + col]);
                    plain(col) + 2.0 * (product(0) + product(1))
                } else {
                    let sign = |i: usize| if (i & col).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
                    (0..WIDE).map(|i| sign(i) * plain(i)).sum::<f64>() / (WIDE as f64).sqrt()
                };
                let value = f64::from(found[row * WIDE + col]);
                assert!((value - expected).abs() < 1e-5, "{row} {col}: {value} {expected}, adapted: {adapted}");
            }
            // Rows by themselves are the same.
            assert_eq!(hf.values(down, row..row + 1), found[row * WIDE..][..WIDE]);
        }
        let gate = hf.find("blk.0.ffn_gate.weight").unwrap();
        let stored = tensors.iter().find(|(name, ..)| name == "layers.0.feed_forward.w1.weight").unwrap();
        let code = f32::from(stored.3[0] as i8);
        let of_scale =
            |name: &str| f32::from_le_bytes(tensors.iter().find(|t| t.0 == name).unwrap().3[..4].try_into().unwrap());
        if !adapted {
            assert_eq!(hf.values(gate, 0..1)[0], code * of_scale("layers.0.feed_forward.w1.scales"));
        }
        assert!(hf.oddities().is_empty(), "{:?}", hf.oddities());
        if adapted {
            // What is missing is named.
            tensors.retain(|(name, ..)| name != "layers.0.feed_forward.w2.adaptor.B.weight");
            std::fs::write(dir.path().join("consolidated.safetensors"), safetensors(&tensors)).unwrap();
            let error = HfDirectory::open(dir.path()).unwrap_err().to_string();
            assert!(error.contains("mlp.down_proj.adaptor.B.weight"), "{error}");
        }
    }
}
