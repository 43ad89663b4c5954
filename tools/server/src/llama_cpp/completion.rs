//! `POST /completion`: what is asked, and a whole answer.

use quipu_runtime::generate::{StopReason, Token};
use serde_json::{Map, Value as Json, json};

use super::state::settings;
use crate::answer::{Answer, Choice};
use crate::error::ApiError;
use crate::fields::{Fields, token_id};
use crate::model::Model;
use crate::openai::chat::StreamOptions;
use crate::openai::completions::{Prompt, prompts};
use crate::openai::parts;
use crate::openai::sampling::Sampling;
use crate::options::{Defaults, Limits};

/// What is asked.
#[derive(Clone, Debug)]
pub struct CompletionBody {
    /// Which model.
    pub model: Option<String>,
    /// The texts.
    pub prompts: Vec<Prompt>,
    /// Their tokens, once they are known.
    pub read: Vec<Vec<u32>>,
    /// Whether one prompt was given by itself: then the answer comes by itself, too.
    alone: bool,
    /// How texts are written.
    pub sampling: Sampling,
    /// Whether the tokens are told.
    pub tokens: bool,
    /// Which fields of an answer are wanted; none for all of them.
    fields: Vec<String>,
    /// Whether the answer comes piece by piece, and how.
    pub stream: Option<StreamOptions>,
}

impl CompletionBody {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(body: &Json, limits: &Limits, defaults: &Defaults) -> Result<CompletionBody, ApiError> {
        let fields = Fields::of_body(body)?;
        let mixed = fields.get("prompt").and_then(mixed);
        let alone = mixed.is_some()
            || !matches!(fields.get("prompt"), Some(Json::Array(list)) if !list.iter().all(Json::is_number));
        let prompts = match mixed {
            Some(parts) => vec![Prompt::Mixed(parts)],
            None => prompts(&fields, "prompt", limits)?,
        };
        CompletionBody::of(&fields, prompts, alone, limits, defaults)
    }

    /// The rest of a body whose prompts are known.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn of(
        fields: &Fields<'_>,
        prompts: Vec<Prompt>,
        alone: bool,
        limits: &Limits,
        defaults: &Defaults,
    ) -> Result<CompletionBody, ApiError> {
        let mut sampling = Sampling::read(fields, limits, defaults, &["n_predict", "max_tokens"])?;
        let probabilities = fields.count("n_probs", limits.top_logprobs)?.unwrap_or(0);
        (sampling.options.logprobs, sampling.options.top_logprobs) = (probabilities > 0, probabilities);
        sampling.options.sampled_logprobs = fields.bool("post_sampling_probs")?.unwrap_or(false);
        let wanted = fields.array("response_fields", 64)?.unwrap_or_default();
        let wanted = wanted.iter().map(|name| name.as_str().map(str::to_string)).collect::<Option<_>>();
        Ok(CompletionBody {
            model: fields.str("model")?.map(str::to_string),
            prompts,
            read: Vec::new(),
            alone,
            sampling,
            tokens: fields.bool("return_tokens")?.unwrap_or(false),
            fields: wanted.ok_or_else(|| fields.wrong("response_fields", "a list of names"))?,
            stream: StreamOptions::read(fields)?,
        })
    }

    /// The whole answer.
    pub fn whole(&self, model: &Model, answer: &Answer) -> Json {
        let one = |(index, choice): (usize, &Choice)| {
            let mut json = self.end(model, index, choice);
            json["content"] = choice.text.as_str().into();
            if self.tokens {
                json["tokens"] = choice.tokens.iter().map(|token| token.id).collect();
            }
            if self.sampling.options.logprobs {
                json["completion_probabilities"] = self.probabilities(model, &choice.tokens);
            }
            self.wanted(json)
        };
        let mut all: Vec<Json> = answer.choices.iter().enumerate().map(one).collect();
        if self.alone && all.len() == 1 { all.remove(0) } else { all.into() }
    }

    /// What is told at the end of text `index`, its content and tokens left out.
    pub fn end(&self, model: &Model, index: usize, choice: &Choice) -> Json {
        let end = choice.end.as_ref();
        let stop = match end.map(|end| end.stop) {
            _ if choice.is_refused() => "content_filter",
            Some(StopReason::End) => "eos",
            Some(StopReason::StopString) => "word",
            Some(StopReason::Limit | StopReason::ContextFull) => "limit",
            _ => "none",
        };
        let prompt_tokens = end.map_or(0, |end| end.prompt_tokens);
        let (prompt, choice_of_prompt) = (index / self.sampling.choices, index % self.sampling.choices);
        let mut told = json!({
            "index": index,
            "content": "",
            "tokens": [],
            "id_slot": index,
            "stop": true,
            "model": self.model.as_deref().unwrap_or(model.id()),
            "tokens_predicted": choice.drawn(),
            "tokens_evaluated": prompt_tokens,
            "generation_settings": settings(Some(&model.tokenizer), &self.sampling.of_choice(&model.tokenizer, choice_of_prompt)),
            "prompt": self.read.get(prompt).map_or_else(String::new, |tokens| parts::shown(&model.tokenizer, tokens)),
            "has_new_line": choice.text.contains('\n'),
            "truncated": end.is_some_and(|end| end.stop == StopReason::ContextFull),
            "stop_type": stop,
            "stopping_word": end.and_then(|end| end.stop_string.as_deref()).unwrap_or_default(),
            "tokens_cached": prompt_tokens + choice.written,
            "timings": parts::timings(std::slice::from_ref(choice)),
        });
        choice.tell_note(&mut told);
        told
    }

    /// The probabilities of tokens, as llama.cpp lists them: as logarithms, or those of the draw as they are.
    pub fn probabilities(&self, model: &Model, tokens: &[Token]) -> Json {
        let one = |token: &Token| {
            let told = parts::token_logprobs(&model.tokenizer, token);
            if self.sampling.options.sampled_logprobs { as_probabilities(told) } else { told }
        };
        tokens.iter().map(one).collect()
    }

    /// The fields that are wanted: `name`, or `object/name`, which is what the value is called in the answer, too.
    pub fn wanted(&self, json: Json) -> Json {
        if self.fields.is_empty() {
            return json;
        }
        let mut kept = Map::new();
        for path in &self.fields {
            if let Some(value) = json.pointer(&format!("/{path}")) {
                kept.insert(path.clone(), value.clone());
            }
        }
        kept.into()
    }
}

/// A list of texts and tokens that make one prompt.
fn mixed(prompt: &Json) -> Option<Vec<Prompt>> {
    let list = prompt.as_array()?;
    if !list.iter().any(Json::is_number) || list.iter().all(Json::is_number) {
        return None;
    }
    let part = |part: &Json| match part {
        Json::String(text) => Some(Prompt::Text(text.clone())),
        id => Some(Prompt::Tokens(vec![token_id(id)?])),
    };
    list.iter().map(part).collect()
}

/// `logprob` as `prob`, and `top_logprobs` as `top_probs`.
fn as_probabilities(mut told: Json) -> Json {
    if let Some(fields) = told.as_object_mut() {
        let log = fields.remove("logprob").and_then(|log| log.as_f64()).unwrap_or(f64::NEG_INFINITY);
        fields.insert("prob".into(), log.exp().into());
        if let Some(Json::Array(top)) = fields.remove("top_logprobs") {
            fields.insert("top_probs".into(), top.into_iter().map(as_probabilities).collect());
        }
    }
    told
}
