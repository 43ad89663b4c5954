//! A model that thinks: weights, KV cache, threads, tokenizer, sampler, engine.
//!
//! Start with [`engine`]: it loads a model and reads tokens. [`model`] is the forward pass, one file from top to
//! bottom; [`calibration`] runs it with one layer in memory at a time.
//!
//! - [`mod@open`]: what a user names, as a source: a GGUF, a packed file, a Hugging Face directory, or `demo`.
//! - [`config`]: the shape of a model; `weights`: its matrices in the kernels' layout; `rope`: its angles.
//! - [`cancel`]: how work is stopped before it is done.
//! - [`kv`]: the paged KV cache; [`pool`]: the threads of the forward pass.
//! - [`host`]: what the system says about the machine: cores, caches, memory.
//! - [`tokenizer`], [`chat`], [`sampler`]: text to tokens, conversations to text, logits to tokens; [`softmax`]: logits
//!   to probabilities. [`generate`]: the loop that writes.
//!
//! Number formats are `quipu-quant`'s matter, files `quipu-formats`', arithmetic `quipu-kernels`'. `unsafe` stands in
//! `pool` only.
#![deny(unsafe_code)]

pub mod calibration;
pub mod cancel;
pub mod chat;
pub mod config;
pub mod engine;
pub mod generate;
pub mod host;
pub mod kv;
pub mod model;
pub mod open;
#[allow(unsafe_code)]
pub mod pool;
mod product;
mod rope;
pub mod sampler;
pub mod softmax;
pub mod tokenizer;
mod weights;

pub use cancel::Cancel;
pub use engine::{Engine, EngineError, LoadError, LoadOptions};
pub use kv::{KvType, Sequence};
pub use model::BatchToken;
pub use open::{OpenError, open};
pub use quipu_kernels::Isa;
pub use weights::{Progress, Residence, WeightsError};
