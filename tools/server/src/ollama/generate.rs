//! `POST /api/generate`.

use quipu_runtime::chat::Message;
use quipu_runtime::chat::answer::{AnswerReader, ReadOptions};
use serde_json::{Value as Json, json};

use super::chat::form;
use super::keep::keep;
use super::lines::{Lines, New};
use super::options::{no_images, sampling, think};
use crate::context::{Context, Form, Plan};
use crate::conversation::Conversation;
use crate::error::ApiError;
use crate::fields::Fields;

fn put(line: &mut Json, new: New<'_>) {
    if line["response"].is_null() {
        line["response"] = "".into();
    }
    match new {
        New::Text(text) => line["response"] = text.into(),
        New::Thought(text) => line["thinking"] = text.into(),
        // No tools are declared here.
        New::Calls(_) => {}
    }
}

/// Reads `model`, `prompt`, `system`, `raw`, `stream`, `options`. The prompt is what a user says, in the model's
/// template; with `raw`, or for a model that has none, it is gone on with as it is.
///
/// # Errors
/// What is wrong with the request.
pub fn generate(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let fields = Fields::of_body(body)?;
    let name = fields.str("model")?;
    let served = context.served.clone();
    no_images(&fields)?;
    for (name, nothing) in [("suffix", json!("")), ("template", json!("")), ("context", json!([]))] {
        if fields.get(name).is_some_and(|value| *value != nothing) {
            return Err(ApiError::field(name, "is not supported"));
        }
    }
    let mut sampling = sampling(&fields, &context.limits, &context.defaults)?;
    keep(&fields, &served)?;
    let lines = Lines::new(name.unwrap_or(served.model.id()).to_string(), put, context.loading);
    let Some(prompt) = fields.str("prompt")?.filter(|prompt| !prompt.is_empty()) else {
        return Ok(Plan {
            served,
            requests: Vec::new(),
            form: Form::Now(lines.loaded()),
            messages: Vec::new(),
            rounds: None,
        });
    };
    let model = &served.model;
    let mut conversation = None;
    let (tokens, reader) = if fields.bool("raw")? == Some(true) || model.template().is_err() {
        (model.text(prompt)?, AnswerReader::new(ReadOptions { thinking: false, ..ReadOptions::default() }, ""))
    } else {
        let system = fields.str("system")?.filter(|system| !system.is_empty());
        let messages: Vec<Message> = system
            .map(|system| Message::new("system", system))
            .into_iter()
            .chain([Message::new("user", prompt)])
            .collect();
        let asked = conversation.insert(Conversation::new(messages));
        think(&fields, model, asked, &mut sampling.options)?;
        let tokens = asked.prompt(model)?;
        let reader = asked.reader(model, &tokens);
        (tokens, reader)
    };
    let mut requests = sampling.requests(model, tokens)?;
    let messages = match conversation {
        Some(conversation) => {
            conversation.prepare(model, &mut requests, sampling.shape.as_ref())?;
            conversation.messages
        }
        None => Vec::new(),
    };
    Ok(Plan { served, requests, form: form(&fields, lines.read_by(&reader))?, messages, rounds: None })
}
