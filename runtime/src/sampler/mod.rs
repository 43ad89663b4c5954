//! From logits to a token: penalties, truncation, temperature, a seeded draw. And where a text stops.
//!
//! The steps and their order are those of llama.cpp's default chain: logit bias → no n-gram twice → penalties → DRY →
//! top-nσ → top-k → typical → top-p → min-p → XTC → temperature → draw; from the penalties on the order can be chosen.
//! A step that is off is not there: it costs nothing and takes no random number. The result is the same on every
//! machine: candidates are ordered by (logit descending, id ascending), sums run in a fixed order in f64, `exp`, `log`
//! and `pow` are `libm`'s pure-Rust ones, and the generator is xoshiro256++.
//!
//! A step is a file that implements `Step` (`step.rs`), its options with their ranges (`options.rs`), a name
//! (`order.rs`) and a line in `chain.rs`.
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

mod breakers;
mod candidates;
mod chain;
mod draw;
mod dry;
mod error;
mod logit_bias;
mod min_p;
mod mirostat;
mod no_repeat_ngram;
mod options;
mod order;
mod penalties;
mod random;
mod step;
mod stop;
mod temperature;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical;
mod xtc;

pub use crate::softmax::log_probability;
pub use candidates::top_log_probabilities;
pub use chain::{Sampler, SamplerState};
pub use error::SamplerError;
pub use options::{DryOptions, MirostatOptions, SamplerOptions};
pub use order::SamplerStep;
pub use random::Xoshiro256PlusPlus;
pub use stop::StopMatcher;
