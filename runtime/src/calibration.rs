//! The calibration pass: the inputs of a model's matrices, with one layer in memory at a time.
//!
//! A forward pass over some texts needs each layer once. So it is read, run and dropped; of the embeddings only the
//! rows of the tokens are read, and there are no logits. Memory is that of the largest layer in the file's types, of
//! the activations, and of the KV cache, which keeps the keys and values of all layers.

use std::path::PathBuf;
use std::sync::Arc;

use quipu_formats::source::Source;
use quipu_kernels::Isa;

use crate::cancel::Cancel;
use crate::config::Config;
use crate::engine::{EngineError, LoadError};
use crate::host::cores::Cores;
use crate::host::memory;
use crate::kv::{KvLayout, KvType, Sequence};
use crate::model::{
    BatchToken, Model, NotFinite, Observer, StreamError, Streamed, WeightsError, activation_bytes, broken_weight,
};
use crate::pool::Pool;

/// Why a model can't be calibrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// It can't be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It can't read the tokens.
    #[error("{path}: {error}")]
    Tokens {
        /// The model file.
        path: PathBuf,
        /// What is wrong.
        error: EngineError,
    },
}

impl From<WeightsError> for CalibrationError {
    fn from(error: WeightsError) -> CalibrationError {
        CalibrationError::Load(error.into())
    }
}

/// Reads `texts` in one batch and shows `observer` the inputs of all matrices. After each layer `progress` is told how
/// many are done and how many there are. When cancelled, it ends with [`WeightsError::Cancelled`].
///
/// # Errors
/// See [`CalibrationError`].
pub fn calibration_pass(
    source: Arc<dyn Source>,
    texts: &[Vec<u32>],
    isa: Isa,
    cancel: &Cancel,
    observer: &mut Observer<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), CalibrationError> {
    let path = source.path().to_path_buf();
    let kernels = isa.kernels().ok_or_else(|| LoadError::isa(isa))?;
    let config = Config::from_metadata(source.metadata());
    let config = config.map_err(|error| WeightsError::Config { path: path.clone(), error })?;
    let refused = |error| CalibrationError::Tokens { path: path.clone(), error };
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    if longest > config.context {
        return Err(refused(EngineError::ContextFull { used: 0, more: longest, context: config.context }));
    }
    let text = |(sequence, text): (usize, &Vec<u32>)| {
        text.iter().map(move |&token| BatchToken { token, sequence, logits: true }).collect::<Vec<_>>()
    };
    let batch: Vec<BatchToken> = texts.iter().enumerate().flat_map(text).collect();
    if batch.is_empty() {
        return Err(refused(EngineError::Empty));
    }

    let cores = Cores::here();
    let mut pool = Pool::new(cores.default_threads(), &cores).map_err(LoadError::Spawn)?;
    let layout = Arc::new(KvLayout::new(&config));
    let weights = Streamed::new(source.clone(), config.clone(), &mut pool, cancel, progress)?;
    let vocabulary = weights.vocabulary();
    if let Some(&BatchToken { token, .. }) = batch.iter().find(|t| t.token as usize >= vocabulary) {
        return Err(refused(EngineError::Token { token, vocabulary }));
    }
    let mut sequences: Vec<Sequence> = texts.iter().map(|_| Sequence::new(layout.clone(), KvType::default())).collect();
    let pages = sequences.iter().zip(texts).map(|(sequence, text)| sequence.bytes_for(text.len()));
    let needed = pages.fold(activation_bytes(&config, batch.len()), u64::saturating_add);
    memory::check(needed, || format!("a batch of {} tokens", batch.len())).map_err(|error| refused(error.into()))?;
    let mut sequences: Vec<&mut Sequence> = sequences.iter_mut().collect();
    let context = config.context;
    let mut model = Model::new(config, weights, context, *kernels, pool);
    match model.forward(&batch, &mut sequences, None, Some(observer)) {
        Err(StreamError::Weights(error)) => return Err(error.into()),
        Err(StreamError::NotFinite(NotFinite { token, position, sequence })) => {
            let cause = broken_weight(&*source);
            return Err(refused(EngineError::NotFinite { token, position, sequence, cause }));
        }
        Ok(()) => {}
    }
    model.weights.finish();
    Ok(())
}
