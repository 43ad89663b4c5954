//! Models within others, or under other names than their family's: Llama 3.2-Vision's text, Granite 4's dense ones.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use quipu_formats::gguf::{Array, GgufFile, GgufWriter, Metadata, Value as Gguf};
use quipu_formats::hf::HfDirectory;
use quipu_formats::oddity::Oddity;
use quipu_formats::safetensors::SafetensorsFile;
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;
use serde_json::{Value, json};

const MLLAMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tiny-mllama-bf16");
const GRANITE4: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/tiny-granite4-bf16");

/// The directory `from` with another config.json.
fn with_config(from: &str, change: impl Fn(&mut Value)) -> Result<HfDirectory, String> {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&entry, dir.path().join(entry.file_name().unwrap())).unwrap();
    }
    let path = dir.path().join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
    HfDirectory::open(dir.path()).map_err(|error| error.to_string())
}

#[test]
fn the_text_of_a_model_that_sees_is_a_llama() {
    let hf = HfDirectory::open(Path::new(MLLAMA)).unwrap();
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("llama".into())));
    assert_eq!(m.get("llama.block_count"), Some(&Gguf::U32(2)));
    // Nine tensors a layer, the embedding, RoPE's factors, norm and head.
    assert_eq!(hf.tensors().len(), 2 * 9 + 4);
    let shape = |name: &str| hf.tensors()[hf.find(name).unwrap()].shape.clone();
    assert_eq!((shape("token_embd.weight"), shape("output.weight")), (vec![48, 309], vec![48, 309]));
    let file = SafetensorsFile::open(Path::new(MLLAMA).join("model.safetensors")).unwrap();
    // Of four layers, 1 and 3 look at an image.
    let theirs = "model.language_model.layers.2.mlp.up_proj.weight";
    let theirs = file.tensors().iter().position(|t| {
        t.name == theirs || t.name == theirs.replacen("model.language_model.", "language_model.model.", 1)
    });
    assert_eq!(hf.mapped(hf.find("blk.1.ffn_up.weight").unwrap()), Some(file.data(theirs.unwrap())));
    let all = file.tensors().len();
    let left_out = Oddity::TextHalf { tensors: all - (2 * 9 + 3), layers: 2 };
    assert_eq!(hf.oddities(), std::slice::from_ref(&left_out));
    assert!(left_out.to_string().contains("2 layers that look at images"), "{left_out}");

    for (wrong, found) in
        [(json!([1, 4]), "an array"), (json!([1, 1]), "an array"), (json!(3), "3"), (json!([0, 1, 2, 3]), "an array")]
    {
        let error =
            with_config(MLLAMA, |config| config["text_config"]["cross_attention_layers"] = wrong.clone()).unwrap_err();
        assert!(error.contains("cross_attention_layers") && error.contains(found), "{error}");
    }
}

/// ollama's names: what concerns images is in the same file, the embedding and the vocabulary are longer.
#[test]
fn ollamas_file_of_a_model_that_sees_is_the_same_llama() {
    let hf = HfDirectory::open(Path::new(MLLAMA)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |cross: &[i32]| {
        let mut metadata = Metadata::default();
        for (key, value) in hf.metadata().iter() {
            metadata.set(key.replacen("llama.", "mllama.", usize::from(key.starts_with("llama."))), value.clone());
        }
        metadata.set("general.architecture", Gguf::String("mllama".into()));
        metadata.set("mllama.block_count", Gguf::U32(4));
        metadata.set("mllama.attention.cross_attention_layers", Gguf::Array(Array::I32(cross.to_vec())));
        metadata.set("mllama.vision.block_count", Gguf::U32(1));
        let tokens = hf.metadata().strings_opt("tokenizer.ggml.tokens").unwrap().unwrap();
        metadata.set("tokenizer.ggml.tokens", Gguf::Array(Array::String(tokens.iter().chain(["<|image|>"]).collect())));
        let kinds = hf.metadata().i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap();
        metadata.set("tokenizer.ggml.token_type", Gguf::Array(Array::I32([kinds, &[3]].concat())));
        let mut tensors: Vec<(TensorInfo, Vec<u8>)> = Vec::new();
        let zeros =
            |name: &str, n: usize| (TensorInfo::new(name, Encoding::Plain(TensorType::F32), [n]), vec![0; 4 * n]);
        tensors.push(zeros("v.class_embd", 8));
        for (i, info) in hf.tensors().iter().enumerate() {
            let mut info = TensorInfo { name: info.name.replacen("blk.1.", "blk.2.", 1), ..info.clone() };
            let mut bytes = hf.rows(i, 0..info.rows()).into_owned();
            if info.name == "token_embd.weight" {
                info.shape[1] += 8;
                bytes.resize(bytes.len() + 8 * 48 * 2, 7);
            }
            tensors.push((info, bytes));
        }
        tensors.extend([
            zeros("blk.1.cross_attn_attn_gate", 1),
            zeros("blk.3.attn_norm.weight", 48),
            zeros("mm.0.bias", 48),
        ]);
        let path = dir.path().join("vision.gguf");
        let infos: Vec<_> = tensors.iter().map(|(info, _)| info.clone()).collect();
        let mut writer = GgufWriter::new(BufWriter::new(File::create(&path).unwrap()), &metadata, &infos).unwrap();
        tensors.iter().for_each(|(_, bytes)| writer.write_tensor_part(bytes).unwrap());
        drop(writer.complete().unwrap());
        GgufFile::open(path)
    };
    let file = write(&[1, 3]).unwrap();
    assert_eq!(file.tensors(), hf.tensors());
    assert_eq!((0..file.tensors().len()).find(|&i| file.values(i, 0..1) != hf.values(i, 0..1)), None);
    let embedding = file.find("token_embd.weight").unwrap();
    assert_eq!(file.values(embedding, 0..309), hf.values(embedding, 0..309));
    assert_eq!(file.mapped(embedding).map(<[u8]>::len), Some(309 * 48 * 2));
    let differs = |(key, value): &(&str, &Gguf)| *key != "llama.block_count" && file.metadata().get(key) != Some(value);
    assert_eq!(hf.metadata().iter().find(differs).map(|(key, _)| key), None);
    assert_eq!(file.metadata().usize_opt("llama.block_count").unwrap(), Some(2));
    assert_eq!(file.metadata().len(), hf.metadata().len());
    assert_eq!(file.oddities(), [Oddity::TextHalf { tensors: 4, layers: 2 }]);
    let error = write(&[1, 4]).unwrap_err().to_string();
    assert!(error.contains("mllama.attention.cross_attention_layers") && error.contains("4 layers"), "{error}");
}

#[test]
fn a_dense_granite_4_is_a_granite_3() {
    let hf = HfDirectory::open(Path::new(GRANITE4)).unwrap();
    let m = hf.metadata();
    assert_eq!(m.get("general.architecture"), Some(&Gguf::String("granite".into())));
    assert_eq!(m.get("granite.feed_forward_length"), Some(&Gguf::U32(44)));
    assert_eq!(m.get("granite.residual_scale"), Some(&Gguf::F32(0.4)));
    let file = SafetensorsFile::open(Path::new(GRANITE4).join("model.safetensors")).unwrap();
    let both = file.tensors().iter().position(|t| t.name == "model.layers.1.shared_mlp.input_linear.weight").unwrap();
    let (gate, up) = file.data(both).split_at(44 * 48 * 2);
    assert_eq!(hf.mapped(hf.find("blk.1.ffn_gate.weight").unwrap()), Some(gate));
    assert_eq!(hf.mapped(hf.find("blk.1.ffn_up.weight").unwrap()), Some(up));
    assert!(hf.oddities().is_empty(), "{:?}", hf.oddities());
    for (key, value) in [
        ("num_local_experts", json!(4)),
        ("layer_types", json!(["full_attention", "mamba"])),
        ("position_embedding_type", json!("nope")),
        ("position_embedding_type", Value::Null),
    ] {
        let error = with_config(GRANITE4, |config| config[key] = value.clone()).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
}
