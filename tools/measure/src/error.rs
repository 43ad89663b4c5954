//! What can go wrong.

use std::path::PathBuf;

use quipu_formats::convert::ConvertError;
use quipu_formats::lora::AdapterError;
use quipu_formats::threads::ThreadsError;
use quipu_runtime::calibration::CalibrationError;
use quipu_runtime::config::ConfigError;
use quipu_runtime::generate::{DraftModelError, GenerateError};
use quipu_runtime::host::memory::Shortage;
use quipu_runtime::sampler::SamplerError;
use quipu_runtime::tokenizer::TokenizerError;
use quipu_runtime::{AdapterLoadError, EngineError, Isa, LoadError, OpenError};

/// Why something could not be measured or chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// A model can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A model can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An adapter can't be read.
    #[error("cannot use the adapter: {0}")]
    Adapter(#[from] AdapterError),
    /// An adapter can't be loaded.
    #[error("cannot use the adapter: {0}")]
    LoadAdapter(#[from] AdapterLoadError),
    /// Something needs a model that runs here, and this one does not.
    #[error("{task} takes a model that runs here: {error}")]
    DoesNotRun {
        /// What needs it.
        task: &'static str,
        /// Why the model does not run.
        error: LoadError,
    },
    /// The model's metadata do not describe it.
    #[error("{path}: {error}")]
    Config {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        error: ConfigError,
    },
    /// The model's tokenizer can't be used.
    #[error("{path}: {error}")]
    Tokenizer {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        error: TokenizerError,
    },
    /// The model can't read the text.
    #[error("cannot read the text: {0}")]
    Read(#[from] EngineError),
    /// A text can't be written.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A model can't guess for another one.
    #[error(transparent)]
    Draft(#[from] DraftModelError),
    /// The calibration pass failed.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The model can't write a text to calibrate with.
    #[error("the model cannot write a text to calibrate with: {0}")]
    Write(#[from] SamplerError),
    /// No token of the vocabulary is text.
    #[error("the vocabulary has no text to calibrate with")]
    NoText,
    /// A chunk is too short to predict anything in its second half.
    #[error("chunks of {len} tokens are too short: they need at least {least}")]
    ShortChunk {
        /// Tokens of a chunk.
        len: usize,
        /// Tokens that it needs.
        least: usize,
    },
    /// The text is too short.
    #[error("the text has {found} tokens, but with chunks of {chunk} it needs at least {needed}")]
    ShortText {
        /// Tokens of the text.
        found: usize,
        /// Tokens of a chunk.
        chunk: usize,
        /// Tokens that are needed.
        needed: usize,
    },
    /// No chunk is to be read.
    #[error("there is nothing to read: no chunk of the text was asked for")]
    NoChunks,
    /// Nothing is to be measured: no runs, or no tokens.
    #[error("there is nothing to measure: {what} is 0")]
    Nothing {
        /// Which number.
        what: &'static str,
    },
    /// More positions than keys and values can be counted for.
    #[error("{more} tokens after a context of {depth} are more than any memory holds the keys and values of")]
    TooManyPositions {
        /// Tokens of context.
        depth: usize,
        /// Tokens after it.
        more: usize,
    },
    /// Weights and contexts do not fit into the memory that is available.
    #[error(
        "this takes {} of memory, {} of it for keys and values and {} for the tokens of a batch, and {} are available",
        gigabytes(*needed), gigabytes(*keys_and_values), gigabytes(*batch), gigabytes(*available)
    )]
    Memory {
        /// Bytes of all.
        needed: u64,
        /// Bytes of keys and values.
        keys_and_values: u64,
        /// Bytes of the activations of the largest batch.
        batch: u64,
        /// Bytes that are available.
        available: u64,
    },
    /// The weights keep their types, so that nothing is rounded.
    #[error("there is nothing to calibrate for: the weights keep their types")]
    NothingToCalibrate,
    /// The plain rule looks at nothing but the weights.
    #[error("the plain rule takes no calibration and chooses no types")]
    PlainRule,
    /// A model's logits are NaN or infinite.
    #[error("{path}: chunk {chunk}: the model's logits are not finite numbers")]
    NotFinite {
        /// The model file.
        path: PathBuf,
        /// The number of the chunk, from 1.
        chunk: usize,
    },
    /// The inputs of a matrix are numbers whose squares add up to more than f32 holds.
    #[error("{path}: the inputs of {tensor} are too large: the sum of their squares is infinite (a damaged file?)")]
    Overflow {
        /// The model file.
        path: PathBuf,
        /// The matrix.
        tensor: String,
    },
    /// Predictions over different vocabularies do not compare.
    #[error("{path}: its vocabulary is not that of {base}, so their predictions do not compare")]
    OtherVocabulary {
        /// A model file.
        path: PathBuf,
        /// The base.
        base: PathBuf,
    },
    /// The base's predictions can't be kept.
    #[error("cannot keep {gigabytes:.1} GB of the base's predictions in a temporary file: {error}")]
    Temporary {
        /// What they take.
        gigabytes: f64,
        /// What the system says.
        error: std::io::Error,
    },
    /// Even the smallest types are too large.
    #[error("{bits} bits per weight cannot be reached: with the smallest types the file has {least:.3}")]
    TooFewBits {
        /// What was asked for.
        bits: f64,
        /// What the file has at least.
        least: f64,
        /// Some matrices have types that were given, so that nothing is chosen for them.
        some_types_given: bool,
    },
    /// Even the largest types are small enough.
    #[error("{bits} bits per weight leave nothing to choose: with the largest types the file has {most:.3}")]
    TooManyBits {
        /// What was asked for.
        bits: f64,
        /// What the file has at most.
        most: f64,
        /// Some matrices have types that were given, so that nothing is chosen for them.
        some_types_given: bool,
    },
    /// The file can't be written.
    #[error(transparent)]
    Convert(ConvertError),
    /// The system gives no threads.
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    /// There is no memory for what is found out.
    #[error(transparent)]
    Shortage(#[from] Shortage),
    /// This CPU has no such instruction set.
    #[error("this CPU cannot run `{0}` kernels")]
    Isa(Isa),
    /// The system gives no thread or no memory.
    #[error("cannot measure this machine: {0}")]
    System(#[from] std::io::Error),
    /// Somebody stopped it.
    #[error("cancelled; nothing was written")]
    Cancelled,
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

impl From<ConvertError> for MeasureError {
    fn from(error: ConvertError) -> MeasureError {
        match error {
            ConvertError::Cancelled => MeasureError::Cancelled,
            other => MeasureError::Convert(other),
        }
    }
}
