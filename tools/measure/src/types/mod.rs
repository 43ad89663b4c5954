//! Types under a size budget: the matrices that lose most by coarse types get the fine ones.
//!
//! How much a model loses when a matrix is rounded differs by a factor of a hundred from matrix to matrix, and no rule
//! by name and layer foretells it. What can be relied on: the loss grows with the square of the errors, and losses of
//! several matrices add up. So
//!
//! - [`TypeChoices::errors`] rounds some rows of each matrix to each type and measures the squared error of the
//!   outputs;
//! - each of the [`probes`] is rounded alone, and the model reads some texts; that loss gives the errors a common unit;
//! - [`budget`] finds the types with the least loss.

mod budget;
mod probes;

use std::sync::Arc;

use quipu_formats::convert::rounded::Rounded;
use quipu_formats::convert::type_choices::{MatrixTypes, SizedType, TypeChoices};
use quipu_formats::convert::{ConvertOptions, Mix, TensorRule, TypeRule};
use quipu_formats::source::Source;
use quipu_quant::TensorType;
use quipu_runtime::host::memory;
use quipu_runtime::softmax::divergence;
use quipu_runtime::{Engine, EngineError, LoadOptions};

use crate::error::MeasureError;
use crate::monitor::{Event, Monitor};

/// Texts that the model reads for each probe, and tokens of each. What it predicts in their second halves counts.
const TEXTS: usize = 4;
const TOKENS: usize = 128;

/// The types of a file, chosen by what the model loses.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChosenTypes {
    /// What the file will have: all bytes of tensors by all weights.
    pub bits_per_weight: f64,
    /// The divergence from the unquantised model that the losses of all matrices add up to, in nats, on texts like
    /// those that were read.
    pub expected_kl: f64,
    /// The type or mix that the file is named after: the type of most of its bytes.
    pub name: TypeRule,
    /// The type of each matrix.
    pub tensors: Vec<TensorRule>,
}

/// An error when no file of `bits` for each weight can be made of `source` with `options`.
pub(crate) fn check(source: &dyn Source, bits: f64, options: &ConvertOptions) -> Result<(), MeasureError> {
    let (least, most) = TypeChoices::of(source, options)?.range();
    let some_types_given = !options.tensors.is_empty();
    if bits.is_nan() || bits < least {
        return Err(MeasureError::TooFewBits { bits, least, some_types_given });
    }
    if bits > most {
        return Err(MeasureError::TooManyBits { bits, most, some_types_given });
    }
    Ok(())
}

/// Chooses types, so that a file of `source` with `options` has at most `bits` for each weight. Losses are measured on
/// `texts`.
pub(crate) fn choose(
    source: &Arc<dyn Source>,
    bits: f64,
    texts: &[Vec<u32>],
    options: &ConvertOptions,
    monitor: &Monitor<'_>,
) -> Result<ChosenTypes, MeasureError> {
    let choices = TypeChoices::of(&**source, options)?;
    let errors = choices.errors(&**source, options)?;
    let matrices = &choices.matrices;
    let probes = probes::probes(matrices);
    let count = TEXTS.min(texts.len());
    let texts: Vec<&[u32]> = (0..count).map(|i| &texts[i * texts.len() / count][..]).collect();
    // The type of each matrix when it is probed.
    let probed: Vec<usize> = matrices.iter().map(|m| probes::probe_type(m, bits)).collect();
    let rounded =
        |probe: &Vec<usize>| probe.iter().map(|&i| (matrices[i].index, matrices[i].types[probed[i]].ty)).collect();
    let losses = losses(source, &probes.iter().map(rounded).collect::<Vec<_>>(), &texts, options, monitor)?;
    let mut costs: Vec<Vec<(u64, f64)>> = vec![Vec::new(); matrices.len()];
    for (probe, loss) in probes.iter().zip(losses) {
        let error: f64 = probe.iter().map(|&i| errors[i][probed[i]]).sum();
        // Where there is no error nothing is lost.
        let unit = if error > 0.0 { loss / error } else { 0.0 };
        for &i in probe {
            costs[i] = matrices[i].types.iter().zip(&errors[i]).map(|(t, e)| (t.bytes, unit * e)).collect();
        }
    }
    let too_few = || {
        let (least, some_types_given) = (choices.range().0, !options.tensors.is_empty());
        MeasureError::TooFewBits { bits, least, some_types_given }
    };
    let chosen = budget::choose(&costs, choices.budget(bits)).ok_or_else(too_few)?;
    let picked: Vec<&SizedType> = matrices.iter().zip(&chosen).map(|(m, &t)| &m.types[t]).collect();
    let bits_per_weight = choices.bits_per_weight(picked.iter().map(|t| t.bytes).sum());
    let expected_kl: f64 = costs.iter().zip(&chosen).map(|(c, &chosen)| c[chosen].1).sum();
    monitor.report(Event::TypesChosen { bits_per_weight, expected_kl });
    let rule = |(m, t): (&MatrixTypes, &&SizedType)| TensorRule { pattern: m.name.clone(), ty: t.ty };
    let tensors = matrices.iter().zip(&picked).map(rule).collect();
    Ok(ChosenTypes { bits_per_weight, expected_kl, name: mostly(&picked), tensors })
}

/// The type or mix that a file is named after, by the type of most of its bytes.
fn mostly(picked: &[&SizedType]) -> TypeRule {
    let bytes = |ty| -> u64 { picked.iter().filter(|t| t.ty == ty).map(|t| t.bytes).sum() };
    match TensorType::ALL.into_iter().max_by_key(|&ty| bytes(ty)) {
        Some(TensorType::Q2_K) => TypeRule::Mix(Mix::Q2_K),
        Some(TensorType::Q4_K) => TypeRule::Mix(Mix::Q4_K_M),
        Some(TensorType::Q5_K) => TypeRule::Mix(Mix::Q5_K_M),
        Some(ty) => TypeRule::To(ty),
        None => TypeRule::Keep,
    }
}

/// For each of the `probes`, which are numbers of matrices with the types that these are rounded to: the mean
/// divergence from the model's predictions when no other matrix is rounded.
fn losses(
    source: &Arc<dyn Source>,
    probes: &[Vec<(usize, TensorType)>],
    texts: &[&[u32]],
    options: &ConvertOptions,
    monitor: &Monitor<'_>,
) -> Result<Vec<f64>, MeasureError> {
    let total = probes.len();
    monitor.step(Event::ChoosingTypes { done: 0, total })?;
    let mut engine = load(source, options, &[])?;
    check_memory(texts, engine.vocabulary())?;
    let base = predictions(&mut engine, texts, |_, _, logits| logits.to_vec())?;
    drop(engine);
    let mut losses = Vec::new();
    for (n, probe) in probes.iter().enumerate() {
        let mut engine = load(source, options, probe)?;
        let each = predictions(&mut engine, texts, |text, place, logits| divergence(&base[text][place], logits))?;
        if let Some(text) = each.iter().position(|text| !text.iter().sum::<f64>().is_finite()) {
            return Err(MeasureError::NotFinite { path: source.path().to_path_buf(), chunk: text + 1 });
        }
        let each = each.concat();
        let loss = each.iter().sum::<f64>() / each.len() as f64;
        losses.push(loss.max(0.0));
        monitor.step(Event::ChoosingTypes { done: n + 1, total })?;
    }
    Ok(losses)
}

/// Whether there is memory for what a model with a vocabulary of so many tokens predicts at all places that count.
fn check_memory(texts: &[&[u32]], vocabulary: usize) -> Result<(), MeasureError> {
    let places: usize = texts.iter().map(|text| text.len().min(TOKENS)).map(|len| len - len / 2).sum();
    let needed = (places as u64).saturating_mul(vocabulary as u64).saturating_mul(size_of::<f32>() as u64);
    Ok(memory::check(needed, || format!("what is predicted at {places} places of the texts"))?)
}

fn load(
    source: &Arc<dyn Source>,
    options: &ConvertOptions,
    types: &[(usize, TensorType)],
) -> Result<Engine, MeasureError> {
    let rounded = Rounded::new(source.clone(), options, types)?;
    let load = LoadOptions::default().context(Some(TOKENS));
    let loaded = Engine::load(Box::new(rounded), &load, &|_, _| {});
    loaded.map_err(|error| MeasureError::DoesNotRun { task: "to choose types", error })
}

/// Calls `see(text, place, logits)` with the predictions at all places that count; returns the results text by text.
fn predictions<T: Send + Sync>(
    engine: &mut Engine,
    texts: &[&[u32]],
    see: impl Fn(usize, usize, &[f32]) -> T + Sync,
) -> Result<Vec<Vec<T>>, EngineError> {
    let read = |(t, text): (usize, &&[u32])| {
        let text = &text[..text.len().min(TOKENS)];
        let (mut sequence, first) = (engine.new_sequence(), text.len() / 2);
        engine.score_each(&mut sequence, text, first, |i, logits| see(t, i - first, logits))
    };
    texts.iter().enumerate().map(read).collect()
}
