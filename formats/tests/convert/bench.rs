//! A place for conversions: sources of random tensors, and what is made of them.

pub use std::path::{Path, PathBuf};
pub use std::sync::atomic::{AtomicBool, Ordering};
pub use std::sync::{Arc, Mutex};

pub use quipu_formats::convert::rounded::Rounded;
pub use quipu_formats::convert::type_choices::{MatrixTypes, TypeChoices};
pub use quipu_formats::convert::{
    Check, ConvertError, ConvertOptions, Mix, Rounding, Summary, TensorRule, TypeRule, Warning, write_gguf,
};
pub use quipu_formats::gguf::{GgufFile, GgufWriter, Metadata, Value, WriteError};
pub use quipu_formats::imatrix::{Imatrix, ImatrixError};
pub use quipu_formats::output::{Inputs, OutputError};
pub use quipu_formats::source::{Encoding, Source, TensorInfo};
pub use quipu_quant::TensorType::{self, *};
pub use quipu_quant::blocks::{dequantize, f16_scales, has_plain_rule, quantize};
pub use quipu_quant::pack::{PackedLayout, pack};
pub use quipu_quant::search;
pub use quipu_test_random::Random;

/// A directory with a source in it, and room for what is made of that.
pub struct Bench {
    pub dir: tempfile::TempDir,
}

/// Weights between −0.5 and 0.5.
pub fn weights(seed: usize, n: usize) -> Vec<f32> {
    Random::new(seed as u64).numbers(n).iter().map(|x| 0.5 * x).collect()
}

/// Weights of any type that can be made; random blocks with sane scales of one that can't.
pub fn bytes_of(seed: usize, ty: TensorType, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n / ty.block_len() * ty.block_bytes()];
    if quantize(ty, &weights(seed, n), &mut bytes).is_err() {
        bytes = Random::new(seed as u64).bytes(bytes.len());
        for block in bytes.chunks_exact_mut(ty.block_bytes()) {
            // The f16 scales: 2^-6 or so.
            f16_scales(ty).iter().for_each(|&at| block[at..at + 2].copy_from_slice(&[0x55, 0x24]));
            if ty == MXFP4 {
                block[0] = 121;
            }
        }
    }
    bytes
}

pub fn values(ty: TensorType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / ty.block_bytes() * ty.block_len()];
    dequantize(ty, bytes, &mut values).unwrap();
    values
}

pub fn info(name: &str, ty: TensorType, shape: &[usize]) -> TensorInfo {
    TensorInfo::new(name, Encoding::Plain(ty), shape)
}

impl Bench {
    pub fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn source_of(&self, tensors: &[(TensorInfo, Vec<u8>)]) -> GgufFile {
        let mut metadata = Metadata::default();
        metadata.set("general.architecture", Value::String("llama".into()));
        metadata.set("general.alignment", Value::U32(64));
        let infos: Vec<TensorInfo> = tensors.iter().map(|t| t.0.clone()).collect();
        let path = self.path("source.gguf");
        let mut writer = GgufWriter::create(&path, None, &metadata, &infos).unwrap();
        tensors.iter().for_each(|(_, bytes)| writer.write_tensor_part(bytes).unwrap());
        writer.finish().unwrap();
        GgufFile::open(path).unwrap()
    }

    pub fn source(&self, tensors: &[TensorInfo]) -> GgufFile {
        let with_bytes = tensors.iter().enumerate().map(|(seed, t)| {
            let bytes = bytes_of(seed, t.ty(), t.shape.iter().product());
            (t.clone(), bytes)
        });
        self.source_of(&with_bytes.collect::<Vec<_>>())
    }

    pub fn convert(&self, source: &dyn Source, types: TypeRule, packed: bool, name: &str) -> (GgufFile, Summary) {
        self.convert_with(source, &ConvertOptions::new(types).packed(packed), name)
    }

    pub fn convert_with(&self, source: &dyn Source, options: &ConvertOptions, name: &str) -> (GgufFile, Summary) {
        let path = self.path(name);
        let summary = write_gguf(source, options, &path, &AtomicBool::new(false), &|_| {}).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), summary.bytes);
        (GgufFile::open(path).unwrap(), summary)
    }

    pub fn fail(&self, source: &dyn Source, types: TypeRule, out: &Path) -> ConvertError {
        self.fail_with(source, &ConvertOptions::new(types), out)
    }

    pub fn fail_with(&self, source: &dyn Source, options: &ConvertOptions, out: &Path) -> ConvertError {
        write_gguf(source, options, out, &AtomicBool::new(false), &|_| {}).unwrap_err()
    }
}

pub fn types(file: &GgufFile) -> Vec<(&str, TensorType)> {
    file.tensors().iter().map(|t| (t.name.as_str(), t.ty())).collect()
}

pub fn data<'a>(file: &'a GgufFile, name: &str) -> &'a [u8] {
    file.data(file.find(name).unwrap())
}

/// A matrix of every type, of several chunks and of fewer rows than a group; vectors beside them.
pub fn all_types() -> Vec<TensorInfo> {
    let mut tensors = vec![info("output_norm.weight", F32, &[77]), info("token_embd.weight", F16, &[64, 100])];
    for (layer, ty) in TensorType::ALL.into_iter().enumerate() {
        tensors.push(info(&format!("blk.{layer}.ffn_down.weight"), ty, &[512, 1003]));
        tensors.push(info(&format!("blk.{layer}.attn_q.weight"), ty, &[256, 5]));
        tensors.push(info(&format!("blk.{layer}.attn_q.bias"), F32, &[33]));
    }
    tensors.push(info("blk.0.attn_k.weight", F16, &[7, 3]));
    tensors
}

/// The tensors of a Llama of `layers` layers, small.
pub fn llama(layers: usize, cols: usize) -> Vec<TensorInfo> {
    llama_of_groups(layers, cols, 1)
}

/// The same with `queries` queries to a key.
pub fn llama_of_groups(layers: usize, cols: usize, queries: usize) -> Vec<TensorInfo> {
    let mut tensors = vec![info("token_embd.weight", F16, &[cols, 2])];
    for layer in 0..layers {
        for part in ["attn_q", "attn_v", "attn_output", "ffn_gate", "ffn_down"] {
            let rows = if part == "attn_q" { 2 * queries } else { 2 };
            tensors.push(info(&format!("blk.{layer}.{part}.weight"), F16, &[cols, rows]));
        }
    }
    tensors
}
