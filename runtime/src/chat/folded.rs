//! Conversations for templates in which the system has no turn.

use serde_json::Value as Json;

use super::message::Message;

/// The same conversation where the system's message stands before what the user says first, as Gemma 3's template puts
/// it; `None` where it does not begin with the system and the user, both in words.
pub(super) fn system_in_first_turn(messages: &[Message]) -> Option<Vec<Message>> {
    let [system, first, ..] = messages else { return None };
    let (Json::String(told), Json::String(said)) = (&system.content, &first.content) else { return None };
    if system.role != "system" || first.role != "user" {
        return None;
    }
    let first = Message { content: format!("{told}\n\n{said}").into(), ..first.clone() };
    Some([&[first], &messages[2..]].concat())
}
