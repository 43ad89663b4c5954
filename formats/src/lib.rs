//! Files: GGUF, safetensors, Hugging Face directories, and the way from one to another.
//!
//! - [`source`]: what all kinds of model files have in common: metadata, a tensor directory, rows of bytes. Start here.
//! - [`families`]: what kinds of models there are: their tensors, their keys, how their layers compute.
//! - [`gguf`]: the container, read (v2, v3; mapped, checked) and written (v3).
//! - [`safetensors`]: one file of tensors, checked.
//! - [`torch`]: a PyTorch checkpoint, checked; nothing of it is run.
//! - [`hf`]: a Hugging Face directory seen as a GGUF: names, metadata, tokenizer and row order translated.
//! - [`convert`]: any source written as a GGUF, plain or packed, of any type.
//! - [`bundle`]: a program with a model in it, in one file.
//! - [`imatrix`]: statistics of the activations that a model's matrices multiply, for better rounding.
//! - [`lora`]: adapters, and models with adapters added.
//! - [`map`]: the one place where a file is mapped into memory.
//! - [`threads`]: the threads that converting takes.
//! - [`output`]: files that appear when they are complete, and never in the place of what is being read;
//!   [`mapped`]: the files that are mapped at the moment; [`shared_text`]: what of both a signal handler can read.
//! - [`stores`]: models that ollama or Hugging Face's programs have fetched, by name and in place.
//! - [`oddity`]: what is odd about a model's files and changes nothing that it computes.
//!
//! The tensors of a file, whatever it is:
//!
//! ```
//! use quipu_formats::gguf::GgufFile;
//! use quipu_formats::source::Source;
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tales.gguf");
//! let file = GgufFile::open(path)?;
//! println!("{:?}", file.metadata().get("general.architecture"));
//! for (index, tensor) in file.tensors().iter().enumerate() {
//!     let row = file.values(index, 0..1);
//!     println!("{} {} {:?}: {:?} …", tensor.name, tensor.encoding.name(), tensor.shape, row.first());
//! }
//! # assert!(file.find("token_embd.weight").is_some());
//! # Ok::<(), quipu_formats::gguf::GgufError>(())
//! ```
//!
//! What a tensor's bytes mean is `quipu-quant`'s matter; what the model does with them is the runtime's.
#![deny(unsafe_code)]

pub mod bundle;
pub mod convert;
pub mod families;
pub mod gguf;
pub mod hf;
pub mod imatrix;
mod legacy_imatrix;
#[allow(unsafe_code)]
pub mod lock;
pub mod lora;
pub mod map;
pub mod mapped;
pub mod oddity;
pub mod output;
pub mod safetensors;
pub mod shared_text;
pub mod source;
pub mod stores;
pub mod threads;
pub mod torch;
