//! Hugging Face directories made for a test.

use std::path::Path;

use quipu_formats::hf::{HfDirectory, HfError};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A safetensors file with `(name, dtype, shape, bytes)`.
pub fn safetensors(tensors: &[(String, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut header = Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, data.len()]}));
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(data);
    file
}

/// A Llama in the making: config.json, tensors of bf16 whose values tell where they are, a tokenizer.
pub struct Llama {
    pub config: Map<String, Value>,
    pub tensors: Vec<(String, Vec<usize>)>,
    /// Further tensors, of any type.
    pub raw: Vec<(String, &'static str, Vec<usize>, Vec<u8>)>,
    pub dtype: &'static str,
    pub tokenizer: Value,
    pub tokenizer_config: Value,
    /// Further files.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// hidden 8, ffn 12, 2 layers, 4 heads of 4, 2 key/value heads, vocabulary 20.
pub const HIDDEN: usize = 8;
pub const FFN: usize = 12;
pub const LAYERS: usize = 2;
pub const HEADS: usize = 4;
pub const KV_HEADS: usize = 2;
pub const HEAD_DIM: usize = 4;
pub const VOCAB: usize = 20;

impl Llama {
    /// Explicit `head_dim` (4 heads of 4 are not hidden 8), GQA, untied, no biases.
    pub fn new() -> Llama {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCAB, "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
            "bos_token_id": 16, "eos_token_id": 17
        });
        let Value::Object(config) = config else { unreachable!() };
        let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
        let mut tensors = vec![
            ("model.embed_tokens.weight".into(), vec![VOCAB, HIDDEN]),
            ("model.norm.weight".into(), vec![HIDDEN]),
            ("lm_head.weight".into(), vec![VOCAB, HIDDEN]),
        ];
        for n in 0..LAYERS {
            for (name, shape) in [
                ("input_layernorm", vec![HIDDEN]),
                ("post_attention_layernorm", vec![HIDDEN]),
                ("self_attn.q_proj", vec![q, HIDDEN]),
                ("self_attn.k_proj", vec![kv, HIDDEN]),
                ("self_attn.v_proj", vec![kv, HIDDEN]),
                ("self_attn.o_proj", vec![HIDDEN, q]),
                ("mlp.gate_proj", vec![FFN, HIDDEN]),
                ("mlp.up_proj", vec![FFN, HIDDEN]),
                ("mlp.down_proj", vec![HIDDEN, FFN]),
            ] {
                tensors.push((format!("model.layers.{n}.{name}.weight"), shape));
            }
        }
        Llama {
            config,
            tensors,
            raw: vec![],
            dtype: "BF16",
            tokenizer: byte_level(),
            tokenizer_config: json!({"bos_token": "<|begin|>", "eos_token": {"content": "<|end|>"}}),
            files: vec![],
        }
    }

    pub fn set(mut self, key: &str, value: Value) -> Llama {
        self.config.insert(key.into(), value);
        self
    }

    pub fn without(mut self, key: &str) -> Llama {
        self.config.remove(key);
        self
    }

    pub fn tensor(mut self, name: &str, shape: &[usize]) -> Llama {
        self.tensors.retain(|(n, _)| n != name);
        self.tensors.push((name.into(), shape.into()));
        self
    }

    pub fn drop_tensor(mut self, name: &str) -> Llama {
        self.tensors.retain(|(n, _)| n != name);
        self
    }

    pub fn file(mut self, name: &'static str, content: impl Into<Vec<u8>>) -> Llama {
        self.files.push((name, content.into()));
        self
    }

    pub fn tokenizer(mut self, edit: impl FnOnce(&mut Value)) -> Llama {
        edit(&mut self.tokenizer);
        self
    }

    pub fn tokenizer_config(mut self, value: Value) -> Llama {
        self.tokenizer_config = value;
        self
    }

    /// The tensors with bytes.
    pub fn payload(&self) -> Vec<(String, &'static str, Vec<usize>, Vec<u8>)> {
        let bytes = |name: &str, shape: &[usize]| -> Vec<u8> {
            (0..shape.iter().product()).flat_map(|i| encode(self.dtype, value(name, i))).collect()
        };
        let tensors = self.tensors.iter().map(|(n, shape)| (n.clone(), self.dtype, shape.clone(), bytes(n, shape)));
        tensors.chain(self.raw.iter().cloned()).collect()
    }

    /// Writes everything but the weights.
    pub fn write_small_files(&self, dir: &Path) {
        let write = |name: &str, bytes: &[u8]| std::fs::write(dir.join(name), bytes).unwrap();
        write("config.json", Value::Object(self.config.clone()).to_string().as_bytes());
        if !self.tokenizer.is_null() {
            write("tokenizer.json", self.tokenizer.to_string().as_bytes());
        }
        write("tokenizer_config.json", self.tokenizer_config.to_string().as_bytes());
        for (name, bytes) in &self.files {
            std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
            write(name, bytes);
        }
    }

    /// Writes the directory with one file of weights.
    pub fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        self.write_small_files(dir.path());
        std::fs::write(dir.path().join("model.safetensors"), safetensors(&self.payload())).unwrap();
        dir
    }

    pub fn open(&self) -> Result<(HfDirectory, TempDir), HfError> {
        let dir = self.write();
        HfDirectory::open(dir.path()).map(|hf| (hf, dir))
    }

    /// The error of opening; panics when there is none.
    pub fn error(&self) -> HfError {
        self.open().map(|_| ()).expect_err("this directory should be refused")
    }
}

/// The value of element `i` of a tensor: exact in every float type, different for neighbours and for tensors.
pub fn value(name: &str, i: usize) -> f32 {
    let salt: usize = name.bytes().map(usize::from).sum();
    ((i * 7 + salt * 3) % 251) as f32 - 125.0
}

pub fn encode(dtype: &str, v: f32) -> Vec<u8> {
    match dtype {
        "F32" => v.to_le_bytes().to_vec(),
        "F64" => f64::from(v).to_le_bytes().to_vec(),
        "F16" => half::f16::from_f32(v).to_le_bytes().to_vec(),
        "BF16" => half::bf16::from_f32(v).to_le_bytes().to_vec(),
        _ => vec![v as i8 as u8],
    }
}

/// A byte-level tokenizer of 18 tokens with Llama 3's pattern; ids 18 and 19 of the model have none.
pub fn byte_level() -> Value {
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let mut vocab = Map::new();
    for (id, token) in
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "Ġ", "ab", "abc", "Ġa"].iter().enumerate()
    {
        vocab.insert(token.to_string(), id.into());
    }
    json!({
        "version": "1.0",
        "added_tokens": [
            {"id": 16, "content": "<|begin|>", "special": true},
            {"id": 17, "content": "<|end|>", "special": true}
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
        ]},
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        ]},
        "model": {"type": "BPE", "ignore_merges": true, "vocab": vocab, "merges": ["a b", ["ab", "c"], "Ġ a"]}
    })
}

/// A SentencePiece-style tokenizer of 13 tokens in Llama 2's manner.
pub fn sentencepiece_style() -> Value {
    let tokens = ["<unk>", "<s>", "</s>", "<0x00>", "<0x41>", "▁", "a", "b", "ab", "▁a", "▁ab", "zz", "z"];
    let vocab: Map<String, Value> = tokens.iter().enumerate().map(|(id, t)| (t.to_string(), id.into())).collect();
    json!({
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": true},
            {"id": 1, "content": "<s>", "special": true},
            {"id": 2, "content": "</s>", "special": true},
            {"id": 13, "content": "<|user|>", "special": false},
            {"id": 14, "content": "▁▁", "special": false}
        ],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
        ]},
        "model": {
            "type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": vocab,
            "merges": ["▁ a", "a b", "▁a b", "▁ ab"]
        }
    })
}
