//! What measures models and machines, and what chooses by measurements: the library under the program's commands.
//!
//! - [`quantize`]: a model with smaller weights, rounded by what its matrices meet, with types by a rule or chosen for
//!   a size. Start here.
//! - [`imatrix`](fn@imatrix): what the matrices meet on a text, for a file of its own.
//! - [`perplexity`](fn@perplexity) and [`kl_divergence`]: how well a model predicts a text, and how far it is from
//!   another one; [`compare`](fn@compare): several files of one model beside each other.
//! - [`bench`](fn@bench): how fast a model runs beside what the machine can do; [`machine_limits`] and
//!   [`estimate`](fn@estimate): what that is, and what follows for a model that is not loaded. Below them:
//!   [`roofline`], which measures the machine, and [`cost`], what a model asks of it.
//!
//! Each function takes a [`Monitor`], which hears how far it is and may stop it. Results are plain structs; as JSON (by
//! serde) they are what the program prints with `--json`. How a model runs is `quipu-runtime`'s matter, how a file is
//! written `quipu-formats`'.
#![forbid(unsafe_code)]

mod bench;
mod calibration;
mod compare;
pub mod cost;
mod error;
mod estimate;
mod json;
mod model_file;
mod monitor;
mod perplexity;
mod quantize;
pub mod roofline;
mod speed;
mod statistics;
mod text;
mod types;

pub use bench::{Bench, BenchOptions, BenchResult, BenchRun, Limits, Rate, bench};
pub use calibration::{ImatrixOptions, imatrix};
pub use compare::{CompareOptions, Compared, Comparison, compare};
pub use error::MeasureError;
pub use estimate::{Estimate, MachineLimits, estimate, machine_limits};
pub use model_file::{ModelFile, TypeShare};
pub use monitor::{BenchStep, Event, Monitor};
pub use perplexity::{BasePerplexity, Perplexity, PerplexityOptions, kl_divergence, perplexity};
pub use quantize::{CalibrateOn, QuantizeOptions, Quantized, Types, quantize};
pub use speed::{Speed, SpeedOptions, Test};
pub use statistics::Divergence;
pub use types::ChosenTypes;
