//! The items that a response is made of.

use serde_json::{Value as Json, json};

use super::parts::{finish_reason, token_logprobs};
use crate::answer::Choice;
use crate::mcp::granted::{Grant, Granted};
use crate::model::Model;
use crate::random;
use crate::said::{Call, Part};

/// What a part becomes.
pub enum Kind<'a> {
    /// A message.
    Text,
    /// Reasoning.
    Thought,
    /// A call that the client runs.
    Function(&'a Call),
    /// A call that the server runs.
    Hosted(&'a Call, &'a Grant),
    /// The question whether it may.
    Asked(&'a Call, &'a Grant),
}

impl<'a> Kind<'a> {
    /// That of `part`.
    pub fn of(part: &'a Part, granted: &'a Granted) -> Kind<'a> {
        match part {
            Part::Text(_) => Kind::Text,
            Part::Thought(_) => Kind::Thought,
            Part::Call(call) => match granted.find(&call.name) {
                None => Kind::Function(call),
                // Nobody is asked about what breaks off.
                Some(grant) if needs_consent(call, grant) && call.complete => Kind::Asked(call, grant),
                Some(grant) => Kind::Hosted(call, grant),
            },
        }
    }
}

/// Whether the client has to be asked before this is run.
pub fn needs_consent(call: &Call, grant: &Grant) -> bool {
    grant.asks && call.approval.is_none()
}

/// An id for the item that `part` becomes; its beginning says what that is.
pub fn new_id(part: &Part, granted: &Granted) -> String {
    random::id(match Kind::of(part, granted) {
        Kind::Text => "msg_",
        Kind::Thought => "rs_",
        Kind::Function(_) => "fc_",
        Kind::Hosted(..) => "mcp_",
        Kind::Asked(..) => "mcpr_",
    })
}

/// The item that a part is.
pub fn item(part: &Part, id: &str, status: &str, logprobs: Json, granted: &Granted) -> Json {
    match Kind::of(part, granted) {
        Kind::Text => {
            let content = json!([content(part, logprobs)]);
            json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": content})
        }
        Kind::Thought => {
            let content = json!([content(part, logprobs)]);
            json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
        }
        Kind::Function(call) => json!({
            "id": id,
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }),
        Kind::Hosted(call, grant) => json!({
            "id": id,
            "type": "mcp_call",
            "status": match &call.outcome {
                Some(Ok(_)) => "completed",
                Some(Err(_)) => "failed",
                None if status == "in_progress" => status,
                None => "incomplete",
            },
            "approval_request_id": call.approval,
            "server_label": grant.label,
            "name": call.name,
            "arguments": call.arguments,
            "output": call.outcome.as_ref().and_then(|outcome| outcome.as_ref().ok()),
            "error": call.outcome.as_ref().and_then(|outcome| Some(outcome.as_ref().err()?.to_json())),
        }),
        Kind::Asked(call, grant) => json!({
            "id": id,
            "type": "mcp_approval_request",
            "server_label": grant.label,
            "name": call.name,
            "arguments": call.arguments,
        }),
    }
}

/// The same before anything of it is there.
pub fn begun(part: &Part, id: &str, granted: &Granted) -> Json {
    let mut item = item(part, id, "in_progress", json!([]), granted);
    match Kind::of(part, granted) {
        Kind::Text | Kind::Thought => item["content"] = json!([]),
        Kind::Function(_) => item["arguments"] = "".into(),
        Kind::Hosted(..) => {
            (item["status"], item["arguments"]) = ("in_progress".into(), "".into());
            (item["output"], item["error"]) = (Json::Null, Json::Null);
        }
        Kind::Asked(..) => {}
    }
    item
}

/// The text within an item.
pub fn content(part: &Part, logprobs: Json) -> Json {
    match part {
        Part::Text(text) => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}),
        Part::Thought(text) => json!({"type": "reasoning_text", "text": text}),
        Part::Call(_) => Json::Null,
    }
}

/// The parts of an answer; without any it is an empty text.
pub fn parts(choice: &Choice) -> Vec<Part> {
    match &choice.said.parts[..] {
        [] => vec![Part::Text(String::new())],
        parts => parts.to_vec(),
    }
}

/// All items of an answer that has ended, with these ids.
pub fn items(model: &Model, choice: &Choice, ids: &[String], granted: &Granted) -> Vec<Json> {
    let parts = parts(choice);
    let one = |(i, part): (usize, &Part)| {
        let status = if i + 1 == parts.len() { last_status(choice) } else { "completed" };
        item(part, &ids[i], status, probabilities(model, choice), granted)
    };
    parts.iter().enumerate().map(one).collect()
}

/// The items by which a client would tell, in its next request, of parts that are complete.
pub fn history(parts: &[Part], granted: &Granted) -> Vec<Json> {
    parts.iter().map(|part| item(part, &new_id(part, granted), "completed", json!([]), granted)).collect()
}

/// Those of the tokens of an answer that is a text and nothing else; of others nobody knows which tokens are the text.
pub fn probabilities(model: &Model, choice: &Choice) -> Json {
    if choice.said.parts.len() > 1 { json!([]) } else { logprobs(model, choice) }
}

/// The status of a response whose text has ended.
pub fn status(choice: &Choice) -> &'static str {
    if incomplete(choice).is_some() { "incomplete" } else { "completed" }
}

/// The status of its last item: a response that a stop string has ended is complete, and a call that it has cut is not.
pub fn last_status(choice: &Choice) -> &'static str {
    if choice.is_cut_in_a_call() { "incomplete" } else { status(choice) }
}

/// Why the text of a response is not complete, if it is not.
pub fn incomplete(choice: &Choice) -> Option<&'static str> {
    match finish_reason(choice) {
        Some("length") => Some("max_output_tokens"),
        Some("content_filter") => Some("content_filter"),
        _ => None,
    }
}

/// The probabilities of a text's tokens, if they are asked for.
fn logprobs(model: &Model, choice: &Choice) -> Json {
    choice.tokens.iter().map(|token| token_logprobs(&model.tokenizer, token)).collect()
}
