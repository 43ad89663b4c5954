//! Texts written by a model: many at once, or one.
//!
//! A [`Request`] says which tokens to continue and how. The [`Scheduler`] owns the engine; it makes a [`Generation`] of
//! each request, forms batches out of all of them, and hands out [`Event`]s. A generation knows no engine: it says
//! which tokens it wants read and takes the logits after them. What it writes depends on nothing but its own request:
//! not on the others, the batches, or when it came.
//!
//! ```
//! use quipu_runtime::generate::{GenerateOptions, Request, Scheduler, prompt_tokens};
//! use quipu_runtime::{Engine, LoadOptions};
//!
//! # #[cfg(feature = "demo")] {
//! let engine = Engine::load(quipu_runtime::open("demo")?, &LoadOptions::default(), &|_, _| {})?;
//! let tokens = prompt_tokens(engine.tokenizer(), "Once upon a time", true);
//! let mut scheduler = Scheduler::new(engine);
//! let options = GenerateOptions::default().max_tokens(8);
//! let (text, end) = scheduler.complete(Request::new(tokens, options))?;
//! assert!(!text.is_empty() && end.decode.tokens <= 7);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bans;
mod error;
mod foresight;
mod generation;
mod infill;
mod options;
mod prompt;
mod request;
mod scheduler;
mod thoughts;
mod token;
mod writer;

pub use crate::kv::NearMiss;
pub use error::GenerateError;
pub use generation::{Checkpoint, Generation};
pub use infill::{InfillError, InfillNames, InfillOrder, InfillTokens};
pub use options::{GenerateOptions, StopReason};
pub use prompt::{one_bos, prompt_tokens};
pub use request::{Drafted, Event, Failed, Finished, Request, RequestId, Timing};
pub use scheduler::{Draft, DraftModelError, Scheduler, SchedulerOptions, Stats};
pub use token::Token;
