//! What can be said of a model before its matrices are read.

use std::sync::Arc;

use quipu_formats::families::names::Role;
use quipu_formats::source::Source;

use super::error::LoadError;
use crate::config::Config;
use crate::model::{WeightsError, check};
use crate::tokenizer::Tokenizer;

/// Reads the tokenizer and checks that the embedding has a row for each of its tokens.
pub(super) fn read_tokenizer(source: &dyn Source) -> Result<Tokenizer, LoadError> {
    let path = || source.path().to_path_buf();
    let tokenizer = Tokenizer::from_metadata(source.metadata());
    let tokenizer = tokenizer.map_err(|error| LoadError::Tokenizer { path: path(), error })?;
    let tokens = tokenizer.vocab_size();
    match source.find(&Role::TokenEmbedding.weight().to_string()).map(|index| source.tensors()[index].rows()) {
        Some(rows) if tokens > rows => Err(LoadError::Vocabulary { path: path(), tokens, rows }),
        // Without an embedding, loading the weights fails and names it.
        _ => Ok(tokenizer),
    }
}

/// The most positions of a text: as many as the model was made for, unless `wanted` says otherwise.
pub(super) fn context_limit(config: &Config, wanted: Option<usize>) -> Result<usize, LoadError> {
    let context = wanted.unwrap_or(config.context);
    match config.most_positions().filter(|most| *most < context) {
        Some(most) => Err(LoadError::Positions { wanted: context, most }),
        None => Ok(context),
    }
}

/// Whether a model can be loaded, as far as that shows before its matrices are read: its sizes, the names and shapes of
/// its tensors, its vectors, its tokenizer.
///
/// # Errors
/// Those of [`Engine::load`](crate::Engine::load).
///
/// # Examples
/// ```
/// quipu_runtime::check_model(quipu_runtime::open("demo")?.into())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_model(source: Arc<dyn Source>) -> Result<(), LoadError> {
    let config = Config::from_metadata(source.metadata());
    let config = config.map_err(|error| WeightsError::Config { path: source.path().to_path_buf(), error })?;
    read_tokenizer(&*source)?;
    Ok(check(source, &config)?)
}
