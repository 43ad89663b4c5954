//! The items that a response is made of.

use serde_json::{Value as Json, json};

use super::responses::{last_status, logprobs};
use crate::answer::Choice;
use crate::model::Model;
use crate::said::Part;

/// The beginning of an item's id, which says what it is.
pub fn prefix(part: &Part) -> &'static str {
    match part {
        Part::Text(_) => "msg_",
        Part::Thought(_) => "rs_",
        Part::Call(_) => "fc_",
    }
}

/// The item that a part is.
pub fn item(part: &Part, id: &str, status: &str, logprobs: Json) -> Json {
    match part {
        Part::Text(_) => {
            let content = json!([content(part, logprobs)]);
            json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": content})
        }
        Part::Thought(_) => {
            let content = json!([content(part, logprobs)]);
            json!({"id": id, "type": "reasoning", "status": status, "summary": [], "content": content})
        }
        Part::Call(call) => json!({
            "id": id,
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
        }),
    }
}

/// The same before anything of it is there.
pub fn begun(part: &Part, id: &str) -> Json {
    let mut item = item(part, id, "in_progress", json!([]));
    match part {
        Part::Call(_) => item["arguments"] = "".into(),
        _ => item["content"] = json!([]),
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
pub fn items(model: &Model, choice: &Choice, ids: &[String]) -> Vec<Json> {
    let parts = parts(choice);
    let one = |(i, part): (usize, &Part)| {
        let last = i + 1 == parts.len();
        item(part, &ids[i], if last { last_status(choice) } else { "completed" }, probabilities(model, choice))
    };
    parts.iter().enumerate().map(one).collect()
}

/// Those of the tokens of an answer that is a text and nothing else; of others nobody knows which tokens are the text.
pub fn probabilities(model: &Model, choice: &Choice) -> Json {
    if choice.said.parts.len() > 1 { json!([]) } else { logprobs(model, choice) }
}
