//! Measures models and machines, and chooses types by what it measured: the library under the program's commands.
//!
//! - [`quantize`]: a model with smaller weights, rounded by what the inputs of its matrices are (calibration), with
//!   types by a rule or chosen for a size. Start here.
//! - [`imatrix`](fn@imatrix): the inputs of the matrices on a text, to be kept in a file (importance matrix).
//! - [`perplexity`](fn@perplexity) and [`kl_divergence`]: how well a model predicts a text, and how far it is from
//!   another one; [`compare`](fn@compare): several files of one model beside each other.
//! - [`bench`](fn@bench): how fast a model runs, beside what the machine can do at best; [`machine_limits`]: the latter
//!   alone; [`estimate`](fn@estimate): the speeds that follow from it for a model that is not loaded. Below them:
//!   [`roofline`], which measures the machine, and [`cost`], what a model asks of it.
//!
//! Functions that run long take a [`Monitor`], which hears how far they are and may stop them. Results are plain
//! structs; as JSON (by serde) they are what the program prints with `--json`. `quipu-runtime` runs the models,
//! `quipu-formats` writes the files.
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

pub use bench::{
    Bench, BenchOptions, BenchResult, BenchRun, Guesses, GuessesResult, Limits, Rate, SequencesResult, bench,
};
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
