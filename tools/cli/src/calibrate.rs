//! What a model's matrices meet: on a text, on what the model writes itself, or on tokens drawn at random.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use quipu_formats::imatrix::Imatrix;
use quipu_formats::source::Source;
use quipu_runtime::calibration::calibration_pass;
use quipu_runtime::config::Config;
use quipu_runtime::model::{BatchToken, Input, Rows};
use quipu_runtime::sampler::{Sampler, SamplerOptions, Xoshiro256PlusPlus};
use quipu_runtime::tokenizer::{TokenKind, Tokenizer};
use quipu_runtime::{Engine, Isa, LoadOptions};

use crate::{interrupt, model, talk};

/// Tokens of a piece of a calibration text.
pub const PIECE: usize = 512;

/// The model's own texts: so many, written side by side, each of so many tokens. More tokens gain hardly anything,
/// longer texts nothing (`docs/quantisation.md`).
const OWN_TEXTS: usize = 32;
const OWN_TOKENS: usize = 128;

/// How the texts are drawn. Hotter than the model is by itself, so that they lead to where other people's texts lead,
/// too (measured against 1 and 2). The likeliest tokens stand for all: to sort a whole vocabulary takes longer than to
/// run a small model.
const OWN_TEMPERATURE: f32 = 1.5;
const OWN_TOP_K: usize = 1000;

/// Texts of tokens drawn at random, and tokens of each: enough for most of what own text gains, in a small part of its
/// time.
const RANDOM_TEXTS: usize = 4;
const RANDOM_TOKENS: usize = 128;

/// Adds the inputs of a product to what is known of its matrices.
fn add(imatrix: &mut Imatrix, tied: bool, input: Input, rows: Rows) {
    let name = input.first(tied).to_string();
    imatrix.entry(&name, rows.cols).add(rows.x, rows.count, rows.stride);
}

/// The line that says how far it is, and the end when somebody wants it.
pub struct Steps<'a> {
    /// What is being done.
    pub what: &'a str,
    pub interrupt: &'a interrupt::Listening,
    pub started: Instant,
    /// Steps in all.
    pub count: usize,
}

/// What a model's matrices met, and on which texts.
pub struct Calibrated {
    pub imatrix: Imatrix,
    pub texts: Vec<Vec<u32>>,
}

impl Steps<'_> {
    /// After so many steps.
    pub fn done(&self, steps: usize) -> Result<()> {
        if self.interrupt.requested() {
            talk::note("cancelled; nothing was written");
            return Err(interrupt::Interrupted.into());
        }
        let left = self.started.elapsed().as_secs_f64() / steps as f64 * (self.count - steps) as f64;
        talk::note_part(&format!("\r{} [{steps}/{}] {left:.0} s left   ", self.what, self.count));
        if steps == self.count {
            talk::note("");
        }
        Ok(())
    }
}

/// What the model's matrices meet when it reads `text` in pieces of `n` tokens, `most` of them at most.
pub fn on_text(engine: &mut Engine, text: &str, n: usize, most: Option<usize>) -> Result<Calibrated> {
    let tokenizer = engine.tokenizer().clone();
    let mut tokens = tokenizer.encode(text, true, false);
    let pieces = (tokens.len() / n).min(most.unwrap_or(usize::MAX));
    ensure!(pieces > 0, "the text has {} tokens; at least one piece of {n} is needed", tokens.len());
    let (mut imatrix, tied) = (Imatrix::new(Vec::new(), pieces as u32, n as u32), engine.source().is_tied());
    let interrupt = interrupt::listen();
    let steps = Steps { what: "calibrating", interrupt: &interrupt, started: Instant::now(), count: pieces };
    for (i, piece) in tokens.chunks_exact_mut(n).take(pieces).enumerate() {
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
            piece[0] = bos;
        }
        let mut sequence = engine.new_sequence();
        let mut observer = |input, rows: Rows| add(&mut imatrix, tied, input, rows);
        engine.observe(&mut sequence, piece, &mut observer).context("cannot read the text")?;
        steps.done(i + 1)?;
    }
    tokens.truncate(pieces * n);
    Ok(Calibrated { imatrix, texts: tokens.chunks_exact(n).map(<[u32]>::to_vec).collect() })
}

/// What the model's matrices meet while it writes texts, each from another token on. The same on every machine.
pub fn on_own_text(engine: &mut Engine) -> Result<Calibrated> {
    let tokenizer = engine.tokenizer().clone();
    let ids = 0..engine.vocabulary() as u32;
    let text: Vec<bool> = ids.map(|id| tokenizer.kind(id) == TokenKind::Normal).collect();
    let begin: Vec<u32> = (0..).zip(&text).filter(|(_, text)| **text).map(|(id, _)| id).collect();
    ensure!(!begin.is_empty(), "the model's vocabulary has no text to calibrate with");
    // Spread over the vocabulary.
    let mut next: Vec<u32> = (0..OWN_TEXTS).map(|i| begin[(2 * i + 1) * begin.len() / (2 * OWN_TEXTS)]).collect();
    let mut sampler = Sampler::new(SamplerOptions {
        temperature: OWN_TEMPERATURE,
        top_k: OWN_TOP_K,
        top_p: 1.0,
        min_p: 0.0,
        ..SamplerOptions::default()
    })?;
    let (mut imatrix, tied) =
        (Imatrix::new(Vec::new(), OWN_TEXTS as u32, OWN_TOKENS as u32), engine.source().is_tied());
    let mut sequences: Vec<_> = (0..OWN_TEXTS).map(|_| engine.new_sequence()).collect();
    let mut sequences: Vec<_> = sequences.iter_mut().collect();
    let interrupt = interrupt::listen();
    let steps = Steps { what: "calibrating", interrupt: &interrupt, started: Instant::now(), count: OWN_TOKENS };
    let mut bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let (mut possible, mut texts) = (Vec::new(), vec![Vec::new(); OWN_TEXTS]);
    for step in 0..OWN_TOKENS {
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
            // Text alone: no end of the text, and nothing that the model was never trained on.
            possible.clear();
            possible.extend(logits.iter().zip(&text).map(|(&l, &text)| if text { l } else { f32::NEG_INFINITY }));
            match sampler.sample(&possible) {
                Ok(token) => next[i] = token,
                Err(error) => failure = Some(error),
            }
        };
        engine.forward_observed(&batch, &mut sequences, &mut draw, &mut observer)?;
        if let Some(error) = failure {
            return Err(error).context("the model cannot write a text to calibrate with");
        }
        steps.done(step + 1)?;
    }
    Ok(Calibrated { imatrix, texts })
}

/// What the model at `path` meets: on `text`, or without one on its own.
pub fn calibrate(path: &Path, text: Option<&str>) -> Result<Calibrated> {
    let source = model::open_path(path)?;
    let limit = Config::from_metadata(source.metadata()).map_or(PIECE, |config| config.context);
    let options = LoadOptions { context: Some(limit.min(PIECE)), ..LoadOptions::default() };
    let progress = talk::Progress::new("loading");
    let loaded = Engine::load(source, &options, &|done, total| progress.update(done, total, ""));
    let mut engine = loaded.context("cannot calibrate: that takes a model that runs here")?;
    drop(progress);
    match text {
        Some(text) => on_text(&mut engine, text, limit.min(PIECE), None),
        None => on_own_text(&mut engine),
    }
}

/// What the model's matrices meet on tokens drawn at random, layer by layer. The same on every machine. `None` when the
/// model does not run here, of which the user is told.
pub fn on_random_tokens(source: Box<dyn Source>) -> Result<Option<Imatrix>> {
    let source: Arc<dyn Source> = source.into();
    let layers = Config::from_metadata(source.metadata()).map_or(1, |config| config.layers);
    let interrupt = interrupt::listen();
    let steps = Steps { what: "calibrating", interrupt: &interrupt, started: Instant::now(), count: layers };
    let (mut imatrix, tied) = (Imatrix::new(Vec::new(), RANDOM_TEXTS as u32, RANDOM_TOKENS as u32), source.is_tied());
    let mut observer = |input, rows: Rows| add(&mut imatrix, tied, input, rows);
    let mut interrupted = Ok(());
    let passed = random_texts(&*source).and_then(|texts| {
        let mut progress = |done, _| {
            if interrupted.is_ok() {
                interrupted = steps.done(done);
            }
        };
        Ok(calibration_pass(source.clone(), &texts, Isa::best(), interrupt.cancel(), &mut observer, &mut progress)?)
    });
    match (passed, interrupted) {
        (_, Err(interrupted)) => Err(interrupted),
        (Err(_), _) if interrupt.requested() => steps.done(1).map(|()| None),
        (Ok(()), _) => Ok(Some(imatrix)),
        (Err(error), _) => {
            talk::warning(&format!(
                "rounded without knowing what the matrices meet, since the model does not run here: {error}"
            ));
            Ok(None)
        }
    }
}

/// Texts of tokens that are text, each equally likely.
fn random_texts(source: &dyn Source) -> Result<Vec<Vec<u32>>> {
    let tokenizer = Tokenizer::from_metadata(source.metadata())?;
    let length = RANDOM_TOKENS.min(Config::from_metadata(source.metadata())?.context);
    let ids = 0..tokenizer.vocab_size() as u32;
    let text: Vec<u32> = ids.filter(|&id| tokenizer.kind(id) == TokenKind::Normal).collect();
    ensure!(!text.is_empty(), "the vocabulary has no text");
    let mut random = Xoshiro256PlusPlus::new(0);
    let bos = tokenizer.bos().filter(|_| tokenizer.add_bos());
    let mut token = |i| match bos {
        Some(bos) if i == 0 => bos,
        _ => text[(random.uniform() * text.len() as f64) as usize],
    };
    Ok((0..RANDOM_TEXTS).map(|_| (0..length).map(&mut token).collect()).collect())
}
