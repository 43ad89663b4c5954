//! What is particular to a family, from the checkpoints that transformers wrote.

use std::path::Path;

use quipu_formats::gguf::{Array, Value as Gguf};
use quipu_formats::hf::HfDirectory;
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

/// Experts are one tensor of each kind, one after the other; the router is F32.
#[test]
fn mixtures_of_experts() {
    let hf = tiny("tiny-mixtral-bf16");
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("llama".into())));
    assert_eq!(m.get("llama.expert_count"), Some(&Gguf::U32(5)));
    assert_eq!(m.get("llama.expert_used_count"), Some(&Gguf::U32(2)));
    assert_eq!(m.get("llama.expert_feed_forward_length"), None);
    let info = |hf: &HfDirectory, name: &str| hf.tensors()[hf.find(name).unwrap()].clone();
    assert_eq!(info(&hf, "blk.1.ffn_gate_inp.weight").encoding.name(), "F32");
    assert_eq!(info(&hf, "blk.1.ffn_up_exps.weight").shape, [40, 44, 5]);
    assert_eq!(info(&hf, "blk.1.ffn_down_exps.weight").shape, [44, 40, 5]);
    // w3 of expert 3 is rows 132 and on of the ways up; a range may have rows of several experts.
    let up = hf.find("blk.1.ffn_up_exps.weight").unwrap();
    let file = SafetensorsFile::open(hf.path().join("model.safetensors")).unwrap();
    let of = |expert: usize| {
        let name = format!("model.layers.1.block_sparse_moe.experts.{expert}.w3.weight");
        file.data(file.tensors().iter().position(|t| t.name == name).unwrap())
    };
    assert_eq!(&*hf.rows(up, 132..176), of(3));
    assert_eq!(&*hf.rows(up, 43..177), [&of(0)[43 * 80..], of(1), of(2), of(3), &of(4)[..80]].concat());

    let hf = tiny("tiny-qwen3moe-bf16");
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("qwen3moe".into())));
    assert_eq!(m.get("qwen3moe.expert_feed_forward_length"), Some(&Gguf::U32(32)));
    assert_eq!(m.get("qwen3moe.expert_weights_norm"), Some(&Gguf::Bool(false)));
    let listed = Gguf::Array(Array::Bool(vec![true, false, true]));
    assert_eq!(m.get("quipu.expert.layers"), Some(&listed));
    assert_eq!(info(&hf, "blk.1.ffn_gate.weight").shape, [32, 44]);
    assert!(hf.find("blk.1.ffn_gate_exps.weight").is_none() && hf.find("blk.0.ffn_gate.weight").is_none());
}

/// Llama 4 has its experts inputs first, gate and way up side by side; what llama.cpp takes by itself is not written.
#[test]
fn llama4() {
    let hf = tiny("tiny-llama4-bf16");
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("llama4".into())));
    assert_eq!(m.get("llama4.feed_forward_length"), Some(&Gguf::U32(48)));
    assert_eq!(m.get("llama4.expert_feed_forward_length"), Some(&Gguf::U32(32)));
    assert_eq!(m.get("llama4.interleave_moe_layer_step"), Some(&Gguf::U32(2)));
    assert_eq!(m.get("llama4.attention.chunk_size"), Some(&Gguf::U32(40)));
    assert_eq!(m.get("llama4.attention.temperature_length"), Some(&Gguf::U32(30)));
    for absent in ["quipu.rope.layers", "quipu.expert.layers", "llama4.use_qk_norm", "llama4.attention.sliding_window"]
    {
        assert_eq!(m.get(absent), None, "{absent}");
    }
    for part in ["q", "k"] {
        let name = format!("model.layers.1.self_attn.{part}_proj.weight");
        assert!(is_as_it_lies(&hf, &format!("blk.1.attn_{part}.weight"), &name), "{part}: no row changes its place");
    }
    let file = SafetensorsFile::open(hf.path().join("model.safetensors")).unwrap();
    let of = |name: &str| file.data(file.tensors().iter().position(|t| t.name.ends_with(name)).unwrap());
    let (both, down) =
        (of("layers.3.feed_forward.experts.gate_up_proj"), of("layers.3.feed_forward.experts.down_proj"));
    // Output 7 of expert 2: column 7 of 64 or 32, the ways up behind the gates.
    let column = |matrices: &[u8], width: usize, column: usize| {
        let rows = matrices[2 * 32 * width * 2..3 * 32 * width * 2].chunks(2 * width);
        rows.flat_map(|row| [row[2 * column], row[2 * column + 1]]).collect::<Vec<u8>>()
    };
    let row = |name: &str| hf.rows(hf.find(name).unwrap(), 2 * 32 + 7..2 * 32 + 8).into_owned();
    assert_eq!(row("blk.3.ffn_gate_exps.weight"), column(both, 64, 7));
    assert_eq!(row("blk.3.ffn_up_exps.weight"), column(both, 64, 32 + 7));
    assert_eq!(row("blk.3.ffn_down_exps.weight"), column(down, 32, 7));

    let dense = tiny("tiny-llama4-dense-bf16");
    let m = dense.metadata();
    assert_eq!(m.get("llama4.expert_count"), None);
    assert_eq!(m.get("llama4.use_qk_norm"), Some(&Gguf::Bool(false)));
    assert!(dense.find("blk.0.ffn_gate.weight").is_some() && dense.find("blk.0.ffn_gate_inp.weight").is_none());
}

/// An expert that is missing, and more experts for a token than there are, are named; any number of experts is refused
/// at the first one that is missing.
#[test]
fn mixtures_of_experts_that_are_wrong() {
    let mixtral =
        || Llama::new().set("model_type", json!("mixtral")).set("architectures", json!(["MixtralForCausalLM"]));
    let error = mixtral().set("num_local_experts", json!(2_000_000_000)).error().to_string();
    assert!(error.contains("layers.0.block_sparse_moe.gate.weight\" is missing"), "{error}");
    let error = mixtral().set("num_local_experts", json!(1)).error().to_string();
    assert!(error.contains("`num_experts_per_tok` is 2, but a layer has 1 experts"), "{error}");
}

/// Mistral's window is that of all layers; a key that is absent is not one that is null.
#[test]
fn mistral() {
    let mistral = || {
        let llama =
            Llama::new().set("model_type", json!("mistral")).set("architectures", json!(["MistralForCausalLM"]));
        llama.set("max_position_embeddings", json!(32768))
    };
    let window = |llama: Llama| {
        let (hf, _dir) = llama.open().unwrap();
        assert_eq!(hf.metadata().get("general.architecture"), Some(&Gguf::String("llama".into())));
        assert_eq!(hf.metadata().get("llama.context_length"), Some(&Gguf::U32(32768)));
        hf.metadata().usize_opt("llama.attention.sliding_window").unwrap()
    };
    // 0 is none, as llama.cpp has it.
    assert_eq!(window(mistral().set("sliding_window", json!(null))), Some(0));
    assert_eq!(window(mistral().set("sliding_window", json!(1024))), Some(1024));
    assert_eq!(window(mistral()), Some(4096));
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

/// Norms are stored less 1, layers with a window are listed where they do not follow the rule, and so on: what a GGUF
/// says is what llama.cpp reads.
#[test]
fn gemma3() {
    let hf = tiny("tiny-gemma3-bf16");
    let m = hf.metadata();
    assert_eq!(m.get("gemma3.attention.sliding_window"), Some(&Gguf::U32(40)));
    let listed = Gguf::Array(Array::Bool(vec![true, false, true]));
    assert_eq!(m.get("gemma3.attention.sliding_window_pattern"), Some(&listed));
    assert_eq!(m.get("gemma3.rope.freq_base"), Some(&Gguf::F32(1e6)));
    // The rule for it: 10000.
    assert_eq!(m.get("gemma3.rope.freq_base_swa"), None);
    assert_eq!(m.get("gemma3.rope.scaling.factor"), Some(&Gguf::F32(8.0)));
    assert_eq!(m.get("gemma3.final_logit_softcapping"), Some(&Gguf::F32(25.0)));
    assert_eq!(m.get("gemma3.attn_logit_softcapping"), None);
    assert_eq!(m.get("gemma3.attention.scale"), Some(&Gguf::F32((1.0 / 20f64.sqrt()) as f32)));
    assert_eq!(m.get("tokenizer.ggml.add_space_prefix"), Some(&Gguf::Bool(false)));
    assert_eq!(m.get("tokenizer.ggml.model"), Some(&Gguf::String("llama".into())));
    let file = SafetensorsFile::open(hf.path().join("model.safetensors")).unwrap();
    let stored = file.tensors().iter().position(|t| t.name == "model.norm.weight").unwrap();
    let stored: Vec<f32> =
        file.data(stored).as_chunks().0.iter().map(|&b| half::bf16::from_le_bytes(b).to_f32() + 1.0).collect();
    assert_eq!(hf.values(hf.find("output_norm.weight").unwrap(), 0..1), stored);
}

/// The text model inside one that sees images has the tensors and the keys of one that stands alone.
#[test]
fn gemma3_inside_a_larger_model() {
    let from = tiny("tiny-gemma3-bf16");
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(from.path().join(name), dir.path().join(name)).unwrap();
    }
    let mut text: serde_json::Value =
        serde_json::from_slice(&std::fs::read(from.path().join("config.json")).unwrap()).unwrap();
    text.as_object_mut().unwrap().remove("architectures");
    let config =
        json!({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"], "text_config": text});
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let file = SafetensorsFile::open(from.path().join("model.safetensors")).unwrap();
    for layout in ["language_model.model.", "model.language_model."] {
        let mut tensors: Vec<_> = file.tensors().iter().map(|t| (t.name.replacen("model.", layout, 1), t)).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let mut header = serde_json::Map::new();
        let mut data = Vec::new();
        for (name, tensor) in tensors {
            let bytes = file.data(file.tensors().iter().position(|t| t.name == tensor.name).unwrap());
            let ends = [data.len(), data.len() + bytes.len()];
            header.insert(name, json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": ends}));
            data.extend_from_slice(bytes);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let whole = [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat();
        std::fs::write(dir.path().join("model.safetensors"), whole).unwrap();
        let hf = HfDirectory::open(dir.path()).unwrap();
        assert_eq!(hf.tensors(), from.tensors(), "{layout}");
        assert_eq!((0..hf.tensors().len()).find(|&i| hf.values(i, 0..1) != from.values(i, 0..1)), None, "{layout}");
        let differs = |(key, value): &(&str, &Gguf)| *key != "general.name" && from.metadata().get(key) != Some(value);
        assert_eq!(hf.metadata().iter().find(differs).map(|(key, _)| key), None, "{layout}");
    }
}

#[test]
fn phi3_olmo_granite_and_smollm3() {
    let number = |hf: &HfDirectory, key: &str| {
        hf.metadata().get(key).and_then(|value| value.as_f64().or(value.as_u64().map(|n| n as f64)))
    };
    let phi = tiny("tiny-phi3-bf16");
    assert_eq!(number(&phi, "phi3.rope.dimension_count"), Some(12.0));
    assert_eq!(number(&phi, "phi3.attention.sliding_window"), Some(33.0));
    let shape = |hf: &HfDirectory, name: &str| hf.tensors()[hf.find(name).unwrap()].shape.clone();
    assert_eq!(shape(&phi, "blk.1.attn_qkv.weight"), [64, 128]);
    assert_eq!(shape(&phi, "blk.1.ffn_up.weight"), [64, 96]);
    let olmo = tiny("tiny-olmo3-bf16");
    assert_eq!(olmo.metadata().get("general.architecture"), Some(&Gguf::String("olmo2".into())));
    assert_eq!(shape(&olmo, "blk.1.attn_q_norm.weight"), [48]);
    assert!(olmo.find("blk.1.attn_norm.weight").is_none());
    assert_eq!(olmo.metadata().str_opt("olmo2.rope.scaling.type").unwrap(), Some("yarn"));
    assert_eq!(number(&tiny("tiny-olmo2-bf16"), "olmo2.attention.sliding_window"), None);
    let granite = tiny("tiny-granite-bf16");
    for (key, value) in
        [("embedding_scale", 0.7), ("residual_scale", 0.4), ("logit_scale", 1.5), ("attention.scale", 0.4)]
    {
        assert_eq!(number(&granite, &format!("granite.{key}")), Some(f64::from(value as f32)), "{key}");
    }
    let list = Gguf::Array(Array::Bool(vec![true, false, true]));
    assert_eq!(tiny("tiny-smollm3-bf16").metadata().get("quipu.rope.layers"), Some(&list));
}

/// Positions without the two rows that nothing reads, keys of its own, and no RoPE. Tokens come from GPT-2's two files.
#[test]
fn opt() {
    let hf = tiny("tiny-opt-bf16");
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("opt".into())));
    assert_eq!(m.get("opt.attention.layer_norm_epsilon"), Some(&Gguf::F32(1e-5)));
    assert_eq!(m.get("opt.activation"), Some(&Gguf::String("relu".into())));
    assert_eq!(m.get("opt.feed_forward_length"), Some(&Gguf::U32(44)));
    assert_eq!(m.iter().find(|(key, _)| key.contains("rope") || key.contains("rms")), None);
    // Embeddings of tokens and positions, the final norm with its bias, and of a layer six matrices and two norms.
    assert_eq!(hf.tensors().len(), 2 + 2 + 2 * 2 * (6 + 2));
    let file = SafetensorsFile::open(hf.path().join("model.safetensors")).unwrap();
    let stored = file.tensors().iter().position(|t| t.name == "model.decoder.embed_positions.weight").unwrap();
    assert_eq!(file.tensors()[stored].shape, [306, 40]);
    let positions = hf.find("position_embd.weight").unwrap();
    assert_eq!(hf.tensors()[positions].shape, [40, 304]);
    assert_eq!(*hf.rows(positions, 0..304), file.data(stored)[2 * 40 * 2..]);
    assert_eq!(*hf.rows(positions, 7..9), file.data(stored)[9 * 40 * 2..11 * 40 * 2]);
    assert_eq!(m.get("tokenizer.ggml.pre"), Some(&Gguf::String("gpt-2".into())));
    assert_eq!(m.get("tokenizer.ggml.bos_token_id"), Some(&Gguf::U32(2)));
    assert_eq!(m.get("tokenizer.ggml.add_bos_token"), Some(&Gguf::Bool(true)));
    assert_eq!(m.get("quipu.tokenizer.pre"), None);
}

/// OPT-350M: norms behind, none at the end, and two matrices around the layers, from PyTorch's file.
#[test]
fn opt_with_norms_behind_and_a_narrow_embedding() {
    let hf = tiny("tiny-opt-after-bf16");
    let m = hf.metadata();
    assert_eq!((m.get("opt.norm_after"), m.get("opt.final_norm")), (Some(&Gguf::Bool(true)), Some(&Gguf::Bool(false))));
    assert_eq!(m.get("opt.token_embedding_length"), Some(&Gguf::U32(32)));
    let shape = |name: &str| hf.tensors()[hf.find(name).unwrap()].shape.clone();
    assert_eq!((shape("token_embd.weight"), shape("token_embd_in.weight")), (vec![32, 309], vec![32, 64]));
    assert_eq!(shape("token_embd_out.weight"), [64, 32]);
    assert!(hf.find("output_norm.weight").is_none() && hf.find("output.weight").is_none());
}

/// Norms without weights have ones; switched off, biases that are there all the same are refused.
#[test]
fn galactica() {
    let hf = tiny("tiny-galactica-bare-bf16");
    assert_eq!(hf.metadata().get("opt.activation"), Some(&Gguf::String("gelu".into())));
    assert_eq!(hf.values(hf.find("blk.1.ffn_norm.weight").unwrap(), 0..1), [1.0; 40]);
    assert_eq!(hf.tensors().iter().find(|tensor| tensor.name.ends_with(".bias")), None);
    // A pattern of its own, and characters that stay apart.
    let pre = hf.metadata().str_opt("quipu.tokenizer.pre").unwrap().unwrap();
    assert!(pre.contains("SPL1T-TH1S-Pl3A5E") && pre.contains("NFKC"), "{pre}");

    let changed = |name: &str, key: &str, value: serde_json::Value| {
        let (from, to) = (tiny(name).path().to_owned(), tempfile::tempdir().unwrap());
        for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
        }
        let path = to.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        HfDirectory::open(to.path()).map(drop).unwrap_err().to_string()
    };
    let error = changed("tiny-opt-bf16", "enable_bias", json!(false));
    assert!(error.contains("`enable_bias` says that there is none"), "{error}");
    let error = changed("tiny-opt-bf16", "layer_norm_elementwise_affine", json!(false));
    assert!(error.contains("layer_norm"), "{error}");
    let error = changed("tiny-opt-bf16", "activation_function", json!("gelu_new"));
    assert!(error.contains("`activation_function` is \"gelu_new\"; expected relu or gelu"), "{error}");
    let error = changed("tiny-opt-bf16", "do_layer_norm_before", json!(false));
    assert!(error.contains("final_layer_norm"), "{error}");
    let error = changed("tiny-opt-bf16", "max_position_embeddings", json!(100));
    assert!(error.contains("embed_positions") && error.contains("102"), "{error}");
}
