//! `--target-bits`: what each part of a model loses by coarse types, and from that the type of each matrix.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use quipu_formats::convert::budget::{Candidate, Candidates, Matrix, Rounded, choose, parts};
use quipu_formats::convert::{ConvertOptions, Mix, TensorRule, TypeRule};
use quipu_formats::source::Source;
use quipu_quant::TensorType;
use quipu_runtime::softmax::divergence;
use quipu_runtime::{Engine, LoadOptions};

use crate::calibrate::Steps;
use crate::{interrupt, talk};

/// Texts that the model reads for each part, and tokens of each. What it predicts in their second halves counts.
const TEXTS: usize = 4;
const TOKENS: usize = 128;

/// Whether a file of `bits` for each weight can be made of `source` with `options`.
pub fn check(source: &dyn Source, bits: f64, options: &ConvertOptions) -> Result<()> {
    let (least, most) = Candidates::of(source, options)?.range();
    let fixed = if options.tensors.is_empty() { "" } else { " and what --tensor says" };
    ensure!(
        bits >= least,
        "--target-bits {bits}: with the smallest types{fixed} the file has {least:.3} bits per weight"
    );
    ensure!(
        bits <= most,
        "--target-bits {bits}: with the largest types{fixed} the file has {most:.3} bits per weight; nothing is to be chosen"
    );
    Ok(())
}

/// Sets the types of `options`, so that the file has at most `bits` for each weight. Losses are measured on `texts`.
pub fn choose_types(
    source: Box<dyn Source>,
    bits: f64,
    texts: &[Vec<u32>],
    options: &mut ConvertOptions,
) -> Result<()> {
    let source: Arc<dyn Source> = source.into();
    let candidates = Candidates::of(&*source, options)?;
    let errors = candidates.errors(&*source, options)?;
    let matrices = &candidates.matrices;
    let parts = parts(matrices);
    let count = TEXTS.min(texts.len());
    let texts: Vec<&[u32]> = (0..count).map(|i| &texts[i * texts.len() / count][..]).collect();
    let probes: Vec<usize> = matrices.iter().map(|m| m.probe(bits)).collect();
    let probed =
        |part: &Vec<usize>| part.iter().map(|&i| (matrices[i].index, matrices[i].candidates[probes[i]].ty)).collect();
    let losses = losses(&source, parts.iter().map(probed).collect(), &texts, options)?;
    let mut costs: Vec<Vec<(u64, f64)>> = vec![Vec::new(); matrices.len()];
    for (part, loss) in parts.iter().zip(losses) {
        let error: f64 = part.iter().map(|&i| errors[i][probes[i]]).sum();
        // Where there is no error nothing is lost.
        let unit = if error > 0.0 { loss / error } else { 0.0 };
        for &i in part {
            costs[i] = matrices[i].candidates.iter().zip(&errors[i]).map(|(c, e)| (c.bytes, unit * e)).collect();
        }
    }
    let chosen = choose(&costs, candidates.budget(bits)).context("the smallest types do not fit")?;
    let picked: Vec<&Candidate> = matrices.iter().zip(&chosen).map(|(m, &c)| &m.candidates[c]).collect();
    let bytes = picked.iter().map(|c| c.bytes).sum();
    let loss: f64 = costs.iter().zip(&chosen).map(|(c, &chosen)| c[chosen].1).sum();
    talk::note(&format!(
        "{:.3} bits per weight; on text like that they should cost a KL divergence of {loss:.4}",
        candidates.bits_per_weight(bytes)
    ));
    options.types = mostly(&picked);
    let rule = |(m, c): (&Matrix, &&Candidate)| TensorRule { pattern: m.name.clone(), ty: c.ty };
    options.tensors.extend(matrices.iter().zip(&picked).map(rule));
    Ok(())
}

/// What the file is called by the type of most of its bytes.
fn mostly(picked: &[&Candidate]) -> TypeRule {
    let bytes = |ty| -> u64 { picked.iter().filter(|c| c.ty == ty).map(|c| c.bytes).sum() };
    match TensorType::ALL.into_iter().max_by_key(|&ty| bytes(ty)) {
        Some(TensorType::Q2_K) => TypeRule::Mix(Mix::Q2_K),
        Some(TensorType::Q4_K) => TypeRule::Mix(Mix::Q4_K_M),
        Some(TensorType::Q5_K) => TypeRule::Mix(Mix::Q5_K_M),
        Some(ty) => TypeRule::To(ty),
        None => TypeRule::Keep,
    }
}

/// The mean divergence from the model's predictions for each of the `parts`: matrices, by their numbers, that are
/// rounded to these types alone.
fn losses(
    source: &Arc<dyn Source>,
    parts: Vec<Vec<(usize, TensorType)>>,
    texts: &[&[u32]],
    options: &ConvertOptions,
) -> Result<Vec<f64>> {
    let mut engine = load(source, options, &[])?;
    let base = predictions(&mut engine, texts, |_, _, logits| logits.to_vec())?;
    drop(engine);
    let interrupt = interrupt::listen();
    let steps = Steps { what: "choosing types", interrupt: &interrupt, started: Instant::now(), count: parts.len() };
    let mut losses = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let mut engine = load(source, options, part)?;
        let each = predictions(&mut engine, texts, |text, place, logits| divergence(&base[text][place], logits))?;
        let each = each.concat();
        let loss = each.iter().sum::<f64>() / each.len() as f64;
        ensure!(loss.is_finite(), "{}: the model's logits are not finite numbers", source.path().display());
        losses.push(loss.max(0.0));
        steps.done(n + 1)?;
    }
    Ok(losses)
}

fn load(source: &Arc<dyn Source>, options: &ConvertOptions, types: &[(usize, TensorType)]) -> Result<Engine> {
    let rounded = Rounded::new(source.clone(), options, types);
    let load = LoadOptions { context: Some(TOKENS), ..LoadOptions::default() };
    Engine::load(Box::new(rounded), &load, &|_, _| {}).context("cannot choose types: that takes a model that runs here")
}

/// What `see(text, place, logits)` makes of the predictions at all places that count, text by text.
fn predictions<T: Send + Sync>(
    engine: &mut Engine,
    texts: &[&[u32]],
    see: impl Fn(usize, usize, &[f32]) -> T + Sync,
) -> Result<Vec<Vec<T>>> {
    let mut predictions = Vec::new();
    for (t, text) in texts.iter().enumerate() {
        let text = &text[..text.len().min(TOKENS)];
        let (mut sequence, first) = (engine.new_sequence(), text.len() / 2);
        let found = engine.score_each(&mut sequence, text, first, |i, logits| see(t, i - first, logits));
        predictions.push(found.context("cannot read the text")?);
    }
    Ok(predictions)
}
