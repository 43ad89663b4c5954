//! The stream of a message: its start, one block of text, its end.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::messages::{MessagesBody, stop, usage};
use crate::answer::{Answer, News, Usage};
use crate::engine::Heard;
use crate::error::{ApiError, Dialect};
use crate::model::Model;
use crate::random;
use crate::stream::{EVENTS, Writer, named_event};

/// Writes the stream.
pub struct MessageStream {
    model: Arc<Model>,
    body: MessagesBody,
    answer: Answer,
    /// Tokens of the prompt.
    prompt: usize,
}

/// Writes an event, which has its name in its data as well.
fn write(name: &str, mut data: Json, out: &mut String) {
    data["type"] = name.into();
    named_event(name, &data, out);
}

fn text(delta: &str, out: &mut String) {
    if !delta.is_empty() {
        let delta = json!({"type": "text_delta", "text": delta});
        write("content_block_delta", json!({"index": 0, "delta": delta}), out);
    }
}

impl MessageStream {
    /// For this request.
    pub fn new(model: Arc<Model>, body: MessagesBody, answer: Answer, prompt: usize) -> MessageStream {
        MessageStream { model, body, answer, prompt }
    }
}

impl Writer for MessageStream {
    fn content_type(&self) -> &'static str {
        EVENTS
    }

    fn start(&mut self, out: &mut String) {
        // What of it need not be read is known only when its turn comes, and stands in the last event.
        let read = usage(Usage { prompt: self.prompt, ..Usage::default() });
        let message = self.body.message(&self.model, &random::id("msg_"), json!([]), json!({}), read);
        write("message_start", json!({ "message": message }), out);
        write("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}}), out);
    }

    fn hear(&mut self, number: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        match self.answer.hear(number, heard)? {
            News::Nothing | News::Progress { .. } => {}
            News::Token(token) => text(&token.text, out),
            News::End(last) => text(&last, out),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        if let Err(error) = self.answer.check_ended() {
            return self.fail(&error, out);
        }
        write("content_block_stop", json!({"index": 0}), out);
        let delta = stop(&self.answer.choices[0]);
        write("message_delta", json!({"delta": delta, "usage": usage(self.answer.usage())}), out);
        write("message_stop", json!({}), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        named_event("error", &error.body(Dialect::Anthropic), out);
    }

    fn ping(&self, out: &mut String) {
        write("ping", json!({}), out);
    }
}
