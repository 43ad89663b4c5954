//! From logits to a token: penalties, truncation, temperature, a seeded draw. And where a text stops.
//!
//! The steps and their order are those of llama.cpp's default chain: logit bias → penalties → top-k → top-p → min-p →
//! temperature → draw. The result is the same on every machine: candidates are ordered by (logit descending, id
//! ascending), sums run in a fixed order in f64, `exp` and `log` are `libm`'s pure-Rust ones, and the generator is
//! xoshiro256++.
//!
//! A step is a file that implements `Step` (`step.rs`) and a line in the list of `chain.rs`, whose order is that of the
//! steps.
//!
//! ```
//! use quipu_runtime::sampler::{Sampler, SamplerOptions};
//!
//! let logits = [0.5, 3.0, -1.0, 2.5];
//! assert_eq!(Sampler::new(SamplerOptions::greedy())?.sample(&logits)?, 1);
//!
//! // The same seed draws the same tokens on every machine, and so does a copy of a sampler in mid-text.
//! let mut sampler = Sampler::new(SamplerOptions::default())?;
//! sampler.sample(&logits)?;
//! let mut copy = sampler.clone();
//! assert_eq!(copy.sample(&logits)?, sampler.sample(&logits)?);
//! # Ok::<(), quipu_runtime::sampler::SamplerError>(())
//! ```

mod candidates;
mod chain;
mod draw;
mod error;
mod logit_bias;
mod min_p;
mod options;
mod penalties;
mod random;
mod step;
mod stop;
mod top_k;
mod top_p;

pub use crate::softmax::log_probability;
pub use candidates::top_log_probabilities;
pub use chain::Sampler;
pub use error::SamplerError;
pub use options::SamplerOptions;
pub use random::Xoshiro256PlusPlus;
pub use stop::StopMatcher;
