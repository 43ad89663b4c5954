//! How a dialect writes an answer piece by piece.

use serde_json::Value as Json;

use crate::engine::Heard;
use crate::error::ApiError;

/// Writes an answer as it comes, in one dialect.
pub trait Writer: Send + Sync {
    /// The type of what it writes.
    fn content_type(&self) -> &'static str;

    /// Before anything is heard.
    fn start(&mut self, out: &mut String);

    /// Something has happened to one of the texts.
    ///
    /// # Errors
    /// What has gone wrong, if that is what happened. Then [`Writer::fail`] is the last to be called.
    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError>;

    /// All texts have ended.
    fn end(&mut self, out: &mut String);

    /// Something went wrong after the first piece, so that it is too late for a status.
    fn fail(&mut self, error: &ApiError, out: &mut String);

    /// A sign of life while there is nothing else to say.
    fn ping(&self, out: &mut String);
}

/// Server-sent events: what such a stream's type is.
pub const EVENTS: &str = "text/event-stream";

/// Writes an event without a name.
pub fn event(data: &Json, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

/// Writes an event with a name.
pub fn named_event(name: &str, data: &Json, out: &mut String) {
    out.push_str("event: ");
    out.push_str(name);
    out.push('\n');
    event(data, out);
}

/// A comment, which clients skip.
pub fn comment(out: &mut String) {
    out.push_str(": ping\n\n");
}
