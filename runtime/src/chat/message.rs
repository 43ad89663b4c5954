//! What was said.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// A string, or a list of parts if the template takes one; null when there is none.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub content: Json,
    /// Whatever else the template reads, such as `tool_calls`.
    #[serde(flatten)]
    pub extra: Map<String, Json>,
    /// The tokens that a model has written for [`Message::content`], if they are known: so many of them as their text
    /// is a beginning of it. A prompt then has them again, and not what a tokenizer makes of the text.
    #[serde(skip)]
    pub tokens: Vec<u32>,
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: Json::String(content.into()), extra: Map::new(), tokens: Vec::new() }
    }

    /// A model's answer, with the tokens that it has written.
    pub fn answer(content: impl Into<String>, tokens: Vec<u32>) -> Message {
        Message { tokens, ..Message::new("assistant", content) }
    }
}
