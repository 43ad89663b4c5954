//! `POST /api/chat`.

use quipu_runtime::chat::Message;
use serde_json::{Map, Value as Json, json};

use super::keep::keep;
use super::lines::{Lines, New};
use super::options::{no_images, sampling, think};
use crate::answer::Answer;
use crate::context::{Context, Form, Plan};
use crate::conversation::Conversation;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::openai::tools;

/// A message of the answer.
fn put(line: &mut Json, new: New<'_>) {
    if line["message"].is_null() {
        line["message"] = json!({"role": "assistant", "content": ""});
    }
    let (name, value) = match new {
        New::Text(text) => ("content", json!(text)),
        New::Thought(text) => ("thinking", json!(text)),
        New::Calls(calls) => ("tool_calls", json!(calls)),
    };
    line["message"][name] = value;
}

/// Reads `model`, `messages`, `stream`, `options`. Without messages nothing is written: so clients have a model loaded.
///
/// # Errors
/// What is wrong with the request.
pub fn chat(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let fields = Fields::of_body(body)?;
    let name = fields.str("model")?;
    let served = context.served.clone();
    let mut sampling = sampling(&fields, &context.limits, &context.defaults)?;
    keep(&fields, &served)?;
    let lines = Lines::new(name.unwrap_or(served.model.id()).to_string(), put, context.loading);
    let list = fields.array("messages", context.limits.messages)?.unwrap_or_default();
    if list.is_empty() {
        return Ok(Plan {
            served,
            requests: Vec::new(),
            form: Form::Now(lines.loaded()),
            messages: Vec::new(),
            rounds: None,
        });
    }
    let messages = list.iter().enumerate().map(|(i, message)| read(message, format!("messages[{i}]")));
    let messages = messages.collect::<Result<Vec<_>, _>>()?;
    let mut conversation = Conversation::new(messages).tools(tools::read(&fields, &context.limits, None)?);
    think(&fields, &served.model, &mut conversation, &mut sampling.options)?;
    let prompt = conversation.prompt(&served.model)?;
    let lines = lines.read_by(&conversation.reader(&served.model, &prompt));
    let mut requests = sampling.requests(&served.model, prompt)?;
    conversation.prepare(&served.model, &mut requests, sampling.shape.as_ref())?;
    Ok(Plan { served, requests, form: form(&fields, lines)?, messages: conversation.messages, rounds: None })
}

/// A stream, unless the request says otherwise.
///
/// # Errors
/// 400 if `stream` is neither true nor false.
pub fn form(fields: &Fields<'_>, lines: Lines) -> Result<Form, ApiError> {
    Ok(match fields.bool("stream")? {
        Some(false) => {
            let answer = lines.answer();
            Form::Whole(answer, Box::new(move |answer: &Answer| lines.whole(answer)))
        }
        _ => Form::Live(Box::new(lines)),
    })
}

fn read(message: &Json, name: String) -> Result<Message, ApiError> {
    let fields = Fields::of(message, name)?;
    no_images(&fields)?;
    let role = match fields.str("role")?.ok_or_else(|| fields.missing("role"))? {
        role @ ("system" | "user" | "assistant" | "tool") => role,
        _ => return Err(fields.wrong("role", "`system`, `user`, `assistant` or `tool`")),
    };
    let mut extra = Map::new();
    if let Some(calls) = fields.array("tool_calls", 256)? {
        extra.insert("tool_calls".into(), calls.to_vec().into());
    }
    for (name, called) in [("tool_name", "name"), ("tool_call_id", "tool_call_id"), ("thinking", "reasoning_content")] {
        extra.extend(fields.str(name)?.map(|text| (called.to_string(), text.into())));
    }
    let content = fields.str("content")?.unwrap_or_default();
    Ok(Message { role: role.into(), content: content.into(), extra, tokens: Vec::new() })
}
