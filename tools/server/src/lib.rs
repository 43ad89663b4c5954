//! Serves models over HTTP, in the dialects that clients speak already: OpenAI's, Anthropic's, ollama's, llama.cpp's.
//!
//! The way of a request: a connection ([`server`]) → who may ask (`http::guard`) → which path ([`routes`]) → a dialect
//! ([`openai`], [`anthropic`], [`ollama`], [`llama_cpp`]) reads the body and makes requests of it → the thread that
//! owns the model ([`engine`]) → the dialect writes what comes back, whole or piece by piece ([`answer`], [`stream`]).
//! A dialect knows nothing of HTTP, and HTTP nothing of a dialect; the engine's thread knows neither.
//!
//! - [`options`]: how a server behaves, and every limit. [`keys`]: API keys. [`error`]: what clients are told.
//! - [`shape`]: what an answer is to be: JSON, a schema, a grammar. [`thinking`]: how long a model may think before it.
//! - [`fields`]: how bodies are read: null is absent, unknown is ignored, wrong is refused by name.
//! - `page`: the web page, whose files lie in `src/page`.
//! - [`conversation`]: what a model is asked for in a chat; [`demand`]: which calls it has to make; [`said`]: its
//!   answer in parts: text, thoughts, calls of tools.
//! - [`mcp`]: tools that the server runs itself, in the middle of an answer.
//! - [`moderation`]: what Llama Guard says of what was said; before and behind all other models, if that is wished.
//! - [`models`]: several of them, loaded when they are asked for. [`model`], [`card`], [`context`]: what requests may
//!   look at. [`counters`]: what a model has done.
//!
//! ```no_run
//! use quipu_runtime::generate::Scheduler;
//! use quipu_runtime::{Engine, LoadOptions};
//! use quipu_server::model::Model;
//! use quipu_server::models::library::{Library, Loaded};
//! use quipu_server::models::offer::Offer;
//! use quipu_server::options::{Address, ServerOptions};
//! use quipu_server::server::Server;
//!
//! let server = Server::bind(ServerOptions::new(Address::Tcp([127, 0, 0, 1].into(), 8080)))?;
//! let models = ["small", "large"].map(|name| Offer::new(vec![name.into()], format!("{name}.gguf")));
//! server.run(Library::new(models, |offer| {
//!     let engine = Engine::load(quipu_runtime::open(&offer.model)?, &LoadOptions::default(), &|_, _| {})?;
//!     let model = Model::of(&engine, offer.names.clone());
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Loaded { model, scheduler: Scheduler::new(engine) })
//! }))?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
#![forbid(unsafe_code)]

pub mod answer;
pub mod anthropic;
pub mod card;
pub mod context;
pub mod conversation;
pub mod counters;
pub mod demand;
pub mod engine;
pub mod error;
pub mod fields;
mod fill;
mod http;
pub mod keys;
pub mod llama_cpp;
pub mod lora;
pub mod mcp;
pub mod model;
pub mod models;
pub mod moderation;
pub mod ollama;
pub mod openai;
pub mod options;
mod page;
mod random;
pub mod routes;
pub mod said;
mod serve;
pub mod server;
pub mod shape;
pub mod stream;
pub mod thinking;
