//! `POST /v1/chat/completions`: what is asked, and a whole answer. The stream is in `chat_stream.rs`.

use quipu_runtime::chat::{Message, RenderOptions};
use quipu_runtime::generate::Request;
use serde_json::{Map, Value as Json, json};

use super::sampling::Sampling;
use super::{messages, parts, unsupported};
use crate::answer::{Answer, Choice};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::random;

/// What is asked.
#[derive(Clone, Debug)]
pub struct ChatBody {
    /// Which model.
    pub model: Option<String>,
    /// What was said.
    pub messages: Vec<Message>,
    /// What the template sees besides.
    pub render: RenderOptions,
    /// Whether an answer goes on from what the assistant has said last.
    pub continue_last: bool,
    /// How answers are written.
    pub sampling: Sampling,
    /// Whether they come piece by piece, and how.
    pub stream: Option<StreamOptions>,
}

/// How an answer comes piece by piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    /// Whether the last piece says how much was read and written.
    pub usage: bool,
    /// Whether it is told how far the prompt is read.
    pub progress: bool,
}

impl StreamOptions {
    /// Reads `stream` and what belongs to it.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(fields: &Fields<'_>) -> Result<Option<StreamOptions>, ApiError> {
        let options = fields.object("stream_options")?;
        let usage = options.map(|options| options.bool("include_usage")).transpose()?.flatten();
        let flag = |name| Ok::<_, ApiError>(fields.bool(name)?.unwrap_or(false));
        let progress = flag("return_progress")?;
        Ok(flag("stream")?.then_some(StreamOptions { usage: usage.unwrap_or(false), progress }))
    }
}

impl ChatBody {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(body: &Json, limits: &Limits, defaults: &Defaults) -> Result<ChatBody, ApiError> {
        let fields = Fields::of_body(body)?;
        unsupported::check_tools(&fields)?;
        let mut sampling =
            Sampling::read(&fields, limits, defaults, &["max_completion_tokens", "max_tokens", "n_predict"])?;
        sampling.options.logprobs = fields.bool("logprobs")?.unwrap_or(false);
        if let Some(n) = fields.count("top_logprobs", limits.top_logprobs)? {
            if n > 0 && !sampling.options.logprobs {
                return Err(ApiError::field("top_logprobs", "needs `logprobs`: true"));
            }
            sampling.options.top_logprobs = n;
        }
        let messages = messages::read(&fields, limits)?;
        let generation_prompt = fields.bool("add_generation_prompt")?;
        let continue_last = fields.bool("continue_final_message")?;
        if continue_last == Some(true) && generation_prompt == Some(true) {
            let message = "cannot be true together with `add_generation_prompt`: the answer either goes on or begins";
            return Err(ApiError::field("continue_final_message", message));
        }
        let variables = match fields.object("chat_template_kwargs")? {
            Some(variables) => variables.map().clone(),
            None => Map::new(),
        };
        if fields.get("chat_template").is_some() {
            return Err(ApiError::field("chat_template", "is not taken from requests: templates are programs"));
        }
        Ok(ChatBody {
            model: fields.str("model")?.map(str::to_string),
            messages,
            render: RenderOptions::default()
                .add_generation_prompt(generation_prompt.unwrap_or(true))
                .variables(variables),
            continue_last: continue_last.unwrap_or(true),
            sampling,
            stream: StreamOptions::read(&fields)?,
        })
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    /// When the template refuses, or there is no room.
    pub fn prompt(&self, model: &Model) -> Result<Vec<u32>, ApiError> {
        model.conversation(&self.messages, &self.render, self.continue_last)
    }

    /// What the scheduler is asked for.
    ///
    /// # Errors
    /// Those of [`ChatBody::prompt`].
    pub fn requests(&self, model: &Model) -> Result<Vec<Request>, ApiError> {
        Ok(self.sampling.requests(self.prompt(model)?).collect())
    }

    /// Where the answer is put together.
    pub fn answer(&self) -> Answer {
        Answer::new(self.sampling.choices, self.sampling.choices, self.sampling.options.logprobs)
    }
}

/// The whole answer.
pub fn whole(model: &Model, body: &ChatBody, answer: &Answer) -> Json {
    let choice = |(index, choice): (usize, &Choice)| {
        json!({
            "index": index,
            "message": {"role": "assistant", "content": choice.text},
            "logprobs": logprobs(model, choice),
            "finish_reason": parts::finish_reason(choice),
        })
    };
    json!({
        "id": random::id("chatcmpl-"),
        "object": "chat.completion",
        "created": random::now(),
        "model": body.model.as_deref().unwrap_or(model.id()),
        "system_fingerprint": parts::FINGERPRINT,
        "choices": answer.choices.iter().enumerate().map(choice).collect::<Json>(),
        "usage": parts::usage(answer.usage()),
        "timings": parts::timings(&answer.choices),
    })
}

fn logprobs(model: &Model, choice: &Choice) -> Json {
    if choice.tokens.is_empty() {
        return Json::Null;
    }
    let tokens = choice.tokens.iter().map(|token| parts::token_logprobs(&model.tokenizer, token));
    json!({"content": tokens.collect::<Json>(), "refusal": null})
}
