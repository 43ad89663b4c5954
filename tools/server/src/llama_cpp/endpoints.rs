//! From a completion to what becomes of it.

use quipu_runtime::generate::Request;
use serde_json::Value as Json;

use super::completion::CompletionBody;
use super::completion_stream::CompletionStream;
use crate::answer::Answer;
use crate::context::{Context, Form, Plan};
use crate::error::ApiError;

/// What becomes of a completion.
///
/// # Errors
/// When there is no room for a prompt.
pub fn plan(mut body: CompletionBody, context: &Context) -> Result<Plan, ApiError> {
    let served = context.served.clone();
    let model = served.model.clone();
    body.read = body.prompts.iter().map(|prompt| prompt.tokens(&model)).collect::<Result<_, _>>()?;
    let mut requests: Vec<Request> = Vec::new();
    for prompt in &body.read {
        requests.extend(body.sampling.requests(&model, prompt.clone())?);
    }
    let form = match body.stream {
        Some(options) => Form::Live(Box::new(CompletionStream::new(model, body, options, requests.len()))),
        None => {
            let answer = Answer::new(requests.len(), body.sampling.choices, true);
            Form::Whole(answer, Box::new(move |answer| body.whole(&model, answer)))
        }
    };
    Ok(Plan { served, requests, form, messages: Vec::new(), rounds: None })
}

/// `POST /completion`.
///
/// # Errors
/// What is wrong with the request.
pub fn completion(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    plan(CompletionBody::read(body, &context.limits, &context.defaults)?, context)
}
