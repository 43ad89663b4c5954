//! What a model's files say of it, whether or not it is loaded.

use quipu_formats::source::Source;
use quipu_runtime::OpenError;
use quipu_runtime::config::{Config, ConfigError};

/// What a model's files say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The file or directory that it comes from.
    pub path: String,
    /// The context that it was trained with.
    pub trained_context: usize,
    /// Elements of a hidden state.
    pub hidden: usize,
    /// Tokens that there are.
    pub vocabulary: usize,
    /// Weights.
    pub parameters: u64,
    /// Bytes of the weights in the file.
    pub bytes: u64,
    /// Whether they can be used where the file is mapped.
    pub packed: bool,
    /// What GGUF calls its architecture.
    pub architecture: String,
    /// What most of its weights are quantised to.
    pub quantisation: String,
    /// Its chat template.
    pub template: Option<String>,
}

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// The model can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is none that runs here.
    #[error("{path}: {error}")]
    Config {
        /// The file.
        path: String,
        /// What is wrong.
        error: ConfigError,
    },
}

impl Card {
    /// Opens the model called `name` ([`quipu_runtime::open()`]) and reads what is there besides weights.
    ///
    /// # Errors
    /// [`CardError`].
    pub fn open(name: &str) -> Result<Card, CardError> {
        let source = quipu_runtime::open(name)?;
        let config = Config::from_metadata(source.metadata());
        let config = config.map_err(|error| CardError::Config { path: source.path().display().to_string(), error })?;
        Ok(Card::of(&*source, &config))
    }

    /// Of an open model, whose sizes are `config`.
    pub fn of(source: &dyn Source, config: &Config) -> Card {
        let (tensors, metadata) = (source.tensors(), source.metadata());
        let tokens = metadata.strings_opt("tokenizer.ggml.tokens").ok().flatten();
        Card {
            path: source.path().display().to_string(),
            trained_context: config.context,
            hidden: config.hidden,
            vocabulary: tokens.map_or(0, |tokens| tokens.len()),
            parameters: tensors.iter().map(|tensor| (tensor.rows() * tensor.cols()) as u64).sum(),
            bytes: tensors.iter().filter_map(|tensor| tensor.byte_len()).sum::<usize>() as u64,
            packed: tensors.iter().any(|tensor| tensor.encoding.is_packed()),
            architecture: config.family.architecture.to_string(),
            quantisation: main_type(source),
            template: metadata.str_opt("tokenizer.chat_template").ok().flatten().map(String::from),
        }
    }
}

/// The type that most of the weights have.
fn main_type(source: &dyn Source) -> String {
    let mut weights = std::collections::BTreeMap::new();
    for tensor in source.tensors() {
        *weights.entry(tensor.encoding.name()).or_insert(0) += tensor.rows() * tensor.cols();
    }
    weights.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_string()).unwrap_or_default()
}
