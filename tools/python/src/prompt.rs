//! Prompts of all kinds as requests.

use pyo3::prelude::*;
use quipu_runtime::chat::answer::AnswerReader;
use quipu_runtime::generate::{GenerateOptions, Request, prompt_tokens};
use quipu_server::conversation::Conversation;
use quipu_server::fields::Fields;
use quipu_server::model::Model;
use quipu_server::openai::{messages, tools};
use quipu_server::options::Limits;
use quipu_server::shape::Asked;
use quipu_server::thinking::Thinking;
use serde_json::Value as Json;

use crate::failure::{Error, refused, sentence};
use crate::options::{Limit, Writing};

/// What is to be continued.
#[derive(Debug, FromPyObject)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// The messages of a chat with all that belongs to them, as JSON: `messages`, `tools`, `tool_choice`, `variables`.
    Chat((String,)),
    /// Tokens, as they are.
    Tokens(Vec<u32>),
}

/// Tokens of a text at most where nobody says otherwise, as in `quipu run`, and of an answer of the demo, whose tales
/// find no end.
const MOST: usize = 256;

/// A request, and who reads what comes of it if that is an answer.
pub type Asking = (Request, Option<AnswerReader>);

/// What a model is asked for, for each of `prompts`.
///
/// # Errors
/// When a prompt cannot be one.
pub fn requests(model: &Model, prompts: Vec<Prompt>, writing: &Writing) -> PyResult<Vec<Asking>> {
    let asked = match &writing.shape {
        Some((shape, name)) => Some(Asked::new(shape.clone(), *name).map_err(refused)?),
        None => None,
    };
    let grammar = asked.as_ref().map(|asked| asked.grammar(model)).transpose().map_err(refused)?;
    let (seeds, count) = (writing.seeds(prompts.len())?, prompts.len());
    let mut requests = Vec::with_capacity(count);
    for (number, (prompt, seed)) in prompts.into_iter().zip(seeds).enumerate() {
        let most = match (writing.limit, &prompt) {
            (Limit::Given(most), _) => most,
            (Limit::Missing, Prompt::Chat(_)) if model.id() != "demo" => None,
            (Limit::Missing, _) => Some(MOST),
        };
        let mut options = writing.options.clone().max_tokens(most).grammar(grammar.clone());
        options.sampler.seed = seed;
        let request = request(model, prompt, options, writing.plain, asked.as_ref());
        requests.push(request.map_err(|error| match count {
            1 => error,
            _ => Error::new_err(format!("prompt {number}: {}", sentence(&error))),
        })?);
    }
    Ok(requests)
}

fn request(
    model: &Model,
    prompt: Prompt,
    options: GenerateOptions,
    plain: bool,
    asked: Option<&Asked>,
) -> PyResult<Asking> {
    match prompt {
        Prompt::Text(text) => Ok((Request::new(prompt_tokens(&model.tokenizer, &text, !plain), options), None)),
        Prompt::Tokens(tokens) => Ok((Request::new(tokens, options), None)),
        Prompt::Chat((body,)) => chat(model, &body, options, asked),
    }
}

/// A conversation in OpenAI's form, read by the server's code.
///
/// # Errors
/// When it is none.
pub fn conversation(body: &str) -> PyResult<Conversation> {
    let body: Json =
        serde_json::from_str(body).map_err(|error| Error::new_err(format!("the chat is no JSON: {error}")))?;
    let limits = Limits::default();
    let read = || {
        let fields = Fields::of_body(&body)?;
        let mut conversation = Conversation::new(messages::read(&fields, &limits)?);
        if let Some(variables) = fields.object("variables")? {
            conversation.render.variables = variables.map().clone();
        }
        Ok(conversation.tools(tools::read(&fields, &limits, None)?))
    };
    read().map_err(refused)
}

fn chat(model: &Model, body: &str, mut options: GenerateOptions, asked: Option<&Asked>) -> PyResult<Asking> {
    let mut conversation = conversation(body)?;
    if let Some(budget) = options.thinking_budget {
        Thinking::Tokens(budget).apply(&mut conversation, &mut options);
    }
    let prompt = conversation.prompt(model).map_err(refused)?;
    let reader = conversation.reader(model, &prompt);
    let mut requests = [Request::new(prompt, options)];
    conversation.prepare(model, &mut requests, asked).map_err(refused)?;
    let [request] = requests;
    Ok((request, Some(reader)))
}
