//! Anthropic's dialect. Its reference is the messages API as anthropic's Python client types it.

pub mod endpoints;
pub mod messages;
mod messages_stream;
pub mod tools;
