//! `POST /v1/completions`: what is asked, and a whole answer. The stream is in `completions_stream.rs`.

use quipu_runtime::generate::{Request, Token};
use serde_json::{Map, Value as Json, json};

use super::chat::StreamOptions;
use super::parts;
use super::sampling::Sampling;
use crate::answer::{Answer, Choice};
use crate::error::ApiError;
use crate::fields::{Fields, token_id};
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::random;

/// A text to be continued.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// As text.
    Text(String),
    /// As tokens: nothing is put before them.
    Tokens(Vec<u32>),
    /// As texts and tokens that stand one behind the other.
    Mixed(Vec<Prompt>),
}

impl Prompt {
    /// Its tokens.
    ///
    /// # Errors
    /// When there is no room for them, or one of them does not exist.
    pub fn tokens(&self, model: &Model) -> Result<Vec<u32>, ApiError> {
        match self {
            Prompt::Text(text) => model.text(text),
            Prompt::Mixed(parts) => {
                let mut tokens = Vec::new();
                for part in parts {
                    match part {
                        Prompt::Text(text) if !tokens.is_empty() => {
                            tokens.extend(model.tokenizer.encode(text, false, true));
                        }
                        part => tokens.extend(part.tokens(model)?),
                    }
                }
                model.check_room(tokens)
            }
            Prompt::Tokens(tokens) => {
                let vocabulary = model.tokenizer.vocab_size();
                match tokens.iter().find(|&&id| id as usize >= vocabulary) {
                    Some(id) => {
                        Err(ApiError::field("prompt", format!("has the token {id}; this model has {vocabulary}")))
                    }
                    None => model.check_room(tokens.clone()),
                }
            }
        }
    }

    /// Its text.
    pub fn text(&self, model: &Model) -> String {
        match self {
            Prompt::Text(text) => text.clone(),
            Prompt::Mixed(parts) => parts.iter().map(|part| part.text(model)).collect(),
            Prompt::Tokens(tokens) => model.tokenizer.decode(tokens, true),
        }
    }
}

/// Reads a string, a list of strings, a list of tokens, or a list of such lists.
///
/// # Errors
/// 400 with the name of the field.
pub fn prompts(fields: &Fields<'_>, name: &str, limits: &Limits) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || fields.wrong(name, "a string, a list of token ids, or a list of these");
    let ids = |list: &[Json]| -> Option<Prompt> {
        Some(Prompt::Tokens(list.iter().map(token_id).collect::<Option<Vec<u32>>>()?))
    };
    match fields.get(name).ok_or_else(|| fields.missing(name))? {
        Json::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Json::Array(list) if list.is_empty() => Err(ApiError::field(fields.name(name), "is empty")),
        Json::Array(list) if list[0].is_number() => Ok(vec![ids(list).ok_or_else(wrong)?]),
        Json::Array(list) if list.len() > limits.prompts => {
            let message = format!("has {} entries; at most {} are taken", list.len(), limits.prompts);
            Err(ApiError::field(fields.name(name), message))
        }
        Json::Array(list) => {
            let one = |prompt: &Json| match prompt {
                Json::String(text) => Some(Prompt::Text(text.clone())),
                Json::Array(list) if !list.is_empty() => ids(list),
                _ => None,
            };
            list.iter().map(|prompt| one(prompt).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct CompletionBody {
    /// Which model.
    pub model: Option<String>,
    /// The texts.
    pub prompts: Vec<Prompt>,
    /// Whether an answer begins with its prompt.
    pub echo: bool,
    /// How they are continued.
    pub sampling: Sampling,
    /// Whether the answers come piece by piece, and how.
    pub stream: Option<StreamOptions>,
}

/// OpenAI's default.
const MAX_TOKENS: usize = 16;

impl CompletionBody {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(body: &Json, limits: &Limits, defaults: &Defaults) -> Result<CompletionBody, ApiError> {
        let fields = Fields::of_body(body)?;
        let mut sampling =
            Sampling::read(&fields, limits, defaults, &["max_tokens", "max_completion_tokens", "n_predict"])?;
        let limited =
            ["max_tokens", "max_completion_tokens", "n_predict"].iter().any(|name| fields.get(name).is_some());
        if !limited && sampling.options.max_tokens.is_none() {
            sampling.options.max_tokens = Some(MAX_TOKENS);
        }
        if let Some(n) = fields.count("logprobs", limits.top_logprobs)? {
            sampling.options.logprobs = true;
            sampling.options.top_logprobs = n;
        }
        if fields.str("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
            return Err(ApiError::field("suffix", "is not supported; the text would not lead to it"));
        }
        if fields.integer("best_of", 1..=limits.choices as i64)?.is_some_and(|best| best != sampling.choices as i64) {
            return Err(ApiError::field("best_of", "must be the same as `n`: nothing is written and thrown away"));
        }
        let echo = fields.bool("echo")?.unwrap_or(false);
        if echo && sampling.options.logprobs {
            return Err(ApiError::field("echo", "together with `logprobs` is not supported"));
        }
        Ok(CompletionBody {
            model: fields.str("model")?.map(str::to_string),
            prompts: prompts(&fields, "prompt", limits)?,
            echo,
            sampling,
            stream: StreamOptions::read(&fields)?,
        })
    }

    /// What the scheduler is asked for.
    ///
    /// # Errors
    /// When there is no room for a prompt.
    pub fn requests(&self, model: &Model) -> Result<Vec<Request>, ApiError> {
        let mut requests = Vec::new();
        for prompt in &self.prompts {
            requests.extend(self.sampling.requests(model, prompt.tokens(model)?)?);
        }
        Ok(requests)
    }

    /// How many texts are written.
    pub fn texts(&self) -> usize {
        self.prompts.len() * self.sampling.choices
    }

    /// Where the answer is put together.
    pub fn answer(&self) -> Answer {
        Answer::new(self.texts(), self.sampling.choices, self.sampling.options.logprobs)
    }

    /// What text `index` begins with.
    pub fn echo(&self, model: &Model, index: usize) -> String {
        if self.echo { self.prompts[index / self.sampling.choices].text(model) } else { String::new() }
    }
}

/// The whole answer.
pub fn whole(model: &Model, body: &CompletionBody, answer: &Answer) -> Json {
    let choice = |(index, choice): (usize, &Choice)| {
        let mut offset = 0;
        let logprobs = body.sampling.options.logprobs.then(|| logprobs(model, &choice.tokens, &mut offset));
        json!({
            "text": body.echo(model, index) + &choice.text,
            "index": index,
            "logprobs": logprobs,
            "finish_reason": parts::finish_reason(choice),
        })
    };
    json!({
        "id": random::id("cmpl-"),
        "object": "text_completion",
        "created": random::now(),
        "model": body.model.as_deref().unwrap_or(model.id()),
        "system_fingerprint": parts::FINGERPRINT,
        "choices": answer.choices.iter().enumerate().map(choice).collect::<Json>(),
        "usage": parts::usage(answer.usage()),
        "timings": parts::timings(&answer.choices),
    })
}

/// The four lists of a plain completion. `offset` is where the text of the first of these tokens begins, in characters.
pub(super) fn logprobs(model: &Model, tokens: &[Token], offset: &mut usize) -> Json {
    let text = |id| parts::token_text(&model.tokenizer, id);
    let (mut texts, mut values, mut offsets, mut tops) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for token in tokens {
        let text_of_token = text(token.id);
        offsets.push(*offset);
        *offset += text_of_token.chars().count();
        texts.push(text_of_token);
        values.push(parts::logprob(token.logprob.unwrap_or(f64::NEG_INFINITY)));
        let top = |&(id, value): &(u32, f64)| (text(id), Json::from(parts::logprob(value)));
        tops.push(token.top_logprobs.iter().map(top).collect::<Map<_, _>>());
    }
    json!({"tokens": texts, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets})
}
