//! Messages of a conversation.

use quipu_runtime::chat::Message;
use serde_json::{Map, Value as Json, json};

use crate::conversation::arguments;
use crate::error::ApiError;
use crate::fields::{Fields, wrong};
use crate::options::Limits;

/// Reads `messages`.
///
/// # Errors
/// 400 with the name of the field.
pub fn read(fields: &Fields<'_>, limits: &Limits) -> Result<Vec<Message>, ApiError> {
    let list = fields.array("messages", limits.messages)?.ok_or_else(|| fields.missing("messages"))?;
    if list.is_empty() {
        return Err(ApiError::field(fields.name("messages"), "is empty"));
    }
    list.iter().enumerate().map(|(i, message)| read_one(message, format!("messages[{i}]"))).collect()
}

fn read_one(message: &Json, name: String) -> Result<Message, ApiError> {
    let fields = Fields::of(message, name)?;
    let role = match fields.str("role")?.ok_or_else(|| fields.missing("role"))? {
        "developer" => "system",
        "function" => "tool",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        _ => return Err(fields.wrong("role", "`system`, `developer`, `user`, `assistant`, `tool` or `function`")),
    };
    let content = match fields.get("content") {
        None => Json::Null,
        Some(Json::String(text)) => Json::String(text.clone()),
        Some(Json::Array(parts)) => Json::String(text_of(parts, &fields.name("content"))?),
        Some(_) => return Err(fields.wrong("content", "a string or a list of parts")),
    };
    let mut extra = Map::new();
    for name in ["name", "tool_call_id", "reasoning_content"] {
        if let Some(text) = fields.str(name)? {
            extra.insert(name.into(), text.into());
        }
    }
    if let Some(calls) = fields.array("tool_calls", 256)? {
        let calls: Vec<Json> = calls.iter().map(with_arguments).collect();
        extra.insert("tool_calls".into(), calls.into());
    }
    // The older form of a single call.
    if let Some(call) = fields.object("function_call")? {
        extra
            .insert("tool_calls".into(), json!([with_arguments(&json!({"type": "function", "function": call.map()}))]));
    }
    if content.is_null() && !extra.contains_key("tool_calls") && role != "assistant" {
        return Err(fields.missing("content"));
    }
    Ok(Message { role: role.into(), content, extra, tokens: Vec::new() })
}

/// The text of parts, one below the other.
///
/// # Errors
/// 400 for a part that is no text, 501 for an image.
pub fn text_of(parts: &[Json], name: &str) -> Result<String, ApiError> {
    let mut text = String::new();
    for (i, part) in parts.iter().enumerate() {
        let fields = Fields::of(part, format!("{name}[{i}]"))?;
        if matches!(fields.str("type")?, Some("image_url" | "input_image")) {
            return Err(ApiError::images(fields.name("type")));
        }
        if !matches!(fields.str("type")?, Some("text" | "input_text" | "output_text") | None) {
            return Err(wrong(fields.name("type"), "`text`: this model reads nothing else", &part["type"]));
        }
        if i > 0 {
            text.push('\n');
        }
        text.push_str(fields.str("text")?.ok_or_else(|| fields.missing("text"))?);
    }
    Ok(text)
}

/// A call with its arguments as the object that templates print, and not as the text that clients send.
fn with_arguments(call: &Json) -> Json {
    let mut call = call.clone();
    if let Some(text) = call.pointer_mut("/function/arguments") {
        *text = arguments(text);
    }
    call
}
