//! Why a model could not be loaded.

use quipu_kernels::Isa;

use crate::model::WeightsError;
use crate::tokenizer::TokenizerError;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The weights or the configuration.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer's metadata.
    #[error("{path}: {error}")]
    Tokenizer {
        /// The model file.
        path: std::path::PathBuf,
        /// What is wrong.
        error: TokenizerError,
    },
    /// The vocabulary and the embedding matrix disagree.
    #[error("{path}: the tokenizer has {tokens} tokens, but the embedding only {rows} rows")]
    Vocabulary {
        /// The model file.
        path: std::path::PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the matrix.
        rows: usize,
    },
    /// This CPU lacks the instruction set.
    #[error("this CPU cannot run `{isa}` kernels; it has {available}")]
    Isa {
        /// What was asked for.
        isa: Isa,
        /// The names of those that it has.
        available: String,
    },
    /// More threads than the process may use.
    #[error("{wanted} threads were asked for, but only {allowed} can run at once here; more would slow the model down")]
    Threads {
        /// What was asked for.
        wanted: usize,
        /// The limit from affinity and quota.
        allowed: usize,
    },
    /// The system refused to start a thread.
    #[error("cannot start a worker thread: {0}")]
    Spawn(#[from] std::io::Error),
    /// More positions than the model has embeddings of.
    #[error("a context of {wanted} positions was asked for, but the model has learned only {most}")]
    Positions {
        /// What was asked for.
        wanted: usize,
        /// The model's.
        most: usize,
    },
    /// A number that must not be zero.
    #[error("{what} must be at least 1")]
    Zero {
        /// Which number.
        what: &'static str,
    },
}

impl LoadError {
    /// There are no kernels for `isa` here.
    pub(crate) fn isa(isa: Isa) -> LoadError {
        let available: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        LoadError::Isa { isa, available: available.join(", ") }
    }
}
