//! Texts, tokens and conversations, each made of another, without a model having to run.

use quipu_runtime::tokenizer::Tokenizer;
use serde_json::{Value as Json, json};

use crate::context::Context;
use crate::error::ApiError;
use crate::fields::{Fields, token_id};
use crate::openai::chat::ChatBody;
use crate::openai::parts;

/// `POST /tokenize`: `content`, `add_special`, `parse_special`, `with_pieces`.
///
/// # Errors
/// What is wrong with the request; so it is with all of these.
pub fn tokenize(context: &Context, body: &Json) -> Result<Json, ApiError> {
    let fields = Fields::of_body(body)?;
    let model = &context.served.model;
    let text = fields.str("content")?.ok_or_else(|| fields.missing("content"))?;
    let (add, parse) = (fields.bool("add_special")?, fields.bool("parse_special")?);
    let tokens = model.tokenizer.encode(text, add.unwrap_or(false), parse.unwrap_or(true));
    if fields.bool("with_pieces")? != Some(true) {
        return Ok(json!({ "tokens": tokens }));
    }
    let pieces = tokens.iter().map(|&id| json!({"id": id, "piece": piece(&model.tokenizer, id)}));
    Ok(json!({"tokens": pieces.collect::<Json>()}))
}

/// A token's text, or its bytes where they are no text by themselves.
fn piece(tokenizer: &Tokenizer, id: u32) -> Json {
    let bytes = tokenizer.token_bytes(id, true);
    std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), Json::from)
}

/// `POST /detokenize`: `tokens`.
///
/// # Errors
/// See [`tokenize`].
pub fn detokenize(context: &Context, body: &Json) -> Result<Json, ApiError> {
    let fields = Fields::of_body(body)?;
    let model = &context.served.model;
    let list = fields.array("tokens", usize::MAX)?.ok_or_else(|| fields.missing("tokens"))?;
    let tokens = list.iter().map(token_id).collect::<Option<Vec<u32>>>();
    let tokens = tokens.ok_or_else(|| fields.wrong("tokens", "a list of token ids"))?;
    Ok(json!({"content": parts::shown(&model.tokenizer, &tokens)}))
}

/// `POST /apply-template`: the fields of a chat completion; the prompt as text.
///
/// # Errors
/// See [`tokenize`].
pub fn apply_template(context: &Context, body: &Json) -> Result<Json, ApiError> {
    let body = ChatBody::read(body, &context.limits, &context.defaults)?;
    let model = &context.served.model;
    Ok(json!({"prompt": body.conversation.text(model)?}))
}

/// `POST /v1/chat/completions/input_tokens`: how many tokens the prompt of a chat completion has.
///
/// # Errors
/// See [`tokenize`].
pub fn input_tokens(context: &Context, body: &Json) -> Result<Json, ApiError> {
    let body = ChatBody::read(body, &context.limits, &context.defaults)?;
    let model = &context.served.model;
    Ok(json!({"object": "response.input_tokens", "input_tokens": body.prompt(model)?.len()}))
}
