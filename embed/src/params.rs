//! How texts are to be continued: [`Params`], its defaults, and what the runtime makes of it.

use std::ffi::c_char;
use std::mem::size_of;

use quipu_constrain::Shape;
use quipu_runtime::generate::GenerateOptions;
use quipu_runtime::sampler::{DryOptions, MirostatOptions, SamplerOptions, SamplerStep};

use crate::failure::{Failure, text};
use crate::types::{Bias, Params, Status};

pub fn default_params() -> Params {
    let sampler = SamplerOptions::default();
    let SamplerOptions { dry, mirostat, .. } = &sampler;
    let none = std::ptr::null();
    Params {
        struct_size: size_of::<Params>(),
        max_tokens: 0,
        temperature: sampler.temperature,
        top_k: saturate(sampler.top_k),
        top_p: sampler.top_p,
        min_p: sampler.min_p,
        repeat_penalty: sampler.repeat_penalty,
        frequency_penalty: sampler.frequency_penalty,
        presence_penalty: sampler.presence_penalty,
        repeat_last_n: saturate(sampler.repeat_last_n),
        seed: sampler.seed,
        plain: 0,
        stop: std::ptr::null(),
        stop_count: 0,
        schema: none,
        grammar: none,
        regex: none,
        typical_p: sampler.typical_p,
        top_n_sigma: sampler.top_n_sigma,
        xtc_probability: sampler.xtc_probability,
        xtc_threshold: sampler.xtc_threshold,
        dynatemp_range: sampler.dynatemp_range,
        dynatemp_exponent: sampler.dynatemp_exponent,
        dry_multiplier: dry.multiplier,
        dry_base: dry.base,
        dry_allowed_length: saturate(dry.allowed_length),
        dry_last_n: saturate(dry.last_n),
        dry_breakers: std::ptr::null(),
        dry_breaker_count: 0,
        no_repeat_ngram: saturate(sampler.no_repeat_ngram),
        mirostat: mirostat.version.into(),
        mirostat_tau: mirostat.tau,
        mirostat_eta: mirostat.eta,
        samplers: none,
        logit_bias: std::ptr::null(),
        logit_bias_count: 0,
        banned: std::ptr::null(),
        banned_count: 0,
        thinking_budget: -1,
        ignore_end: 0,
    }
}

fn saturate(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// # Safety
/// The lists of `params` are null or as long as it says, and all texts in it are null or C strings.
pub unsafe fn generate_options(params: &Params) -> Result<GenerateOptions, Failure> {
    // SAFETY: by this function's contract.
    let (stops, bans) =
        unsafe { (texts(params.stop, params.stop_count, "stop"), texts(params.banned, params.banned_count, "banned")) };
    let max_tokens = (params.max_tokens > 0).then_some(params.max_tokens as usize);
    // SAFETY: by this function's contract.
    let sampler = unsafe { sampler(params) }?;
    Ok(GenerateOptions::new(sampler)
        .stops(stops?)
        .bans(bans?)
        .max_tokens(max_tokens)
        .ignore_end(params.ignore_end != 0)
        .after_thoughts(true)
        .thinking_budget(usize::try_from(params.thinking_budget).ok()))
}

/// # Safety
/// As for [`generate_options`].
unsafe fn sampler(params: &Params) -> Result<SamplerOptions, Failure> {
    let mut dry = DryOptions::default()
        .multiplier(params.dry_multiplier)
        .base(params.dry_base)
        .allowed_length(params.dry_allowed_length as usize)
        .last_n(params.dry_last_n as usize);
    if !params.dry_breakers.is_null() {
        // SAFETY: by this function's contract.
        dry.breakers = unsafe { texts(params.dry_breakers, params.dry_breaker_count, "dry_breakers") }?;
    } else if params.dry_breaker_count > 0 {
        return Err(null_list("dry_breakers"));
    }
    let version = u8::try_from(params.mirostat).unwrap_or(u8::MAX);
    let mirostat = MirostatOptions::default().version(version).tau(params.mirostat_tau).eta(params.mirostat_eta);
    let steps = if params.samplers.is_null() {
        SamplerStep::DEFAULT.to_vec()
    } else {
        // SAFETY: by this function's contract; not null.
        let chain = unsafe { text(params.samplers, "samplers") }?;
        SamplerStep::parse_chain(chain).map_err(|error| Failure::new(Status::Argument, error))?
    };
    let biases: &[Bias] = match (params.logit_bias.is_null(), params.logit_bias_count) {
        (_, 0) => &[],
        (true, _) => return Err(null_list("logit_bias")),
        // SAFETY: not null, and otherwise by this function's contract.
        (false, count) => unsafe { std::slice::from_raw_parts(params.logit_bias, count) },
    };
    Ok(SamplerOptions::default()
        .temperature(params.temperature)
        .top_k(params.top_k as usize)
        .top_p(params.top_p)
        .min_p(params.min_p)
        .repeat_penalty(params.repeat_penalty)
        .frequency_penalty(params.frequency_penalty)
        .presence_penalty(params.presence_penalty)
        .repeat_last_n(params.repeat_last_n as usize)
        .typical_p(params.typical_p)
        .top_n_sigma(params.top_n_sigma)
        .xtc_probability(params.xtc_probability)
        .xtc_threshold(params.xtc_threshold)
        .dynatemp_range(params.dynatemp_range)
        .dynatemp_exponent(params.dynatemp_exponent)
        .dry(dry)
        .no_repeat_ngram(params.no_repeat_ngram as usize)
        .mirostat(mirostat)
        .steps(steps)
        .logit_bias(biases.iter().map(|bias| (bias.token, bias.bias)).collect())
        .seed(params.seed))
}

fn null_list(name: &str) -> Failure {
    Failure::new(Status::Argument, format_args!("{name} is NULL, but its count is not 0"))
}

/// The texts of a list.
///
/// # Safety
/// `list` is null or has `count` pointers, which are null or C strings.
unsafe fn texts(list: *const *const c_char, count: usize, name: &str) -> Result<Vec<String>, Failure> {
    if list.is_null() && count > 0 {
        return Err(null_list(name));
    }
    let one = |i| {
        // SAFETY: by this function's contract; the list is not null, as just checked.
        let text = unsafe { text(*list.add(i), &format!("{name}[{i}]")) }?;
        Ok(text.to_string())
    };
    (0..count).map(one).collect()
}

/// What the text is to be.
///
/// # Safety
/// `params.schema`, `params.grammar` and `params.regex` are null or C strings.
pub unsafe fn shape(params: &Params) -> Result<Option<Shape>, Failure> {
    let mut shapes = Vec::new();
    for (at, name) in [(params.schema, "schema"), (params.grammar, "grammar"), (params.regex, "regex")] {
        if at.is_null() {
            continue;
        }
        // SAFETY: by this function's contract; not null.
        let text = unsafe { text(at, name) }?;
        shapes.push(match name {
            "schema" => Shape::schema(text).map_err(|error| Failure::new(Status::Argument, error))?,
            "grammar" => Shape::grammar(text),
            _ => Shape::Regex(text.to_string()),
        });
    }
    match shapes.len() {
        0 | 1 => Ok(shapes.pop()),
        _ => Err(Failure::new(Status::Argument, "only one of schema, grammar and regex may be set")),
    }
}
