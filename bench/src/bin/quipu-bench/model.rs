//! Models of real sizes: every shape and type is that of the real one, every row a repetition of a few random ones.
//!
//! How fast a model runs does not depend on what its weights are. Rounding a thousand million of them would take
//! minutes, so a miniature with the same names is rounded, which also says which type each tensor gets, and its bytes
//! are written again and again.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use quipu_formats::convert::{ConvertOptions, Mix, TypeRule, write_gguf};
use quipu_formats::gguf::{Array, GgufFile, GgufWriter, Metadata, Value};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;
use quipu_test_random::Random;

/// Tokens of Llama 3.
const VOCABULARY: usize = 128_256;

/// The sizes of a model: Llama 3.2 1B and 3B, Llama 3.1 8B. All have 8 key and value heads.
struct Size {
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    head_dim: usize,
    tied: bool,
}

const KV_HEADS: usize = 8;

fn size(name: &str) -> Option<Size> {
    let size = |layers, hidden, feed_forward, heads, head_dim, tied| Size {
        layers,
        hidden,
        feed_forward,
        heads,
        head_dim,
        tied,
    };
    Some(match name {
        "1b" => size(16, 2048, 8192, 32, 64, true),
        "3b" => size(28, 3072, 8192, 24, 128, true),
        "8b" => size(32, 4096, 14336, 32, 128, false),
        _ => return None,
    })
}

impl Size {
    /// Names and shapes (columns, rows) of all tensors; one row is a vector.
    fn tensors(&self) -> Vec<(String, usize, usize)> {
        let (d, q, kv) = (self.hidden, self.heads * self.head_dim, KV_HEADS * self.head_dim);
        let mut all = vec![("token_embd.weight".to_string(), d, VOCABULARY)];
        for layer in 0..self.layers {
            let of = [
                ("attn_norm", d, 1),
                ("attn_q", d, q),
                ("attn_k", d, kv),
                ("attn_v", d, kv),
                ("attn_output", q, d),
                ("ffn_norm", d, 1),
                ("ffn_gate", d, self.feed_forward),
                ("ffn_up", d, self.feed_forward),
                ("ffn_down", self.feed_forward, d),
            ];
            all.extend(of.map(|(name, cols, rows)| (format!("blk.{layer}.{name}.weight"), cols, rows)));
        }
        all.push(("output_norm.weight".into(), d, 1));
        if !self.tied {
            all.push(("output.weight".into(), d, VOCABULARY));
        }
        all
    }

    /// The tokenizer is the demo's, with as many tokens more as Llama 3 has.
    fn metadata(&self, name: &str) -> Result<Metadata, Box<dyn Error>> {
        let demo = quipu_runtime::open("demo")?;
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", Value::String("llama".into()));
        metadata.set("general.name", Value::String(format!("random {name}")));
        let numbers = [
            ("block_count", self.layers),
            ("context_length", 131_072),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", KV_HEADS),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.head_dim),
            ("vocab_size", VOCABULARY),
        ];
        for (key, number) in numbers {
            metadata.set(format!("llama.{key}"), Value::U32(number.try_into()?));
        }
        metadata.set("llama.rope.freq_base", Value::F32(500_000.0));
        metadata.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        for (key, value) in demo.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
            let value = match (key, value) {
                ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))) => {
                    let more = (tokens.len()..VOCABULARY).map(|i| format!("<|unused_{i}|>"));
                    Value::Array(Array::String(tokens.iter().map(str::to_string).chain(more).collect()))
                }
                ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))) => {
                    const UNUSED: i32 = 5;
                    let mut types = types.clone();
                    types.resize(VOCABULARY, UNUSED);
                    Value::Array(Array::I32(types))
                }
                _ => value.clone(),
            };
            metadata.set(key, value);
        }
        Ok(metadata)
    }
}

/// Columns and rows of the miniature's matrices: a whole number of blocks of every type.
const MINIATURE: [usize; 2] = [256, 64];

/// The miniature: the same tensors, but small, in the types of a file of type `ty`.
fn miniature(size: &Size, metadata: &Metadata, ty: TypeRule) -> Result<GgufFile, Box<dyn Error>> {
    let plain = |(name, _, rows)| {
        let shape = if rows == 1 { vec![MINIATURE[0]] } else { MINIATURE.to_vec() };
        TensorInfo::new(name, Encoding::Plain(TensorType::F32), shape)
    };
    let tensors: Vec<_> = size.tensors().into_iter().map(plain).collect();
    let mut writer = GgufWriter::new(Vec::new(), metadata, &tensors)?;
    let mut random = Random::new(1);
    for tensor in &tensors {
        let weight = |w: f32| if tensor.rows() == 1 { 1.0 } else { 0.02 * w };
        let weights = random.normals(tensor.rows() * tensor.cols());
        writer.write_tensor_part(&weights.iter().flat_map(|&w| weight(w).to_le_bytes()).collect::<Vec<_>>())?;
    }
    let source = GgufFile::from_bytes("miniature", writer.complete()?.0)?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("miniature.gguf");
    write_gguf(&source, &ConvertOptions::new(ty), &path, &AtomicBool::new(false), &|_| {})?;
    Ok(GgufFile::from_bytes("miniature", std::fs::read(&path)?)?)
}

/// Writes a model of size `size` and type `ty` to `out`.
pub fn write(name: &str, ty: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let size = size(name).ok_or_else(|| format!("there is no model of size {name}: give 1b, 3b or 8b"))?;
    let mix = Mix::from_name(ty).map(TypeRule::Mix);
    let rule = mix.or_else(|| TensorType::from_name(ty).map(TypeRule::To));
    let rule = rule.ok_or_else(|| format!("{ty} is no type of weights"))?;
    let metadata = size.metadata(name)?;
    let small = miniature(&size, &metadata, rule)?;

    let mut metadata = metadata;
    for key in ["general.file_type", "general.quantization_version"] {
        if let Some(value) = small.metadata().get(key) {
            metadata.set(key, value.clone());
        }
    }
    let mut sources = Vec::new();
    let mut tensors = Vec::new();
    for (name, cols, rows) in size.tensors() {
        let index = small.find(&name).ok_or_else(|| format!("the miniature has no {name}"))?;
        let shape = if rows == 1 { vec![cols] } else { vec![cols, rows] };
        tensors.push(TensorInfo::new(name, small.tensors()[index].encoding, shape));
        sources.push(index);
    }
    let mut writer = GgufWriter::create(out, None, &metadata, &tensors)?;
    for (tensor, index) in tensors.iter().zip(sources) {
        let bytes = small.data(index);
        let mut left = tensor.byte_len().ok_or("a tensor without a size")?;
        while left > 0 {
            let part = left.min(bytes.len());
            writer.write_tensor_part(&bytes[..part])?;
            left -= part;
        }
    }
    writer.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Llama 3.2 1B has 1,235,814,400 parameters; Q4_K_M is a mix, with Q6_K for the head and for some layers.
    #[test]
    fn a_model_of_one_billion_has_the_shape_and_the_types_of_the_real_one() {
        let size = size("1b").unwrap();
        assert_eq!(size.tensors().iter().map(|(_, cols, rows)| cols * rows).sum::<usize>(), 1_235_814_400);
        let metadata = size.metadata("1b").unwrap();
        let small = miniature(&size, &metadata, TypeRule::Mix(Mix::Q4_K_M)).unwrap();
        let ty = |name: &str| small.tensors()[small.find(name).unwrap()].ty();
        assert_eq!((ty("token_embd.weight"), ty("blk.0.attn_q.weight")), (TensorType::Q6_K, TensorType::Q4_K));
        assert_eq!((ty("blk.0.ffn_down.weight"), ty("blk.2.ffn_down.weight")), (TensorType::Q6_K, TensorType::Q4_K));
        quipu_runtime::config::Config::from_metadata(&metadata).unwrap();
    }
}
