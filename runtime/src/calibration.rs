//! The calibration pass: what the matrices of a model meet, with one layer in memory at a time.
//!
//! A forward pass over some texts needs each layer once. So it is read, run and dropped; of the embeddings only the
//! rows of the tokens are read, and there are no logits. Memory is that of the largest layer in the file's types and of
//! the activations.

use std::path::PathBuf;
use std::sync::Arc;

use quipu_formats::source::Source;
use quipu_kernels::{Isa, padded_rows};

use crate::cancel::Cancel;
use crate::config::Config;
use crate::engine::{EngineError, LoadError};
use crate::host::cores::Cores;
use crate::kv::{KvLayout, KvType, Sequence};
use crate::model::{BatchToken, Buffers, Input, Local, Observer, Rows, Team};
use crate::pool::Pool;
use crate::rope::Rope;
use crate::weights::{self, WeightsError};

/// Why a model can't be calibrated.
#[derive(Debug, thiserror::Error)]
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

/// Reads `texts` side by side and shows `observer` the inputs of all matrices. After each layer `progress` hears how
/// many are done and how many there are. When it is cancelled, it ends with [`WeightsError::Cancelled`].
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
    let path = || source.path().to_path_buf();
    let kernels = isa.kernels().ok_or_else(|| LoadError::isa(isa))?;
    let config =
        Config::from_metadata(source.metadata()).map_err(|error| WeightsError::Config { path: path(), error })?;
    let c = &config;
    let tokens = |error| CalibrationError::Tokens { path: path(), error };
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    if longest > c.context {
        return Err(tokens(EngineError::ContextFull { used: 0, more: longest, context: c.context }));
    }
    let embeddings = source.find("token_embd.weight").filter(|&i| source.tensors()[i].cols() == c.hidden);
    let missing = || WeightsError::Missing { path: path(), name: "token_embd.weight".into() };
    let embeddings = embeddings.ok_or_else(missing)?;
    let vocabulary = source.tensors()[embeddings].rows();

    let mut batch = Vec::new();
    for (sequence, text) in texts.iter().enumerate() {
        batch.extend(text.iter().map(|&token| BatchToken { token, sequence, logits: false }));
    }
    if batch.is_empty() {
        return Err(tokens(EngineError::Empty));
    }
    if let Some(&BatchToken { token, .. }) = batch.iter().find(|t| t.token as usize >= vocabulary) {
        return Err(tokens(EngineError::Token { token, vocabulary }));
    }

    let cores = Cores::here();
    let mut pool = Pool::new(cores.default_threads(), &cores).map_err(LoadError::Spawn)?;
    let (norm, rope_factors) = weights::load_vectors(source.clone(), c, &mut pool)?;
    // What a layer says of its shape is checked before there is room for what it makes, and there are no more layers
    // than tensors.
    if c.layers > source.tensors().len() {
        let name = format!("blk.{}.attn_norm.weight", c.layers - 1);
        return Err(WeightsError::Missing { path: path(), name }.into());
    }
    let mut first = Some(weights::load_layer(source.clone(), c, &mut pool, cancel, 0)?);
    let layout = Arc::new(KvLayout::new(c));
    let mut sequences: Vec<Sequence> = texts.iter().map(|_| Sequence::new(layout.clone(), KvType::default())).collect();
    let mut sequences: Vec<&mut Sequence> = sequences.iter_mut().collect();
    let mut locals: Vec<Local> = (0..pool.threads()).map(|_| Local::new(c)).collect();
    let mut buffers = Buffers::default();
    let d = padded_rows(c.hidden);
    let x = buffers.begin(&Rope::new(c, rope_factors.as_deref()), d, &batch, &mut sequences);
    for (x, token) in x.chunks_exact_mut(d).zip(&batch) {
        let row = token.token as usize;
        x[..c.hidden].copy_from_slice(&source.values(embeddings, row..row + 1));
        x[c.hidden..].fill(0.0);
    }
    for i in 0..c.layers {
        let layer = match first.take() {
            Some(layer) => layer,
            None => weights::load_layer(source.clone(), c, &mut pool, cancel, i)?,
        };
        let mut team = Team { kernels, pool: &mut pool, locals: &mut locals };
        team.layer(c, (i, &layer), &batch, &mut sequences, &mut buffers, observer);
        progress(i + 1, c.layers);
    }
    let mut team = Team { kernels, pool: &mut pool, locals: &mut locals };
    let x = buffers.head_input(&mut team, c, &norm, batch.len());
    observer(Input::Head, Rows { x, count: batch.len(), cols: c.hidden, stride: d });
    Ok(())
}
