//! The stream of a message: its start, its blocks one after the other, its end.

use std::sync::Arc;

use quipu_runtime::chat::answer::Delta;
use serde_json::{Value as Json, json};

use super::messages::{MessagesBody, stop, text_block, usage};
use crate::answer::{Answer, Usage};
use crate::engine::Heard;
use crate::error::{ApiError, Dialect};
use crate::model::Model;
use crate::random;
use crate::said::Change;
use crate::stream::{EVENTS, Writer, named_event};

/// Writes the stream.
pub struct MessageStream {
    model: Arc<Model>,
    body: MessagesBody,
    answer: Answer,
    /// Tokens of the prompt.
    prompt: usize,
    /// The part whose block is open.
    open: Option<usize>,
}

/// Writes an event, which has its name in its data as well.
fn write(name: &str, mut data: Json, out: &mut String) {
    data["type"] = name.into();
    named_event(name, &data, out);
}

impl MessageStream {
    /// For this request.
    pub fn new(model: Arc<Model>, body: MessagesBody, answer: Answer, prompt: usize) -> MessageStream {
        MessageStream { model, body, answer, prompt, open: None }
    }

    /// Writes what is new of the parts, each of which is a block.
    fn changes(&mut self, out: &mut String) {
        for Change { part, delta } in self.answer.changes(0) {
            let call = self.answer.choices[0].said.call(part);
            let (block, delta) = match (delta, call) {
                (Delta::Content(text), _) => (text_block(""), json!({"type": "text_delta", "text": text})),
                (Delta::Reasoning(text), _) => {
                    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                    (block, json!({"type": "thinking_delta", "thinking": text}))
                }
                (Delta::Arguments(text), Some((_, call))) => {
                    let block = json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}});
                    (block, json!({"type": "input_json_delta", "partial_json": text}))
                }
                _ => continue,
            };
            if self.open != Some(part) {
                self.close(out);
                write("content_block_start", json!({"index": part, "content_block": block}), out);
                self.open = Some(part);
            }
            write("content_block_delta", json!({"index": part, "delta": delta}), out);
        }
    }

    /// Ends the block that is open.
    fn close(&mut self, out: &mut String) {
        if let Some(part) = self.open.take() {
            write("content_block_stop", json!({ "index": part }), out);
        }
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
    }

    fn hear(&mut self, number: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        self.answer.hear(number, heard)?;
        self.changes(out);
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        if let Err(error) = self.answer.check_ended() {
            return self.fail(&error, out);
        }
        if self.open.is_none() {
            write("content_block_start", json!({"index": 0, "content_block": text_block("")}), out);
            self.open = Some(0);
        }
        self.close(out);
        let choice = &self.answer.choices[0];
        let mut data = json!({"delta": stop(choice), "usage": usage(self.answer.usage())});
        choice.tell_note(&mut data);
        write("message_delta", data, out);
        write("message_stop", json!({}), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        named_event("error", &error.body(Dialect::Anthropic), out);
    }

    fn ping(&self, out: &mut String) {
        write("ping", json!({}), out);
    }
}
