//! A model that says what a script says: a real one, in a file, whose every token has one favourite successor.
//!
//! So it can be tested what becomes of an answer that no small model would give on demand: a call of a tool, with just
//! the mistake that is to be tried. A script says what is written after a control token, which the chat template puts
//! at the end of a prompt; the template may put another one there when, say, a tool has answered.
//!
//! ```
//! use quipu_test_script::Script;
//!
//! let mut script = Script::new("{{ messages[0].content }}<|answer|>");
//! script.says("<|answer|>", &[&["Hello"], &[", world", " there"], &["!"]]);
//! let file = std::env::temp_dir().join(format!("quipu-script-{}.gguf", std::process::id()));
//! script.write(&file)?;
//! # std::fs::remove_file(file)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! How: a token's embedding is a vector of its own, attention and feed-forward add nothing, and the head has the
//! favourite's logit where that vector is.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use quipu_formats::gguf::{Array, GgufWriter, Metadata, Value};
use quipu_formats::source::{Encoding, TensorInfo};
use quipu_quant::TensorType;
use serde_json::Value as Json;

/// The length of a head; a model's width is a multiple of it.
const HEAD: usize = 32;

/// Kinds of tokens, as files have them.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// The token that ends an answer.
const END: u32 = 2;

/// What a model says.
#[derive(Clone, Debug)]
pub struct Script {
    template: String,
    /// The tokens that a text may have.
    pub context: u32,
    tokens: Vec<(String, i32)>,
    /// What comes after a token, the favourite first.
    next: BTreeMap<u32, Vec<u32>>,
}

impl Script {
    /// A model that says nothing as yet, with this chat template.
    pub fn new(template: &str) -> Script {
        let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
        let bytes = (0..=255).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
        let tokens = special.into_iter().map(|(text, kind)| (text.to_string(), kind)).chain(bytes).collect();
        Script { template: template.into(), context: 4096, tokens, next: BTreeMap::new() }
    }

    /// A script as JSON: `{"template": …, "context": …, "says": [[control token, [[favourite, second, …], …]], …]}`.
    ///
    /// # Panics
    /// When it is none.
    pub fn from_json(json: &Json) -> Script {
        let mut script = Script::new(json["template"].as_str().expect("a template"));
        script.context = json["context"].as_u64().map_or(script.context, |n| n as u32);
        for said in json["says"].as_array().expect("a list") {
            let pieces = said[1].as_array().expect("a list of pieces").iter();
            let pieces: Vec<Vec<&str>> = pieces
                .map(|piece| piece.as_array().expect("a list").iter().map(|t| t.as_str().expect("a text")).collect())
                .collect();
            let pieces: Vec<&[&str]> = pieces.iter().map(Vec::as_slice).collect();
            script.says(said[0].as_str().expect("a control token"), &pieces);
        }
        script
    }

    /// After the control token `begin` these pieces come, each with others that the model likes less, and the end. What
    /// comes after one piece comes after the others in its place.
    ///
    /// # Panics
    /// When something else comes after one of them already.
    pub fn says(&mut self, begin: &str, pieces: &[&[&str]]) {
        let mut before = vec![self.token(begin, CONTROL)];
        for piece in pieces {
            let now: Vec<u32> = piece.iter().map(|text| self.token(text, USER_DEFINED)).collect();
            before.iter().for_each(|&token| self.follows(token, now.clone()));
            before = now;
        }
        before.iter().for_each(|&token| self.follows(token, vec![END]));
    }

    fn token(&mut self, text: &str, kind: i32) -> u32 {
        let known = self.tokens.iter().position(|(known, _)| known == text);
        let place = known.unwrap_or_else(|| {
            self.tokens.push((text.into(), kind));
            self.tokens.len() - 1
        });
        place as u32
    }

    fn follows(&mut self, token: u32, next: Vec<u32>) {
        let other = self.next.insert(token, next.clone());
        let text = &self.tokens[token as usize].0;
        assert!(other.is_none_or(|other| other == next), "{text:?} stands in two places of the script");
    }

    /// Writes the model as a GGUF.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let width = self.tokens.len().next_multiple_of(HEAD);
        let tensors = tensors(width, self.tokens.len());
        let mut writer = GgufWriter::new(BufWriter::new(File::create(path)?), &self.metadata(width), &tensors)
            .map_err(io::Error::other)?;
        for tensor in &tensors {
            let mut values = vec![0f32; tensor.shape.iter().product()];
            match tensor.name.as_str() {
                "token_embd.weight" => (0..self.tokens.len()).for_each(|token| values[token * width + token] = 1.0),
                "output.weight" => {
                    for (&token, next) in &self.next {
                        for (rank, &next) in next.iter().enumerate() {
                            // A norm makes √width of the one.
                            let logit = 60.0 - 15.0 * rank as f32;
                            values[next as usize * width + token as usize] = logit / (width as f32).sqrt();
                        }
                    }
                }
                name if name.contains("norm") => values.fill(1.0),
                _ => {}
            }
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            writer.write_tensor_part(&bytes).map_err(io::Error::other)?;
        }
        writer.complete().map_err(io::Error::other).map(drop)
    }

    fn metadata(&self, width: usize) -> Metadata {
        let mut metadata = Metadata::default();
        let mut set = |name: &str, value| metadata.set(name, value);
        set("general.architecture", Value::String("llama".into()));
        for (name, value) in [
            ("block_count", 1),
            ("context_length", self.context),
            ("embedding_length", width as u32),
            ("feed_forward_length", HEAD as u32),
            ("attention.head_count", (width / HEAD) as u32),
            ("attention.head_count_kv", 1),
            ("rope.dimension_count", HEAD as u32),
        ] {
            set(&format!("llama.{name}"), Value::U32(value));
        }
        set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-6));
        set("tokenizer.ggml.model", Value::String("llama".into()));
        let texts = self.tokens.iter().map(|(text, _)| text.as_str()).collect();
        set("tokenizer.ggml.tokens", Value::Array(Array::String(texts)));
        let kinds = self.tokens.iter().map(|&(_, kind)| kind).collect();
        set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds)));
        set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; self.tokens.len()])));
        set("tokenizer.ggml.bos_token_id", Value::U32(1));
        set("tokenizer.ggml.eos_token_id", Value::U32(END));
        set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
        set("tokenizer.chat_template", Value::String(self.template.clone()));
        metadata
    }
}

fn tensors(width: usize, vocabulary: usize) -> Vec<TensorInfo> {
    let tensor = |name: &str, shape: &[usize]| TensorInfo::new(name, Encoding::Plain(TensorType::F32), shape);
    let mut tensors = vec![tensor("token_embd.weight", &[width, vocabulary])];
    for (name, inputs, outputs) in [
        ("attn_q", width, width),
        ("attn_k", width, HEAD),
        ("attn_v", width, HEAD),
        ("attn_output", width, width),
        ("ffn_gate", width, HEAD),
        ("ffn_up", width, HEAD),
        ("ffn_down", HEAD, width),
    ] {
        tensors.push(tensor(&format!("blk.0.{name}.weight"), &[inputs, outputs]));
    }
    for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
        tensors.push(tensor(&format!("{name}.weight"), &[width]));
    }
    tensors.push(tensor("output.weight", &[width, vocabulary]));
    tensors
}
