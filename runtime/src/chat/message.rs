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
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: Json::String(content.into()), extra: Map::new() }
    }
}
