//! Weights: names, shapes, row order, shards.

use std::path::Path;

use quipu_formats::gguf::Value as Gguf;
use quipu_formats::hf::{HfDirectory, HfError, WeightsFault};
use quipu_formats::safetensors::Dtype;
use quipu_formats::source::{Encoding, Source};
use quipu_quant::TensorType;
use serde_json::{Value, json};

use crate::build::*;

fn fault(error: HfError) -> WeightsFault {
    match error {
        HfError::Weights { fault, .. } => *fault,
        other => panic!("expected a fault of the weights, got {other}"),
    }
}

/// All values of a tensor, as f32.
fn values(hf: &HfDirectory, name: &str) -> Vec<f32> {
    let index = hf.find(name).unwrap_or_else(|| panic!("no {name}"));
    let info = &hf.tensors()[index];
    let bytes = hf.rows(index, 0..info.rows());
    match info.ty() {
        TensorType::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        TensorType::F16 => {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
        }
        TensorType::BF16 => {
            bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect()
        }
        other => panic!("{other}"),
    }
}

fn original(name: &str, len: usize) -> Vec<f32> {
    (0..len).map(|i| value(name, i)).collect()
}

/// llama.cpp's `reshape(heads, 2, head_dim/2, cols).swapaxes(1, 2)`, written as the loops it is.
fn swap_axes(x: &[f32], heads: usize, cols: usize) -> Vec<f32> {
    let half = x.len() / heads / cols / 2;
    let mut out = vec![];
    for h in 0..heads {
        for i in 0..half {
            for t in 0..2 {
                let row = (h * 2 + t) * half + i;
                out.extend_from_slice(&x[row * cols..(row + 1) * cols]);
            }
        }
    }
    out
}

#[test]
fn every_tensor_has_ggufs_name_shape_and_order() {
    let (hf, _dir) = Llama::new().open().unwrap();
    let names: Vec<_> = hf.tensors().iter().map(|t| t.name.as_str()).collect();
    let layer = |n| {
        ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]
            .map(|t| format!("blk.{n}.{t}.weight"))
    };
    let mut expected = vec!["token_embd.weight".to_string()];
    expected.extend(layer(0));
    expected.extend(layer(1));
    expected.extend(["output_norm.weight".into(), "output.weight".into()]);
    assert_eq!(names, expected);
    for t in hf.tensors() {
        let is_norm = t.shape.len() == 1;
        let ty = if is_norm { TensorType::F32 } else { TensorType::BF16 };
        assert_eq!(t.encoding, Encoding::Plain(ty), "{}", t.name);
    }
    let shape = |name: &str| hf.tensors()[hf.find(name).unwrap()].shape.clone();
    assert_eq!(shape("blk.0.attn_output.weight"), [16, 8], "GGUF has the length of a row first");
    assert_eq!(shape("blk.1.ffn_down.weight"), [12, 8]);

    for (gguf, source) in [
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("output.weight", "lm_head.weight"),
        ("blk.1.attn_norm.weight", "model.layers.1.input_layernorm.weight"),
        ("blk.1.ffn_norm.weight", "model.layers.1.post_attention_layernorm.weight"),
        ("blk.1.attn_v.weight", "model.layers.1.self_attn.v_proj.weight"),
        ("blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj.weight"),
        ("blk.1.ffn_gate.weight", "model.layers.1.mlp.gate_proj.weight"),
        ("blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj.weight"),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
    ] {
        let found = values(&hf, gguf);
        assert_eq!(found, original(source, found.len()), "{gguf}");
    }
}

#[test]
fn q_and_k_are_reordered_head_by_head_and_nothing_else() {
    for dtype in ["F32", "F16", "BF16"] {
        let mut llama = Llama::new().set("attention_bias", json!(true));
        llama.dtype = dtype;
        for n in 0..LAYERS {
            for (p, len) in
                [("q", HEADS * HEAD_DIM), ("k", KV_HEADS * HEAD_DIM), ("v", KV_HEADS * HEAD_DIM), ("o", HIDDEN)]
            {
                llama = llama.tensor(&format!("model.layers.{n}.self_attn.{p}_proj.bias"), &[len]);
            }
        }
        let (hf, _dir) = llama.open().unwrap();
        for (p, heads) in [("q", HEADS), ("k", KV_HEADS)] {
            let source = format!("model.layers.1.self_attn.{p}_proj");
            let rows = heads * HEAD_DIM;
            let weight = original(&format!("{source}.weight"), rows * HIDDEN);
            assert_eq!(
                values(&hf, &format!("blk.1.attn_{p}.weight")),
                swap_axes(&weight, heads, HIDDEN),
                "{dtype} {p}"
            );
            let bias = original(&format!("{source}.bias"), rows);
            assert_eq!(values(&hf, &format!("blk.1.attn_{p}.bias")), swap_axes(&bias, heads, 1), "{dtype} {p} bias");
        }
        for (gguf, source) in [("attn_v", "v_proj"), ("attn_output", "o_proj")] {
            let bias = values(&hf, &format!("blk.0.{gguf}.bias"));
            assert_eq!(bias, original(&format!("model.layers.0.self_attn.{source}.bias"), bias.len()));
        }
    }
}

#[test]
fn any_range_of_rows_is_that_part_of_all_rows() {
    let (hf, _dir) = Llama::new().open().unwrap();
    for index in 0..hf.tensors().len() {
        let info = &hf.tensors()[index];
        let all = hf.rows(index, 0..info.rows()).into_owned();
        let row = info.cols() * info.ty().block_bytes();
        assert_eq!(all.len(), row * info.rows(), "{}", info.name);
        for start in 0..=info.rows() {
            for end in start..=info.rows() {
                assert_eq!(*hf.rows(index, start..end), all[start * row..end * row], "{} {start}..{end}", info.name);
            }
        }
        // What is mapped is what the rows are; q and k, whose order differs, cannot be.
        let reordered = info.name.contains("attn_q") || info.name.contains("attn_k");
        match hf.mapped(index) {
            Some(bytes) => assert!(bytes == all && !reordered, "{}", info.name),
            None => assert!(reordered || info.shape.len() == 1, "{}", info.name),
        }
        hf.release(index);
        assert_eq!(*hf.rows(index, 0..info.rows()), all, "{} after release", info.name);
    }
}

#[test]
fn a_tied_model_has_no_output_matrix() {
    let tied = || Llama::new().set("tie_word_embeddings", json!(true));
    let (hf, _dir) = tied().drop_tensor("lm_head.weight").open().unwrap();
    assert!(hf.find("output.weight").is_none() && hf.oddities().is_empty());
    let error = Llama::new().drop_tensor("lm_head.weight").error();
    assert!(error.to_string().contains("tie_word_embeddings"), "{error}");
}

#[test]
fn feed_forward_biases() {
    let mut llama = Llama::new().set("mlp_bias", json!(true));
    for n in 0..LAYERS {
        for (p, len) in [("gate", FFN), ("up", FFN), ("down", HIDDEN)] {
            llama = llama.tensor(&format!("model.layers.{n}.mlp.{p}_proj.bias"), &[len]);
        }
    }
    let (hf, _dir) = llama.open().unwrap();
    for (p, len) in [("gate", FFN), ("up", FFN), ("down", HIDDEN)] {
        let found = values(&hf, &format!("blk.1.ffn_{p}.bias"));
        assert_eq!(found, original(&format!("model.layers.1.mlp.{p}_proj.bias"), len));
    }
}

#[test]
fn llama3_factors_are_those_of_the_formula() {
    // Llama 3.1's own figures; the expected ones were computed with transformers 5.23: inv_freq without scaling over
    // inv_freq with.
    let rope = json!({"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let mut llama = Llama::new().set("rope_parameters", rope).set("head_dim", json!(128));
    for n in 0..LAYERS {
        for (p, shape) in [("q", [512, 8]), ("k", [256, 8]), ("v", [256, 8]), ("o", [8, 512])] {
            llama = llama.tensor(&format!("model.layers.{n}.self_attn.{p}_proj.weight"), &shape);
        }
    }
    let (hf, _dir) = llama.open().unwrap();
    assert_eq!(hf.tensors()[1].name, "rope_freqs.weight");
    let found = values(&hf, "rope_freqs.weight");
    assert_eq!(found.len(), 64);
    assert!(found[..29].iter().all(|f| *f == 1.0) && found[35..].iter().all(|f| *f == 8.0), "{found:?}");
    let between = LLAMA31_FACTORS_29_TO_34;
    for (found, expected) in found[29..35].iter().zip(between) {
        assert!((found / expected - 1.0).abs() < 2e-6, "{found} is not {expected}");
    }
}

/// As many factors as the heads are long are computed only once the shapes have confirmed that.
#[test]
fn a_head_as_long_as_config_json_claims_is_not_believed() {
    let rope = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let started = std::time::Instant::now();
    // Factors for it would take 4 GB.
    let error =
        Llama::new().set("rope_scaling", rope).set("head_dim", json!(1 << 29)).set("num_attention_heads", json!(1));
    let error = error.set("num_key_value_heads", json!(1)).error();
    assert!(error.to_string().contains("self_attn.q_proj.weight") && started.elapsed().as_secs() < 5, "{error}");
}

/// The factors of the six frequencies that are blended.
const LLAMA31_FACTORS_29_TO_34: [f32; 6] = [1.207_483_9, 1.553_414_5, 2.026_313, 2.694_530_2, 3.684_253_4, 5.257_327];

#[test]
fn metadata_is_what_llama_cpp_writes() {
    let rope = json!({"rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0});
    let (hf, dir) = Llama::new().set("rope_parameters", rope).open().unwrap();
    let m = hf.metadata();
    for (key, value) in [
        ("block_count", 2),
        ("context_length", 64),
        ("embedding_length", 8),
        ("feed_forward_length", 12),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("attention.key_length", 4),
        ("attention.value_length", 4),
        ("rope.dimension_count", 4),
        ("vocab_size", 20),
    ] {
        assert_eq!(m.get(&format!("llama.{key}")), Some(&Gguf::U32(value)), "{key}");
    }
    assert_eq!(m.get("llama.rope.freq_base"), Some(&Gguf::F32(20000.0)));
    assert_eq!(m.get("llama.attention.layer_norm_rms_epsilon"), Some(&Gguf::F32(1e-5)));
    assert_eq!(m.get("llama.rope.scaling.type"), Some(&Gguf::String("linear".into())));
    assert_eq!(m.get("llama.rope.scaling.factor"), Some(&Gguf::F32(4.0)));
    assert!(hf.find("rope_freqs.weight").is_none());
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("llama".into())));
    assert_eq!(m.get("general.file_type"), Some(&Gguf::U32(32)), "mostly BF16");
    let name = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(m.get("general.name"), Some(&Gguf::String(name)));
    let (hf, _dir) = Llama::new().set("rope_scaling", json!({"type": "default"})).open().unwrap();
    assert!(hf.metadata().get("llama.rope.scaling.type").is_none());
}

#[test]
fn every_wrong_tensor_has_its_name() {
    let q = "model.layers.1.self_attn.q_proj.weight";
    for (name, _) in Llama::new().tensors {
        match fault(Llama::new().drop_tensor(&name).error()) {
            WeightsFault::MissingTensor { tensor, .. } => assert_eq!(tensor, name),
            other => panic!("{name}: {other}"),
        }
        match fault(Llama::new().tensor(&name, &[3, 5]).error()) {
            WeightsFault::Shape { tensor, found, .. } => assert_eq!((tensor, found), (name, vec![3, 5])),
            other => panic!("{name}: {other}"),
        }
    }
    let transposed = fault(Llama::new().tensor(q, &[8, 16]).error());
    assert_eq!(transposed, WeightsFault::Shape { tensor: q.into(), expected: vec![16, 8], found: vec![8, 16] });
    for extra in [
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.x.y",
        "model.layers.00.mlp.up_proj.weight",
        "model.norm.bias",
        "lm_head.bias",
        "visual.weight_scale",
    ] {
        match fault(Llama::new().tensor(extra, &[16]).error()) {
            WeightsFault::UnknownTensor { tensor, .. } => assert_eq!(tensor, extra),
            other => panic!("{extra}: {other}"),
        }
    }
    // Old checkpoints carry frequencies that every runtime computes anew.
    let old = Llama::new().tensor("model.layers.0.self_attn.rotary_emb.inv_freq", &[2]);
    assert!(old.tensor("model.rotary_emb.inv_freq", &[2]).open().is_ok());

    let mut fp8 = Llama::new();
    fp8.dtype = "F8_E4M3";
    let error = fp8.error();
    assert!(error.to_string().contains("quantised"), "{error}");
    assert!(matches!(fault(error), WeightsFault::Dtype { dtype: Dtype::F8_E4M3, .. }));
    let mut gptq = Llama::new().drop_tensor(q);
    gptq = gptq.tensor("model.layers.1.self_attn.q_proj.qweight", &[1, 16]);
    assert!(gptq.error().to_string().contains("quantised"));
    // So many layers that a list of them would not fit memory.
    let many = Llama::new().set("num_hidden_layers", json!((1u64 << 31) - 1));
    assert!(matches!(fault(many.error()), WeightsFault::MissingTensor { .. }));
}

/// Writes `llama` in two shards, the index edited by `edit`.
fn sharded(llama: &Llama, edit: impl FnOnce(&Path, &mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    llama.write_small_files(dir.path());
    let tensors = llama.payload();
    let halves = tensors.split_at(tensors.len() / 2);
    let mut map = serde_json::Map::new();
    for (shard, tensors) in
        [("model-00001-of-00002.safetensors", halves.0), ("model-00002-of-00002.safetensors", halves.1)]
    {
        std::fs::write(dir.path().join(shard), safetensors(tensors)).unwrap();
        for (name, ..) in tensors {
            map.insert(name.clone(), shard.into());
        }
    }
    let mut index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    edit(dir.path(), &mut index);
    std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    dir
}

#[test]
fn shards_are_one_model() {
    let llama = Llama::new();
    let dir = sharded(&llama, |_, _| {});
    let split = HfDirectory::open(dir.path()).unwrap();
    let (whole, _dir) = llama.open().unwrap();
    assert_eq!(split.tensors(), whole.tensors());
    for index in 0..whole.tensors().len() {
        let rows = whole.tensors()[index].rows();
        assert_eq!(split.rows(index, 0..rows), whole.rows(index, 0..rows));
    }
}

#[test]
fn every_broken_index_has_its_name() {
    const FIRST: &str = "model-00001-of-00002.safetensors";
    const SECOND: &str = "model-00002-of-00002.safetensors";
    let embd = "model.embed_tokens.weight";
    let case = |edit: &dyn Fn(&Path, &mut Value)| {
        let dir = sharded(&Llama::new(), |d, v| edit(d, v));
        fault(HfDirectory::open(dir.path()).unwrap_err())
    };
    assert_eq!(
        case(&|dir, _| std::fs::remove_file(dir.join(FIRST)).unwrap()),
        WeightsFault::MissingShard { shard: FIRST.into(), tensor: embd.into() }
    );
    for name in ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\\b"] {
        let found = case(&|_, index| index["weight_map"][embd] = json!(name));
        assert_eq!(found, WeightsFault::ShardName { shard: name.into() });
    }
    let without_head = Llama::new().drop_tensor("lm_head.weight");
    let dir = sharded(&without_head, |_, index| index["weight_map"]["lm_head.weight"] = json!(FIRST));
    assert_eq!(
        fault(HfDirectory::open(dir.path()).unwrap_err()),
        WeightsFault::NotInShard { tensor: "lm_head.weight".into(), shard: FIRST.into() }
    );
    // What a file has, it has, whatever the index says; and what the model does not have need not be there.
    let dir = sharded(&Llama::new(), |_, index| {
        index["weight_map"][embd] = json!(SECOND);
        index["weight_map"]["extra"] = json!(FIRST);
    });
    assert!(HfDirectory::open(dir.path()).is_ok());
    assert_eq!(
        case(&|dir, _| {
            std::fs::copy(dir.join(FIRST), dir.join(SECOND)).unwrap();
        }),
        WeightsFault::InTwoShards { tensor: embd.into(), first: FIRST.into(), second: SECOND.into() }
    );
    assert_eq!(case(&|_, index| index["weight_map"] = json!({})), WeightsFault::EmptyIndex);

    let dir = sharded(&Llama::new(), |_, _| {});
    let index = dir.path().join("model.safetensors.index.json");
    let text = format!(r#"{{"weight_map":{{"{embd}":"{FIRST}","{embd}":"{SECOND}"}}}}"#);
    std::fs::write(&index, text).unwrap();
    let found = fault(HfDirectory::open(dir.path()).unwrap_err());
    assert_eq!(found, WeightsFault::ListedTwice { tensor: embd.into() });
    for text in ["", "{}", r#"{"weight_map":[]}"#, r#"{"weight_map":{"a":1}}"#] {
        std::fs::write(&index, text).unwrap();
        let error = HfDirectory::open(dir.path()).unwrap_err();
        assert!(matches!(error, HfError::File(_)) && error.to_string().contains("index.json"), "{error}");
    }
}

#[test]
fn a_directory_without_weights_says_what_to_do() {
    for (file, advice) in [
        ("some.gguf", "give that file instead"),
        ("adapter_model.safetensors", "no index"),
        ("README.md", "no weights at all"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        Llama::new().write_small_files(dir.path());
        std::fs::write(dir.path().join(file), b"x").unwrap();
        let error = HfDirectory::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains(advice), "{file}: {error}");
        assert!(matches!(fault(error), WeightsFault::NoWeights { .. }));
    }
}

#[test]
fn a_truncated_shard_is_named() {
    let dir = sharded(&Llama::new(), |dir, _| {
        let path = dir.join("model-00002-of-00002.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    });
    let error = HfDirectory::open(dir.path()).unwrap_err();
    assert!(matches!(error, HfError::Safetensors(_)));
    let text = error.to_string();
    assert!(text.contains("model-00002-of-00002.safetensors") && text.contains("10 bytes are missing"), "{text}");
}
