//! Anthropic's endpoints: from a body to what becomes of it.

use serde_json::{Value as Json, json};

use super::messages::{MessagesBody, blocks, stop, usage};
use super::messages_stream::MessageStream;
use crate::answer::Answer;
use crate::context::{Context, Form, Plan};
use crate::error::ApiError;
use crate::random;

/// `POST /v1/messages`.
///
/// # Errors
/// What is wrong with the request.
pub fn messages(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let body = MessagesBody::read(body, &context.limits, &context.defaults)?;
    let served = context.served.clone();
    let model = served.model.clone();
    let prompt = body.prompt(&model)?;
    let tokens = prompt.len();
    let (requests, answer) = body.requests(&model, prompt)?;
    let messages = body.messages().to_vec();
    let form = if body.stream {
        Form::Live(Box::new(MessageStream::new(model, body, answer, tokens)))
    } else {
        let tell = move |answer: &Answer| {
            let choice = &answer.choices[0];
            body.message(&model, &random::id("msg_"), blocks(&choice.said), stop(choice), usage(answer.usage()))
        };
        Form::Whole(answer, Box::new(tell))
    };
    Ok(Plan { served, requests, form, messages, rounds: None })
}

/// `POST /v1/messages/count_tokens`.
///
/// # Errors
/// What is wrong with the request.
pub fn count_tokens(context: &Context, body: &Json) -> Result<Json, ApiError> {
    let body = MessagesBody::read(body, &context.limits, &context.defaults)?;
    let model = &context.served.model;
    Ok(json!({"input_tokens": body.prompt(model)?.len()}))
}
