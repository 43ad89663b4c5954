//! How well a model predicts a text, and how far its predictions are from those of another one.

use quipu_runtime::Engine;
use serde::Serialize;

use crate::error::MeasureError;
use crate::monitor::{Event, Monitor};
use crate::statistics::{Divergence, Divergences, Mean, Place};
use crate::text::{Chunks, predict, same_vocabulary};

/// How a text is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PerplexityOptions {
    /// Tokens of a chunk; at least 4. The engine's context must have room for them.
    pub context: usize,
    /// How many chunks of the text are read at most.
    pub chunks: Option<usize>,
}

impl Default for PerplexityOptions {
    fn default() -> PerplexityOptions {
        PerplexityOptions { context: 512, chunks: None }
    }
}

/// How well a model predicts a text.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Perplexity {
    /// The perplexity: the exponential of `nll`.
    pub ppl: f64,
    /// Its standard error.
    pub error: f64,
    /// The mean negative log-likelihood of a token, in nats.
    pub nll: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Chunks that were read.
    pub chunks: usize,
    /// Tokens of a chunk.
    pub ctx: usize,
}

impl Perplexity {
    pub(crate) fn new(nll: &Mean, chunks: &Chunks, context: usize) -> Perplexity {
        let (ppl, error) = nll.perplexity();
        Perplexity { ppl, error, nll: nll.value(), tokens: nll.count, chunks: chunks.count(), ctx: context }
    }
}

/// How well a model predicts a text, and how far its predictions are from those of a base model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BasePerplexity {
    /// The model's perplexity.
    #[serde(flatten)]
    pub perplexity: Perplexity,
    /// The base's perplexity.
    pub base_ppl: f64,
    /// Its standard error.
    pub base_error: f64,
    /// How far the model is from the base.
    #[serde(flatten)]
    pub divergence: Divergence,
}

/// Measures how well the model predicts `text`, as llama.cpp's tool does.
///
/// The text is tokenised as a whole and cut into chunks, the first token of each replaced by the beginning-of-text
/// token if the model uses one. In each chunk the second half is predicted from all that precedes it in the chunk.
///
/// # Errors
/// When the text has fewer tokens than two chunks ([`MeasureError::ShortText`]), when the engine can't read a chunk, or
/// when its logits are not finite.
///
/// # Examples
/// ```
/// use quipu_measure::{Monitor, PerplexityOptions, perplexity};
/// use quipu_runtime::{Engine, LoadOptions, open};
///
/// let mut engine = Engine::load(open("demo")?, &LoadOptions::default(), &|_, _| {})?;
/// let mut options = PerplexityOptions::default();
/// options.context = 16;
/// let tale = "Once upon a time there was a king who had three sons, and the youngest was called Simpleton. ";
/// let found = perplexity(&mut engine, &tale.repeat(4), &options, &Monitor::silent())?;
/// assert!(found.ppl > 1.0 && found.ppl < 100.0 && found.chunks >= 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn perplexity(
    engine: &mut Engine,
    text: &str,
    options: &PerplexityOptions,
    monitor: &Monitor<'_>,
) -> Result<Perplexity, MeasureError> {
    let chunks = Chunks::new(engine.tokenizer(), text, options.context, options.chunks)?;
    let nll = read(engine, &chunks, monitor, |engine, chunk, nll| {
        predict(engine, chunk, nll, |_, _| ())?;
        Ok(None)
    })?;
    Ok(Perplexity::new(&nll, &chunks, options.context))
}

/// Measures as [`perplexity`] does, and besides how far the model's predictions are from those of `base`, usually the
/// same model before it was quantised.
///
/// # Errors
/// As for [`perplexity`], and when the models have different vocabularies.
///
/// # Examples
/// ```
/// use quipu_measure::{Monitor, PerplexityOptions, kl_divergence};
/// use quipu_runtime::{Engine, LoadOptions, open};
///
/// let load = || Engine::load(open("demo").expect("the demo model"), &LoadOptions::default(), &|_, _| {});
/// let (mut model, mut base) = (load()?, load()?);
/// let mut options = PerplexityOptions::default();
/// options.context = 16;
/// let text = "The fox went out on a chilly night, and he prayed for the moon to give him light. ".repeat(2);
/// let found = kl_divergence(&mut model, &mut base, &text, &options, &Monitor::silent())?;
/// // A model does not differ from itself.
/// assert_eq!((found.divergence.kl, found.divergence.same_top), (0.0, 1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kl_divergence(
    engine: &mut Engine,
    base: &mut Engine,
    text: &str,
    options: &PerplexityOptions,
    monitor: &Monitor<'_>,
) -> Result<BasePerplexity, MeasureError> {
    let same = engine.vocabulary() == base.vocabulary() && same_vocabulary(engine.tokenizer(), base.tokenizer());
    if !same {
        let path = |engine: &Engine| engine.source().path().to_path_buf();
        return Err(MeasureError::OtherVocabulary { path: path(engine), base: path(base) });
    }
    let chunks = Chunks::new(engine.tokenizer(), text, options.context, options.chunks)?;
    chunks.check_memory(base.vocabulary())?;
    let (mut base_nll, mut divergences, mut number) = (Mean::default(), Divergences::default(), 0);
    let nll = read(engine, &chunks, monitor, |engine, chunk, nll| {
        let expected = predict(base, chunk, &mut base_nll, |_, logits| logits.to_vec())?;
        number += 1;
        check_finite(base, &base_nll, number)?;
        let compare = |place: usize, logits: &[f32]| Place::new(&expected[place], logits);
        divergences.add(&predict(engine, chunk, nll, compare)?);
        Ok(Some(divergences.mean().value()))
    })?;
    let (base_ppl, base_error) = base_nll.perplexity();
    let perplexity = Perplexity::new(&nll, &chunks, options.context);
    Ok(BasePerplexity { perplexity, base_ppl, base_error, divergence: divergences.divergence() })
}

/// Calls `predict(engine, chunk, nll)` for each chunk. `predict` adds to `nll`, which is the result in the end, and
/// returns the mean divergence so far, if there is a base.
pub(crate) fn read(
    engine: &mut Engine,
    chunks: &Chunks,
    monitor: &Monitor<'_>,
    mut predict: impl FnMut(&mut Engine, &[u32], &mut Mean) -> Result<Option<f64>, MeasureError>,
) -> Result<Mean, MeasureError> {
    let (total, mut nll) = (chunks.count(), Mean::default());
    monitor.step(Event::Reading { done: 0, total, ppl: f64::NAN, kl: None })?;
    for (i, chunk) in chunks.iter().enumerate() {
        let kl = predict(engine, chunk, &mut nll)?;
        check_finite(engine, &nll, i + 1)?;
        monitor.step(Event::Reading { done: i + 1, total, ppl: nll.perplexity().0, kl })?;
    }
    Ok(nll)
}

/// An error when the log-likelihoods up to and with chunk `chunk`, counted from 1, are not finite.
fn check_finite(engine: &Engine, nll: &Mean, chunk: usize) -> Result<(), MeasureError> {
    if nll.value().is_finite() {
        return Ok(());
    }
    Err(MeasureError::NotFinite { path: engine.source().path().to_path_buf(), chunk })
}
