//! OpenAI's endpoints: from a body to what becomes of it.

use serde_json::Value as Json;

use super::chat::{self, ChatBody};
use super::chat_stream::ChatStream;
use super::completions::{self, CompletionBody};
use super::completions_stream::CompletionStream;
use crate::context::{Context, Form, Plan};
use crate::error::ApiError;

/// `POST /v1/chat/completions`.
///
/// # Errors
/// What is wrong with the request.
pub fn chat(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let body = ChatBody::read(body, &context.limits, &context.defaults)?;
    let served = context.model(body.model.as_deref())?.clone();
    let model = served.model.clone();
    let requests = body.requests(&model)?;
    let form = match body.stream {
        Some(options) => Form::Live(Box::new(ChatStream::new(model, &body, options))),
        None => Form::Whole(body.answer(), Box::new(move |answer| chat::whole(&model, &body, answer))),
    };
    Ok(Plan { served, requests, form })
}

/// `POST /v1/completions`.
///
/// # Errors
/// What is wrong with the request.
pub fn completions(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let body = CompletionBody::read(body, &context.limits, &context.defaults)?;
    let served = context.model(body.model.as_deref())?.clone();
    let model = served.model.clone();
    let requests = body.requests(&model)?;
    let form = match body.stream {
        Some(options) => Form::Live(Box::new(CompletionStream::new(model, body, options))),
        None => Form::Whole(body.answer(), Box::new(move |answer| completions::whole(&model, &body, answer))),
    };
    Ok(Plan { served, requests, form })
}
