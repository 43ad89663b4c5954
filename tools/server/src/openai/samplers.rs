//! The sampler's steps, in llama.cpp's words.

use quipu_runtime::sampler::{SamplerError, SamplerOptions, SamplerStep};
use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::fields::Fields;

/// What is no number of tokens or of anything else that a model has.
pub const MANY: usize = 1 << 31;

/// Reads the fields of all steps into `sampler`, where they are there, but for those that are texts.
///
/// # Errors
/// 400 with the name of the field.
pub fn read(fields: &Fields<'_>, sampler: &mut SamplerOptions) -> Result<(), ApiError> {
    let share = |name| fields.number(name, 0.0..=1.0);
    let positive = |name| fields.number(name, 0.0..=1000.0);
    let any = |name| fields.number(name, -1000.0..=1000.0);
    // To llama.cpp and others, −1 is all.
    let count = |name| Ok::<_, ApiError>(fields.integer(name, -1..=MANY as i64)?.map(|n| usize::try_from(n).ok()));
    let last_n = |name| Ok::<_, ApiError>(count(name)?.map(|n| n.unwrap_or(MANY)));
    set(&mut sampler.temperature, positive("temperature")?);
    set(&mut sampler.dynatemp_range, positive("dynatemp_range")?);
    set(&mut sampler.dynatemp_exponent, positive("dynatemp_exponent")?);
    set(&mut sampler.top_k, count("top_k")?.map(|k| k.unwrap_or(0)));
    set(&mut sampler.top_p, share("top_p")?);
    set(&mut sampler.min_p, share("min_p")?);
    set(&mut sampler.typical_p, share("typical_p")?);
    set(&mut sampler.top_n_sigma, any("top_n_sigma")?);
    set(&mut sampler.xtc_probability, share("xtc_probability")?);
    set(&mut sampler.xtc_threshold, share("xtc_threshold")?);
    set(&mut sampler.repeat_penalty, fields.number("repeat_penalty", 1e-3..=1000.0)?);
    set(&mut sampler.frequency_penalty, any("frequency_penalty")?);
    set(&mut sampler.presence_penalty, any("presence_penalty")?);
    set(&mut sampler.repeat_last_n, last_n("repeat_last_n")?);
    set(&mut sampler.no_repeat_ngram, fields.count("no_repeat_ngram_size", MANY)?);
    let dry = &mut sampler.dry;
    set(&mut dry.multiplier, positive("dry_multiplier")?);
    set(&mut dry.base, fields.number("dry_base", 1.0..=1000.0)?);
    set(&mut dry.allowed_length, fields.count("dry_allowed_length", MANY)?);
    set(&mut dry.last_n, last_n("dry_penalty_last_n")?);
    let mirostat = &mut sampler.mirostat;
    set(&mut mirostat.version, fields.count("mirostat", 2)?.map(|version| version as u8));
    set(&mut mirostat.tau, positive("mirostat_tau")?);
    set(&mut mirostat.eta, positive("mirostat_eta")?);
    if let Some(steps) = fields.get("samplers") {
        sampler.steps = chain(steps, fields)?;
    }
    Ok(())
}

/// What [`read`] reads.
pub fn settings(sampler: &SamplerOptions) -> Json {
    // JSON has no number for "all" but llama.cpp's.
    let last_n = |n: usize| if n >= MANY { json!(-1) } else { json!(n) };
    json!({
        "temperature": sampler.temperature,
        "dynatemp_range": sampler.dynatemp_range,
        "dynatemp_exponent": sampler.dynatemp_exponent,
        "top_k": sampler.top_k,
        "top_p": sampler.top_p,
        "min_p": sampler.min_p,
        "typical_p": sampler.typical_p,
        "top_n_sigma": sampler.top_n_sigma,
        "xtc_probability": sampler.xtc_probability,
        "xtc_threshold": sampler.xtc_threshold,
        "repeat_penalty": sampler.repeat_penalty,
        "frequency_penalty": sampler.frequency_penalty,
        "presence_penalty": sampler.presence_penalty,
        "repeat_last_n": last_n(sampler.repeat_last_n),
        "no_repeat_ngram_size": sampler.no_repeat_ngram,
        "dry_multiplier": sampler.dry.multiplier,
        "dry_base": sampler.dry.base,
        "dry_allowed_length": sampler.dry.allowed_length,
        "dry_penalty_last_n": last_n(sampler.dry.last_n),
        "dry_sequence_breakers": sampler.dry.breakers,
        "mirostat": sampler.mirostat.version,
        "mirostat_tau": sampler.mirostat.tau,
        "mirostat_eta": sampler.mirostat.eta,
        "samplers": sampler.steps.iter().map(|step| step.name()).collect::<Json>(),
    })
}

/// The order of steps: a list of names, names between semicolons, or the letters of llama.cpp's `--sampler-seq`.
fn chain(steps: &Json, fields: &Fields<'_>) -> Result<Vec<SamplerStep>, ApiError> {
    let names: Vec<String> = match steps {
        Json::Array(list) => match list.iter().map(|name| name.as_str().map(str::to_string)).collect() {
            Some(names) => names,
            None => return Err(fields.wrong("samplers", "a list of names")),
        },
        Json::String(text) if SamplerStep::parse_chain(text).is_err() => text.chars().map(String::from).collect(),
        Json::String(text) => vec![text.clone()],
        _ => return Err(fields.wrong("samplers", "a list of names")),
    };
    let steps = names.iter().map(|names| SamplerStep::parse_chain(names)).collect::<Result<Vec<_>, _>>();
    let named = |error: SamplerError| ApiError::field(fields.name("samplers"), error.to_string());
    let steps = steps.map_err(named)?.concat();
    SamplerOptions::default().steps(steps.clone()).check().map_err(named)?;
    Ok(steps)
}

fn set<T>(option: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *option = given;
    }
}
