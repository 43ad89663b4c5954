//! OpenAI's endpoints: from a body to what becomes of it.

use serde_json::{Value as Json, json};

use super::chat::{self, ChatBody};
use super::chat_stream::ChatStream;
use super::completions::{self, CompletionBody};
use super::completions_stream::CompletionStream;
use super::items::{items, new_id, parts};
use super::parts::shown;
use super::responses::ResponseBody;
use super::responses_stream::ResponseStream;
use crate::answer::Answer;
use crate::context::{Context, Form, Plan};
use crate::error::ApiError;

/// `POST /v1/chat/completions`.
///
/// # Errors
/// What is wrong with the request.
pub fn chat(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let body = ChatBody::read(body, &context.limits, &context.defaults)?;
    let served = context.served.clone();
    let model = served.model.clone();
    let (requests, answer) = body.requests(&model)?;
    let messages = body.conversation.messages.clone();
    let form = match body.stream {
        Some(options) => Form::Live(Box::new(ChatStream::new(model, body, options, answer))),
        None => {
            let prompt =
                requests.first().filter(|_| body.verbose).map(|request| shown(&model.tokenizer, &request.tokens));
            let tell = move |answer: &Answer| {
                let mut whole = chat::whole(&model, &body, answer);
                if let Some(prompt) = &prompt {
                    whole["__verbose"] = json!({ "prompt": prompt });
                }
                whole
            };
            Form::Whole(answer, Box::new(tell))
        }
    };
    Ok(Plan { served, requests, form, messages, rounds: None })
}

/// `POST /v1/completions`.
///
/// # Errors
/// What is wrong with the request.
pub fn completions(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let body = CompletionBody::read(body, &context.limits, &context.defaults)?;
    let served = context.served.clone();
    let model = served.model.clone();
    let requests = body.requests(&model)?;
    let form = match body.stream {
        Some(options) => Form::Live(Box::new(CompletionStream::new(model, body, options))),
        None => Form::Whole(body.answer(), Box::new(move |answer| completions::whole(&model, &body, answer))),
    };
    Ok(Plan { served, requests, form, messages: Vec::new(), rounds: None })
}

/// `POST /v1/responses`.
///
/// # Errors
/// What is wrong with the request.
pub fn responses(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let body = ResponseBody::read(body, &context.limits, &context.defaults, &context.toolbox)?;
    let served = context.served.clone();
    let model = served.model.clone();
    let first = body.first(&model)?;
    let reader = first.as_ref().map(|round| round.reader.clone());
    let answer = body.answer(reader.as_ref());
    let rounds = body.rounds(model.clone(), context.toolbox.clone(), reader).map(Box::new);
    let (requests, messages) = first.map(|round| (round.requests, round.messages)).unwrap_or_default();
    let form = if let Some(options) = body.stream {
        Form::Live(Box::new(ResponseStream::new(model, body, options, answer)))
    } else {
        let tell = move |answer: &Answer| {
            let choice = &answer.choices[0];
            let ids: Vec<String> = parts(choice).iter().map(|part| new_id(part, &body.granted)).collect();
            body.ended(&model, items(&model, choice, &ids, &body.granted), answer)
        };
        Form::Whole(answer, Box::new(tell))
    };
    Ok(Plan { served, requests, form, messages, rounds })
}

/// `POST /v1/responses/input_tokens`: how many tokens the prompt has.
///
/// # Errors
/// What is wrong with the request.
pub fn response_tokens(context: &Context, body: &Json) -> Result<Json, ApiError> {
    let body = ResponseBody::read(body, &context.limits, &context.defaults, &context.toolbox)?;
    let model = &context.served.model;
    Ok(json!({"object": "response.input_tokens", "input_tokens": body.prompt(model)?.len()}))
}
