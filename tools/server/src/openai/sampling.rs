//! How texts are written: the fields that chat and plain completions share.

use quipu_runtime::generate::{GenerateOptions, Request};
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::Value as Json;

use super::samplers::{self, MANY};
use super::unsupported;
use crate::error::ApiError;
use crate::fields::{Fields, integer, wrong};
use crate::lora::AskedLora;
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::random;
use crate::shape::{self, Asked};
use crate::thinking;

/// How texts are written, and how many.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// How the first text of each prompt is written, as far as that can be said without the model's tokens; those after
    /// it have the next seeds.
    pub options: GenerateOptions,
    /// Texts for each prompt.
    pub choices: usize,
    /// What they are to be.
    pub shape: Option<Asked>,
    /// With which adapters.
    pub lora: AskedLora,
    /// Biases of all tokens that a word has.
    words: Vec<(String, f32)>,
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
        if let Some(bans) = fields.get("banned_strings") {
            options.bans = strings(bans, &fields.name("banned_strings"), limits)?;
        }
        options.ignore_end = fields.bool("ignore_eos")?.unwrap_or(options.ignore_end);
        if let Some(tokens) = thinking::tokens(fields)? {
            options.thinking_budget = usize::try_from(tokens).ok();
        }
        let mut words = Vec::new();
        if let Some(biases) = fields.get("logit_bias") {
            (sampler.logit_bias, words) = logit_bias(biases, fields, limits)?;
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
        Ok(Sampling { options, choices, shape: shape::read(fields)?, lora: AskedLora::read(fields)?, words })
    }

    /// How text number `choice` of a prompt is written, with this model's tokens, but for its shape.
    pub fn of_choice(&self, tokenizer: &Tokenizer, choice: usize) -> GenerateOptions {
        let mut options = self.options.clone();
        let sampler = &mut options.sampler;
        sampler.seed = sampler.seed.wrapping_add(choice as u64);
        for (word, bias) in &self.words {
            sampler.logit_bias.extend(tokenizer.encode(word, false, false).into_iter().map(|id| (id, *bias)));
        }
        options
    }

    /// A request for each text that `prompt` is continued with.
    ///
    /// # Errors
    /// 400 if the texts cannot be kept to their shape, or the model has no such adapters.
    pub fn requests(&self, model: &Model, prompt: Vec<u32>) -> Result<Vec<Request>, ApiError> {
        let grammar = self.shape.as_ref().map(|shape| shape.grammar(model)).transpose()?;
        let adapters = model.loras.choose(&self.lora)?;
        let request = |choice: usize| {
            let options = self.of_choice(&model.tokenizer, choice).grammar(grammar.clone()).after_thoughts(true);
            Request::new(prompt.clone(), options).adapters(adapters.clone())
        };
        Ok((0..self.choices).map(request).collect())
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

/// Biases of tokens, and of words.
type Biases = (Vec<(u32, f32)>, Vec<(String, f32)>);

/// `{"id": bias}`, or llama.cpp's `[[id, bias or false]]`. What is no id is a word, and means all its tokens.
fn logit_bias(biases: &Json, fields: &Fields<'_>, limits: &Limits) -> Result<Biases, ApiError> {
    let wrong = || fields.wrong("logit_bias", "an object of token ids or words with numbers from -100 to 100");
    let pairs: Vec<(Json, &Json)> = match biases {
        Json::Object(map) => {
            let key = |key: &String| key.parse().map_or_else(|_| key.as_str().into(), |id: i64| id.into());
            map.iter().map(|(id, bias)| (key(id), bias)).collect()
        }
        Json::Array(list) => {
            let pair = |pair: &'_ Json| pair.as_array().map(|pair| pair.len() == 2) == Some(true);
            if !list.iter().all(pair) {
                return Err(wrong());
            }
            list.iter().map(|pair| (pair[0].clone(), &pair[1])).collect()
        }
        _ => return Err(wrong()),
    };
    if pairs.len() > limits.biases {
        let message = format!("has {} entries; at most {} are taken", pairs.len(), limits.biases);
        return Err(ApiError::field(fields.name("logit_bias"), message));
    }
    let (mut tokens, mut words) = (Vec::new(), Vec::new());
    for (key, bias) in pairs {
        let bias = match bias {
            Json::Bool(false) => f32::NEG_INFINITY,
            bias => bias.as_f64().filter(|bias| (-1e6..=1e6).contains(bias)).ok_or_else(wrong)? as f32,
        };
        match key {
            Json::String(word) if word.len() <= limits.stop_bytes => words.push((word, bias)),
            key => tokens.push((integer(&key).and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong)?, bias)),
        }
    }
    Ok((tokens, words))
}
