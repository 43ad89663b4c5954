//! Calibration: the inputs of a model's matrices on a text, on what the model writes itself, or on tokens drawn at
//! random.

use std::collections::HashSet;
use std::sync::Arc;

use quipu_formats::families::names::TensorName;
use quipu_formats::imatrix::Imatrix;
use quipu_formats::source::Source;
use quipu_formats::threads;
use quipu_quant::search::WINDOW;
use quipu_runtime::calibration::calibration_pass;
use quipu_runtime::config::Config;
use quipu_runtime::host::memory;
use quipu_runtime::model::{BatchToken, Input, Rows};
use quipu_runtime::sampler::{Sampler, SamplerOptions, Xoshiro256PlusPlus};
use quipu_runtime::tokenizer::{TokenKind, Tokenizer};
use quipu_runtime::{Engine, Isa, LoadOptions};

use crate::error::MeasureError;
use crate::monitor::{Event, Monitor};
use crate::text::begin_with_bos;

/// Tokens of a chunk of a calibration text.
const CHUNK: usize = 512;

/// How many texts the model writes side by side, and the tokens of each, if its context holds so many. More tokens gain
/// hardly anything, longer texts nothing (`docs/quantisation.md`).
const OWN_TEXTS: usize = 32;
const OWN_TOKENS: usize = 128;

/// How these texts are sampled. The temperature is above 1, so that they reach what other people's texts reach, too (1
/// and 2 were measured as well). Only the likeliest tokens take part: sorting a whole vocabulary takes longer than
/// running a small model.
const OWN_TEMPERATURE: f32 = 1.5;
const OWN_TOP_K: usize = 1000;

/// How many texts of tokens drawn at random there are, and the tokens of each: enough for most of what own text gains,
/// in a small part of its time.
const RANDOM_TEXTS: usize = 4;
const RANDOM_TOKENS: usize = 128;

/// How [`imatrix`] reads a text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImatrixOptions {
    /// Tokens of a chunk; at least 1. The engine's context must have room for them.
    pub context: usize,
    /// How many chunks of the text are read at most.
    pub chunks: Option<usize>,
    /// Where the text came from, as the importance matrix's file says it (`imatrix.datasets`).
    pub datasets: Vec<String>,
}

impl Default for ImatrixOptions {
    fn default() -> ImatrixOptions {
        ImatrixOptions { context: CHUNK, chunks: None, datasets: Vec::new() }
    }
}

/// The inputs of a model's matrices, and the texts that they come from.
pub(crate) struct Calibrated {
    pub(crate) imatrix: Imatrix,
    /// Tokens, text by text.
    pub(crate) texts: Vec<Vec<u32>>,
}

/// Measures the inputs of the model's matrices while it reads `text`: for each matrix the sums of their squares, and
/// the sums of their products within windows of 256 columns, by which [`quantize`](crate::quantize) lets the next
/// weights make good the error of one.
///
/// # Errors
/// When the text has no whole chunk ([`MeasureError::ShortText`]), when the engine can't read a chunk, or when the sums
/// are too large ([`MeasureError::Overflow`]).
///
/// # Examples
/// ```
/// use quipu_measure::{ImatrixOptions, Monitor, imatrix};
/// use quipu_runtime::{Engine, LoadOptions, open};
///
/// let mut engine = Engine::load(open("demo")?, &LoadOptions::default(), &|_, _| {})?;
/// let mut options = ImatrixOptions::default();
/// options.context = 8;
/// let text = "Once upon a time there was a king who had three sons.";
/// let found = imatrix(&mut engine, text, &options, &Monitor::silent())?;
/// // Every chunk's tokens went through each matrix.
/// let seen = found.find("blk.0.attn_q.weight").expect("every matrix is there");
/// assert_eq!(seen.count, (found.chunks * found.chunk_size) as f32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn imatrix(
    engine: &mut Engine,
    text: &str,
    options: &ImatrixOptions,
    monitor: &Monitor<'_>,
) -> Result<Imatrix, MeasureError> {
    let mut imatrix = on_text(engine, text, options.context, options.chunks, monitor)?.imatrix;
    imatrix.datasets.clone_from(&options.datasets);
    match imatrix.overflow() {
        None => Ok(imatrix),
        Some(tensor) => Err(MeasureError::Overflow { path: engine.source().path().into(), tensor: tensor.into() }),
    }
}

/// The inputs of the model's matrices while it reads `text` in chunks of `len` tokens, at most `most` of them.
fn on_text(
    engine: &mut Engine,
    text: &str,
    len: usize,
    most: Option<usize>,
    monitor: &Monitor<'_>,
) -> Result<Calibrated, MeasureError> {
    threads::start()?;
    if len == 0 {
        return Err(MeasureError::ShortChunk { len, least: 1 });
    }
    let tokenizer = engine.tokenizer().clone();
    let mut tokens = tokenizer.encode(text, true, false);
    if tokens.len() < len {
        return Err(MeasureError::ShortText { found: tokens.len(), chunk: len, needed: len });
    }
    let count = (tokens.len() / len).min(most.unwrap_or(usize::MAX));
    if count == 0 {
        return Err(MeasureError::NoChunks);
    }
    tokens.truncate(count * len);
    begin_with_bos(&tokenizer, &mut tokens, len);
    check_memory(engine.source())?;
    let (mut imatrix, tied) = (Imatrix::new(Vec::new(), count as u32, len as u32), engine.source().is_tied());
    monitor.step(Event::Calibrating { done: 0, total: count })?;
    for (i, chunk) in tokens.chunks_exact(len).enumerate() {
        let mut sequence = engine.new_sequence();
        let mut observer = |input, rows: Rows| add(&mut imatrix, tied, input, rows);
        engine.observe(&mut sequence, chunk, &mut observer)?;
        monitor.step(Event::Calibrating { done: i + 1, total: count })?;
    }
    Ok(Calibrated { imatrix, texts: tokens.chunks_exact(len).map(<[u32]>::to_vec).collect() })
}

/// The inputs of the model's matrices while it writes texts, each beginning with another token. The same on every
/// machine.
fn on_own_text(engine: &mut Engine, monitor: &Monitor<'_>) -> Result<Calibrated, MeasureError> {
    let tokenizer = engine.tokenizer().clone();
    let ids = 0..engine.vocabulary() as u32;
    let text: Vec<bool> = ids.map(|id| tokenizer.kind(id) == TokenKind::Normal).collect();
    let begin: Vec<u32> = (0..).zip(&text).filter(|(_, text)| **text).map(|(id, _)| id).collect();
    if begin.is_empty() {
        return Err(MeasureError::NoText);
    }
    // The first tokens are spread over the vocabulary.
    let mut next: Vec<u32> = (0..OWN_TEXTS).map(|i| begin[(2 * i + 1) * begin.len() / (2 * OWN_TEXTS)]).collect();
    let mut sampler =
        Sampler::new(SamplerOptions::default().temperature(OWN_TEMPERATURE).top_k(OWN_TOP_K).top_p(1.0).min_p(0.0))?;
    check_memory(engine.source())?;
    let length = OWN_TOKENS.min(engine.context_length());
    let (mut imatrix, tied) = (Imatrix::new(Vec::new(), OWN_TEXTS as u32, length as u32), engine.source().is_tied());
    let mut sequences: Vec<_> = (0..OWN_TEXTS).map(|_| engine.new_sequence()).collect();
    let mut sequences: Vec<_> = sequences.iter_mut().collect();
    let mut bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let (mut possible, mut texts) = (Vec::new(), vec![Vec::new(); OWN_TEXTS]);
    monitor.step(Event::Calibrating { done: 0, total: length })?;
    for step in 0..length {
        let mark = bos.take();
        let token = |(sequence, &token)| BatchToken { token: mark.unwrap_or(token), sequence, logits: true };
        let batch: Vec<_> = next.iter().enumerate().map(token).collect();
        texts.iter_mut().zip(&batch).for_each(|(text, read)| text.push(read.token));
        let mut observer = |input, rows: Rows| add(&mut imatrix, tied, input, rows);
        let mut failure = None;
        let mut draw = |i: usize, logits: &[f32]| {
            if mark.is_some() {
                return;
            }
            // Only tokens that are text: none that ends the text, none that the model was never trained on.
            possible.clear();
            possible.extend(logits.iter().zip(&text).map(|(&l, &text)| if text { l } else { f32::NEG_INFINITY }));
            match sampler.sample(&possible) {
                Ok(token) => next[i] = token,
                Err(error) => failure = Some(error),
            }
        };
        engine.forward_observed(&batch, &mut sequences, &mut draw, &mut observer)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        monitor.step(Event::Calibrating { done: step + 1, total: length })?;
    }
    Ok(Calibrated { imatrix, texts })
}

/// The inputs of the model's matrices on `text`, or without one on what the model writes itself.
pub(crate) fn calibrate(
    source: &Arc<dyn Source>,
    text: Option<&str>,
    monitor: &Monitor<'_>,
) -> Result<Calibrated, MeasureError> {
    let limit = Config::from_metadata(source.metadata()).map_or(CHUNK, |config| config.context);
    let options = LoadOptions::default().context(Some(limit.min(CHUNK)));
    let loaded = Engine::load_shared(source.clone(), &options, &monitor.loading());
    let mut engine = loaded.map_err(|error| MeasureError::DoesNotRun { task: "a calibration by text", error })?;
    match text {
        Some(text) => on_text(&mut engine, text, limit.min(CHUNK), None, monitor),
        None => on_own_text(&mut engine, monitor),
    }
}

/// The inputs of the model's matrices on tokens drawn at random, with one layer in memory at a time. The same on every
/// machine.
pub(crate) fn on_random_tokens(source: &Arc<dyn Source>, monitor: &Monitor<'_>) -> Result<Imatrix, MeasureError> {
    let path = || source.path().to_path_buf();
    let config = Config::from_metadata(source.metadata());
    let config = config.map_err(|error| MeasureError::Config { path: path(), error })?;
    let tokenizer = Tokenizer::from_metadata(source.metadata());
    let tokenizer = tokenizer.map_err(|error| MeasureError::Tokenizer { path: path(), error })?;
    let length = RANDOM_TOKENS.min(config.context);
    let texts = random_texts(&tokenizer, length)?;
    check_memory(&**source)?;
    let (mut imatrix, tied) = (Imatrix::new(Vec::new(), RANDOM_TEXTS as u32, length as u32), source.is_tied());
    let mut observer = |input, rows: Rows| add(&mut imatrix, tied, input, rows);
    let mut progress = |done, total| monitor.report(Event::Calibrating { done, total });
    progress(0, config.layers);
    let passed = calibration_pass(source.clone(), &texts, Isa::best(), monitor.cancel(), &mut observer, &mut progress);
    // A pass that was cancelled fails in another way; what the caller should see is `Cancelled`.
    monitor.check()?;
    passed?;
    Ok(imatrix)
}

/// Texts of `length` tokens, drawn with equal chances among the tokens that are text.
fn random_texts(tokenizer: &Tokenizer, length: usize) -> Result<Vec<Vec<u32>>, MeasureError> {
    let ids = 0..tokenizer.vocab_size() as u32;
    let text: Vec<u32> = ids.filter(|&id| tokenizer.kind(id) == TokenKind::Normal).collect();
    if text.is_empty() {
        return Err(MeasureError::NoText);
    }
    let mut random = Xoshiro256PlusPlus::new(0);
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let mut token = |i| match bos {
        Some(bos) if i == 0 => bos,
        _ => text[(random.uniform() * text.len() as f64) as usize],
    };
    Ok((0..RANDOM_TEXTS).map(|_| (0..length).map(&mut token).collect()).collect())
}

/// Whether there is memory for what is found out of the inputs of all matrices: about 1 KB for each column of an input,
/// of which a file can claim any number with few bytes of weights.
fn check_memory(source: &dyn Source) -> Result<(), MeasureError> {
    let (tied, mut seen, mut needed) = (source.is_tied(), HashSet::new(), 0u64);
    for tensor in source.tensors() {
        let input = TensorName::parse(&tensor.name).and_then(TensorName::input);
        if input.is_some_and(|input| seen.insert(input.first(tied))) {
            // Of experts, the sums of squares alone.
            let numbers = if tensor.shape.len() == 3 { tensor.shape[2] } else { WINDOW + 1 };
            needed = needed.saturating_add((tensor.cols() as u64).saturating_mul(4 * numbers as u64));
        }
    }
    Ok(memory::check(needed, || "what a calibration finds out".into())?)
}

/// Adds the inputs of a product to what is known of its matrices.
fn add(imatrix: &mut Imatrix, tied: bool, input: Input, rows: Rows) {
    let name = input.first(tied).to_string();
    let entry = match rows.expert {
        Some(expert) => imatrix.expert_entry(&name, expert, rows.cols),
        None => imatrix.entry(&name, rows.cols),
    };
    entry.add(rows.x, rows.count, rows.stride);
}
