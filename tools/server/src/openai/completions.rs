//! `POST /v1/completions`: what is asked, and a whole answer. The stream is in `completions_stream.rs`.

use quipu_runtime::generate::{Request, Token};
use serde_json::{Map, Value as Json, json};

use super::chat::StreamOptions;
use super::parts;
use super::sampling::Sampling;
use crate::answer::{Answer, Choice};
use crate::error::ApiError;
use crate::fields::{Fields, token_id};
use crate::fill;
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

/// Reads a string, a list of strings, a list of tokens, or a list of such lists; llama.cpp's `{"prompt_string": …}` is
/// a string, too.
///
/// # Errors
/// 400 with the name of the field.
pub fn prompts(fields: &Fields<'_>, name: &str, limits: &Limits) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || fields.wrong(name, "a string, a list of token ids, or a list of these");
    let ids = |list: &[Json]| -> Option<Prompt> {
        Some(Prompt::Tokens(list.iter().map(token_id).collect::<Option<Vec<u32>>>()?))
    };
    let text = |prompt: &Json| -> Option<Prompt> {
        let media = prompt.get("multimodal_data").is_some_and(|media| !media.is_null());
        let text = prompt.get("prompt_string").filter(|_| !media).unwrap_or(prompt);
        Some(Prompt::Text(text.as_str()?.to_string()))
    };
    match fields.get(name).ok_or_else(|| fields.missing(name))? {
        prompt @ (Json::String(_) | Json::Object(_)) => Ok(vec![text(prompt).ok_or_else(wrong)?]),
        Json::Array(list) if list.is_empty() => Err(ApiError::field(fields.name(name), "is empty")),
        Json::Array(list) if list[0].is_number() => Ok(vec![ids(list).ok_or_else(wrong)?]),
        Json::Array(list) if list.len() > limits.prompts => {
            let message = format!("has {} entries; at most {} are taken", list.len(), limits.prompts);
            Err(ApiError::field(fields.name(name), message))
        }
        Json::Array(list) => {
            let one = |prompt: &Json| match prompt {
                Json::Array(list) if !list.is_empty() => ids(list),
                prompt => text(prompt),
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
    /// What the text is to lead to.
    suffix: Option<String>,
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
        if fields.integer("best_of", 0..=limits.choices as i64)?.is_some_and(|best| best > sampling.choices as i64) {
            return Err(ApiError::field("best_of", "must not be more than `n`: nothing is written and thrown away"));
        }
        let echo = fields.bool("echo")?.unwrap_or(false);
        sampling.options.prompt_logprobs = echo && sampling.options.logprobs;
        Ok(CompletionBody {
            model: fields.str("model")?.map(str::to_string),
            prompts: prompts(&fields, "prompt", limits)?,
            suffix: fields.str("suffix")?.filter(|suffix| !suffix.is_empty()).map(str::to_string),
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
            requests.extend(self.sampling.requests(model, self.tokens(model, prompt)?)?);
        }
        Ok(requests)
    }

    fn tokens(&self, model: &Model, prompt: &Prompt) -> Result<Vec<u32>, ApiError> {
        match &self.suffix {
            None => prompt.tokens(model),
            Some(suffix) => fill::between(model, &prompt.text(model), suffix)?
                .ok_or_else(|| ApiError::field("suffix", "needs a model with tokens for it, which this one has not")),
        }
    }

    /// How many texts are written.
    pub fn texts(&self) -> usize {
        self.prompts.len() * self.sampling.choices
    }

    /// Where the answer is put together.
    pub fn answer(&self) -> Answer {
        Answer::new(self.texts(), self.sampling.choices, self.sampling.options.logprobs)
    }

    /// The tokens of what text `index` begins with, if their probabilities are wanted: all of the prompt but a token
    /// that was put in front of a text.
    pub fn echoed<'a>(&self, model: &Model, index: usize, choice: &'a Choice) -> &'a [Token] {
        let is_text = !matches!(self.prompts[index / self.sampling.choices], Prompt::Tokens(_));
        match &choice.prompt_tokens[..] {
            [first, rest @ ..] if is_text && model.tokenizer.bos() == Some(first.id) => rest,
            all => all,
        }
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
        let tokens = body.echoed(model, index, choice).iter().chain(&choice.tokens);
        let logprobs = body.sampling.options.logprobs.then(|| logprobs(model, tokens, &mut offset));
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
pub(super) fn logprobs<'a>(model: &Model, tokens: impl Iterator<Item = &'a Token>, offset: &mut usize) -> Json {
    let text = |id| parts::token_text(&model.tokenizer, id);
    let (mut texts, mut values, mut offsets, mut tops) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for token in tokens {
        let text_of_token = text(token.id);
        offsets.push(*offset);
        *offset += text_of_token.chars().count();
        texts.push(text_of_token);
        // The first token of a prompt has none.
        values.push(token.logprob.map(parts::logprob));
        let top = |&(id, value): &(u32, f64)| (text(id), Json::from(parts::logprob(value)));
        tops.push(token.logprob.map(|_| token.top_logprobs.iter().map(top).collect::<Map<_, _>>()));
    }
    json!({"tokens": texts, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets})
}
