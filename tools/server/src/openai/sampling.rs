//! How texts are written: the fields that chat and plain completions share.

use quipu_runtime::generate::{GenerateOptions, Request};
use serde_json::Value as Json;

use super::samplers::{self, MANY};
use super::unsupported;
use crate::error::ApiError;
use crate::fields::{Fields, token_id, wrong};
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::random;
use crate::shape::{self, Asked};

/// How texts are written, and how many.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// How the first text of each prompt is written; those after it have the next seeds.
    pub options: GenerateOptions,
    /// Texts for each prompt.
    pub choices: usize,
    /// What they are to be.
    pub shape: Option<Asked>,
}

impl Sampling {
    /// Reads the fields; `defaults` are for those that are not there. The first of `most` that is there says how many
    /// tokens a text may have; −1 is no limit.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(
        fields: &Fields<'_>,
        limits: &Limits,
        defaults: &Defaults,
        most: &[&str],
    ) -> Result<Sampling, ApiError> {
        unsupported::check(fields)?;
        let mut options = defaults.options.clone();
        let sampler = &mut options.sampler;
        samplers::read(fields, sampler)?;
        if let Some(breakers) = fields.get("dry_sequence_breakers") {
            sampler.dry.breakers = strings(breakers, &fields.name("dry_sequence_breakers"), limits)?;
        }
        sampler.seed = match fields.integer("seed", i64::MIN..=i64::MAX)? {
            Some(-1) => random::seed(),
            Some(seed) => seed as u64,
            None => defaults.seed.unwrap_or_else(random::seed),
        };
        options.ignore_end = fields.bool("ignore_eos")?.unwrap_or(false);
        if let Some(biases) = fields.get("logit_bias") {
            sampler.logit_bias = logit_bias(biases, fields, limits)?;
        }
        for name in most {
            if let Some(n) = fields.integer(name, -1..=MANY as i64)? {
                options.max_tokens = usize::try_from(n).ok();
                break;
            }
        }
        if let Some(stops) = fields.get("stop") {
            options.stops = strings(stops, &fields.name("stop"), limits)?;
        }
        options.sampler.check()?;
        let choices = fields.integer("n", 1..=limits.choices as i64)?.unwrap_or(1) as usize;
        Ok(Sampling { options, choices, shape: shape::read(fields)? })
    }

    /// A request for each text that `prompt` is continued with.
    ///
    /// # Errors
    /// 400 if the texts cannot be kept to their shape.
    pub fn requests(&self, model: &Model, prompt: Vec<u32>) -> Result<Vec<Request>, ApiError> {
        let mut options = self.options.clone();
        if let Some(shape) = &self.shape {
            options.grammar = Some(shape.grammar(model)?);
        }
        let request = |i: u64| {
            let mut options = options.clone();
            options.sampler.seed = options.sampler.seed.wrapping_add(i);
            Request::new(prompt.clone(), options)
        };
        Ok((0..self.choices as u64).map(request).collect())
    }
}

/// Stop strings: one, or a list. An empty one stops nothing.
pub fn strings(stops: &Json, name: &str, limits: &Limits) -> Result<Vec<String>, ApiError> {
    let list = match stops {
        Json::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if list.len() > limits.stops {
        return Err(ApiError::field(name, format!("has {} entries; at most {} are taken", list.len(), limits.stops)));
    }
    let mut found = Vec::new();
    for stop in list {
        let text = stop.as_str().ok_or_else(|| wrong(name, "a string or a list of strings", stop))?;
        if text.len() > limits.stop_bytes {
            let message = format!("has a string of {} bytes; at most {} are taken", text.len(), limits.stop_bytes);
            return Err(ApiError::field(name, message));
        }
        if !text.is_empty() {
            found.push(text.to_string());
        }
    }
    Ok(found)
}

/// `{"id": bias}`, or llama.cpp's `[[id, bias or false]]`.
fn logit_bias(biases: &Json, fields: &Fields<'_>, limits: &Limits) -> Result<Vec<(u32, f32)>, ApiError> {
    let wrong = || fields.wrong("logit_bias", "an object of token ids with numbers from -100 to 100");
    let pairs: Vec<(Option<u32>, &Json)> = match biases {
        Json::Object(map) => map.iter().map(|(id, bias)| (id.parse().ok(), bias)).collect(),
        Json::Array(list) => {
            let pair = |pair: &'_ Json| pair.as_array().map(|pair| pair.len() == 2) == Some(true);
            if !list.iter().all(pair) {
                return Err(wrong());
            }
            list.iter().map(|pair| (token_id(&pair[0]), &pair[1])).collect()
        }
        _ => return Err(wrong()),
    };
    if pairs.len() > limits.biases {
        let message = format!("has {} entries; at most {} are taken", pairs.len(), limits.biases);
        return Err(ApiError::field(fields.name("logit_bias"), message));
    }
    let read = |(id, bias): (Option<u32>, &Json)| {
        let bias = match bias {
            Json::Bool(false) => Some(f32::NEG_INFINITY),
            bias => bias.as_f64().filter(|bias| (-1e6..=1e6).contains(bias)).map(|bias| bias as f32),
        };
        Some((id?, bias?))
    };
    pairs.into_iter().map(|pair| read(pair).ok_or_else(wrong)).collect()
}
