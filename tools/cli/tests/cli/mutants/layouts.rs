//! Checkpoints in the layouts of PyTorch, Meta and Mistral, made of one of Hugging Face's, with lies in the list of
//! their tensors, in the pickle that is this list, or anywhere.

use std::path::Path;

use quipu_formats::safetensors::SafetensorsFile;
use quipu_test_random::Random;
use serde_json::{Map, json};

use super::bytes::{integer, mutate_bytes};
use super::hf;

#[allow(clippy::duplicate_mod, reason = "the tests of the formats have it, too")]
#[path = "../../../../../formats/tests/torch/build.rs"]
mod build;
use build::{Tensor, archive, checkpoint};

/// The small files that all layouts have.
const SMALL: [&str; 4] = ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"];
const WORDS: [(&str, &str); 12] = [
    ("model.", ""),
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
];

/// Makes such a directory of the checkpoint `from`; returns what lies in it.
pub fn make(from: &Path, to: &Path, random: &mut Random) -> String {
    let file = SafetensorsFile::open(from.join("model.safetensors")).unwrap();
    let mut tensors: Vec<Tensor> = (0..file.tensors().len())
        .map(|i| {
            let tensor = &file.tensors()[i];
            (tensor.name.clone(), "BFloat16Storage", 2, tensor.shape.clone(), file.data(i).to_vec())
        })
        .collect();
    std::fs::create_dir(to).unwrap();
    for name in SMALL {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    let layout = random.below(3);
    if layout > 0 {
        let mut params = json!({"dim": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16,
            "norm_eps": 1e-5, "rope_theta": 1e4, "vocab_size": 309});
        if layout == 2 {
            params["hidden_dim"] = json!(96);
        }
        std::fs::write(to.join("params.json"), params.to_string()).unwrap();
        std::fs::remove_file(to.join("config.json")).unwrap();
        for tensor in &mut tensors {
            WORDS.iter().for_each(|(hf, own)| tensor.0 = tensor.0.replace(hf, own));
        }
    }
    // Sometimes the files around the weights lie.
    let mut what = match random.below(3) {
        0 => hf::mutate(to, if layout > 0 { &["params.json", "tokenizer.json"] } else { &SMALL }, random),
        _ => lie(&mut tensors, random),
    };
    match layout {
        0 => what += &torch(&to.join("pytorch_model.bin"), &tensors, random),
        1 => {
            // Two parts: of the output and the down projection half of the columns each, of others half of the rows.
            for n in 0..2 {
                let part: Vec<Tensor> = tensors.iter().map(|tensor| half(tensor, n)).collect();
                what += &torch(&to.join(format!("consolidated.0{n}.pth")), &part, random);
            }
        }
        _ => safetensors(&to.join("consolidated.safetensors"), &tensors),
    }
    format!("{}: {what}", ["PyTorch's", "Meta's", "Mistral's"][layout])
}

/// Changes the list of tensors.
fn lie(tensors: &mut Vec<Tensor>, random: &mut Random) -> String {
    let i = random.below(tensors.len());
    let (name, storage, size, shape, bytes) = &mut tensors[i];
    let what = format!("{name} {shape:?} ");
    match random.below(8) {
        0 => drop(tensors.remove(i)),
        1 => {
            let copy = tensors[i].clone();
            tensors.push(copy);
        }
        2 => *name = ["", "model.norm.weight", "x", "norm.weight", "\u{1b}[2J"][random.below(5)].into(),
        3 => shape.reverse(),
        4 => shape.push([0, 1, 2][random.below(3)]),
        5 => {
            let n = integer(random) as usize;
            match shape.first_mut() {
                Some(extent) => *extent = n,
                None => shape.push(n),
            }
        }
        6 => {
            (*storage, *size) =
                [("FloatStorage", 4), ("HalfStorage", 2), ("LongStorage", 8), ("NoStorage", 1)][random.below(4)]
        }
        _ => bytes.truncate(random.below(bytes.len() + 1)),
    }
    what
}

/// Writes a PyTorch checkpoint, whose pickle lies with the right checksum, or which lies anywhere, or not at all.
fn torch(path: &Path, tensors: &[Tensor], random: &mut Random) -> String {
    let mut bytes = checkpoint(tensors);
    let what = match random.below(4) {
        0 => {
            // The first entry, behind its header.
            let number =
                |at: usize, len: usize| bytes[at..at + len].iter().rfold(0, |n, byte| n << 8 | usize::from(*byte));
            let (len, start) = (number(18, 4), 30 + number(26, 2) + number(28, 2));
            let mut pickle = bytes[start..start + len].to_vec();
            let what = mutate_bytes(&mut pickle, random);
            let mut entries = vec![("x/data.pkl".to_string(), pickle)];
            entries.extend(tensors.iter().enumerate().map(|(key, tensor)| (format!("x/data/{key}"), tensor.4.clone())));
            entries.push(("x/byteorder".into(), b"little".to_vec()));
            let entries: Vec<_> = entries.iter().map(|(name, data)| (name.as_str(), data.clone())).collect();
            bytes = archive(&entries, random.below(2) == 0);
            format!("in the pickle {what}")
        }
        1 => mutate_bytes(&mut bytes, random),
        _ => String::new(),
    };
    std::fs::write(path, bytes).unwrap();
    what
}

/// Part `n` of two of a tensor of 16-bit numbers; vectors, and what cannot be halved, are whole in both.
fn half((name, storage, size, shape, bytes): &Tensor, n: usize) -> Tensor {
    let along = usize::from(name.contains(".wo.") || name.contains(".w2."));
    let (mut shape, mut bytes) = (shape.clone(), bytes.clone());
    if shape.len() == 2
        && shape[along].is_multiple_of(2)
        && bytes.len() == 2 * shape[0].wrapping_mul(shape[1])
        && !bytes.is_empty()
    {
        let row = 2 * shape[1];
        bytes = match along {
            0 => bytes[n * bytes.len() / 2..][..bytes.len() / 2].to_vec(),
            _ => bytes.chunks(row).flat_map(|row| row[n * row.len() / 2..][..row.len() / 2].to_vec()).collect(),
        };
        shape[along] /= 2;
    }
    (name.clone(), storage, *size, shape, bytes)
}

fn safetensors(path: &Path, tensors: &[Tensor]) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, storage, _, shape, bytes) in tensors {
        let dtype = match *storage {
            "BFloat16Storage" => "BF16",
            "FloatStorage" => "F32",
            "HalfStorage" => "F16",
            other => other,
        };
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = json!(header).to_string();
    std::fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}
