//! Runs quantised Llama models on CPUs: weights, KV cache, threads, tokenizer, sampler, engine.
//!
//! ```
//! use quipu_runtime::generate::{GenerateOptions, Request, Scheduler, prompt_tokens};
//! use quipu_runtime::{Engine, LoadOptions};
//!
//! # #[cfg(feature = "demo")] {
//! // A GGUF file, a packed file, a Hugging Face directory, or the model inside this library.
//! let source = quipu_runtime::open("demo")?;
//! let engine = Engine::load(source, &LoadOptions::default(), &|_, _| {})?;
//! let prompt = prompt_tokens(engine.tokenizer(), "Once upon a time", true);
//! let request = Request::new(prompt, GenerateOptions::default().max_tokens(20));
//! let (text, end) = Scheduler::new(engine).complete(request)?;
//! println!("{text}");
//! assert!(end.prompt_tokens > 3 && !text.is_empty());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/` has more: streaming, a conversation, many prompts at once, logits, a thread that serves others. To read
//! the code, start with [`engine`]: it loads a model and reads tokens. [`model`] is the forward pass;
//! [`calibration`] runs it with one layer in memory at a time. [`generate`] continues texts with it, many at once.
//!
//! - [`mod@open`]: opens a model by its name: a GGUF, a packed file, a Hugging Face directory, or `demo`.
//! - [`config`]: the sizes of a model; [`adapters`]: what is added to its matrices for some texts.
//! - [`cancel`]: how work is stopped before it is done.
//! - [`kv`]: the paged KV cache; [`pool`]: the threads of the forward pass.
//! - [`host`]: what the system says about the machine: cores, caches, memory.
//! - [`tuning`]: kernels that tune themselves to the machine.
//! - [`embedding`]: a text as one vector; [`session`]: a text in a file, to go on with later.
//! - [`constraint`]: what a text may be, token by token.
//! - [`tokenizer`], [`chat`], [`sampler`]: text to tokens, conversations to text, logits to tokens; [`softmax`]: logits
//!   to probabilities.
//!
//! Number formats are in `quipu-quant`, files in `quipu-formats`, arithmetic in `quipu-kernels`. In this crate only
//! `pool` and what asks the system (`host`) have `unsafe` code.
#![deny(unsafe_code)]

pub mod adapters;
pub mod calibration;
pub mod cancel;
pub mod chat;
pub mod config;
pub mod constraint;
pub mod embedding;
pub mod engine;
pub mod generate;
pub mod host;
pub mod kv;
pub mod model;
pub mod open;
#[allow(unsafe_code)]
pub mod pool;
pub mod rope_scaling;
pub mod sampler;
pub mod session;
mod setters;
pub mod softmax;
pub mod tokenizer;
pub mod tuning;

pub use adapters::{AdapterId, Adapters};
pub use cancel::Cancel;
pub use engine::{Engine, EngineError, LoadError, LoadOptions, check_model};
pub use kv::{KvType, Sequence};
pub use model::{AdapterLoadError, BatchToken, Progress, Residence, WeightsError};
pub use open::{OpenError, open};
pub use quipu_kernels::{Isa, Tuning};
pub use tuning::TuningChoice;
