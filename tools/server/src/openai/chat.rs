//! `POST /v1/chat/completions`: what is asked, and a whole answer. The stream is in `chat_stream.rs`.

use quipu_runtime::chat::RenderOptions;
use quipu_runtime::generate::Request;
use serde_json::{Map, Value as Json, json};

use super::sampling::Sampling;
use super::{messages, parts, tools};
use crate::answer::{Answer, Choice};
use crate::conversation::Conversation;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Model;
use crate::options::{Defaults, Limits};
use crate::random;
use crate::said::Call;
use crate::thinking::Thinking;

/// What is asked.
#[derive(Clone, Debug)]
pub struct ChatBody {
    /// Which model.
    pub model: Option<String>,
    /// What was said, and what the model may do with it.
    pub conversation: Conversation,
    /// Whether calls are told in the older form, which has one for each answer.
    pub functions: bool,
    /// How answers are written.
    pub sampling: Sampling,
    /// Whether they come piece by piece, and how.
    pub stream: Option<StreamOptions>,
    /// Whether a whole answer shows the prompt that the template made.
    pub verbose: bool,
}

/// How an answer comes piece by piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    /// Whether the last piece says how much was read and written.
    pub usage: bool,
    /// Whether it is told how far the prompt is read.
    pub progress: bool,
    /// Whether each piece tells how long things took until then.
    pub timings: bool,
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
        let (progress, timings) = (flag("return_progress")?, flag("timings_per_token")?);
        Ok(flag("stream")?.then_some(StreamOptions { usage: usage.unwrap_or(false), progress, timings }))
    }
}

impl ChatBody {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 with the name of the field.
    pub fn read(body: &Json, limits: &Limits, defaults: &Defaults) -> Result<ChatBody, ApiError> {
        let fields = Fields::of_body(body)?;
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
        if let [.., before, last] = &messages[..]
            && before.role == "assistant"
            && last.role == "assistant"
        {
            let message = "ends with two messages of the assistant: only one can be gone on with";
            return Err(ApiError::field("messages", message));
        }
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
        let functions = fields.get("functions").is_some();
        let mut tools = tools::read(&fields, limits, None)?;
        tools.parallel &= !functions;
        let render =
            RenderOptions::default().add_generation_prompt(generation_prompt.unwrap_or(true)).variables(variables);
        let thinking = thinking_apart(&fields)?;
        let continue_last = continue_last.unwrap_or(true);
        let mut conversation = Conversation { messages, render, continue_last, tools, thinking };
        Thinking::read(&fields, fields.str("reasoning_effort")?)?.apply(&mut conversation, &mut sampling.options);
        Ok(ChatBody {
            model: fields.str("model")?.map(str::to_string),
            conversation,
            functions,
            sampling,
            stream: StreamOptions::read(&fields)?,
            verbose: fields.bool("verbose")?.unwrap_or(false),
        })
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    /// When the template refuses, or there is no room.
    pub fn prompt(&self, model: &Model) -> Result<Vec<u32>, ApiError> {
        self.conversation.prompt(model)
    }

    /// What the scheduler is asked for, and where the answers are put together.
    ///
    /// # Errors
    /// Those of [`ChatBody::prompt`].
    pub fn requests(&self, model: &Model) -> Result<(Vec<Request>, Answer), ApiError> {
        let prompt = self.prompt(model)?;
        let reader = self.conversation.reader(model, &prompt);
        let mut requests = self.sampling.requests(model, prompt)?;
        self.conversation.prepare(model, &mut requests, self.sampling.shape.as_ref())?;
        let keep_tokens = self.sampling.options.logprobs && self.stream.is_none();
        let answer = Answer::new(self.sampling.choices, self.sampling.choices, keep_tokens).read_by(&reader);
        Ok((requests, answer))
    }

    /// Why a text has ended.
    pub fn finish_reason(&self, choice: &Choice) -> Option<&'static str> {
        match parts::finish_reason(choice) {
            // Who reads that there are calls runs them.
            Some("stop") if choice.is_cut_in_a_call() => Some("stop"),
            Some("stop") if choice.said.calls().next().is_some() => {
                Some(if self.functions { "function_call" } else { "tool_calls" })
            }
            reason => reason,
        }
    }

    /// A call as an answer has it; `number` is its place among them.
    pub fn call(&self, call: &Call) -> Json {
        let function = json!({"name": call.name, "arguments": call.arguments});
        if self.functions { function } else { json!({"id": call.id, "type": "function", "function": function}) }
    }
}

/// Whether thoughts are told apart: llama.cpp's `reasoning_format`.
fn thinking_apart(fields: &Fields<'_>) -> Result<bool, ApiError> {
    match fields.str("reasoning_format")? {
        None | Some("auto" | "deepseek" | "deepseek-legacy") => Ok(true),
        Some("none") => Ok(false),
        Some(_) => Err(fields.wrong("reasoning_format", "`auto`, `deepseek` or `none`")),
    }
}

/// The whole answer.
pub fn whole(model: &Model, body: &ChatBody, answer: &Answer) -> Json {
    let choice = |(index, choice): (usize, &Choice)| {
        json!({
            "index": index,
            "message": message(body, choice),
            "logprobs": logprobs(model, choice),
            "finish_reason": body.finish_reason(choice),
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

fn message(body: &ChatBody, choice: &Choice) -> Json {
    let (text, thought) = (choice.said.text(), choice.said.thought());
    let mut calls: Vec<Json> = choice.said.calls().map(|call| body.call(call)).collect();
    let content = if text.is_empty() && !calls.is_empty() { Json::Null } else { text.into() };
    let mut message = json!({"role": "assistant", "content": content});
    if !thought.is_empty() {
        message["reasoning_content"] = thought.into();
    }
    if body.functions && !calls.is_empty() {
        message["function_call"] = calls.swap_remove(0);
    } else if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    message
}

fn logprobs(model: &Model, choice: &Choice) -> Json {
    if choice.tokens.is_empty() {
        return Json::Null;
    }
    let tokens = choice.tokens.iter().map(|token| parts::token_logprobs(&model.tokenizer, token));
    json!({"content": tokens.collect::<Json>(), "refusal": null})
}
