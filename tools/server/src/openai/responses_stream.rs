//! The stream of a response: events with names and numbers. There is no `[DONE]`.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::parts;
use super::responses::{ResponseBody, logprobs, output_message, output_text, status};
use crate::answer::{Answer, News};
use crate::engine::Heard;
use crate::error::ApiError;
use crate::model::Model;
use crate::random;
use crate::stream::{EVENTS, Writer, comment, named_event};

/// Writes the stream.
pub struct ResponseStream {
    model: Arc<Model>,
    body: ResponseBody,
    answer: Answer,
    /// The number of the next event.
    number: u64,
    message: String,
    /// The probabilities of tokens whose text is still held back.
    held: Vec<Json>,
}

impl ResponseStream {
    /// For this request.
    pub fn new(model: Arc<Model>, body: ResponseBody, answer: Answer) -> ResponseStream {
        ResponseStream { model, body, answer, number: 0, message: random::id("msg_"), held: Vec::new() }
    }

    fn write(&mut self, kind: &str, mut data: Json, out: &mut String) {
        let kind = format!("response.{kind}");
        data["type"] = kind.as_str().into();
        data["sequence_number"] = self.number.into();
        self.number += 1;
        named_event(&kind, &data, out);
    }

    fn text(&mut self, delta: &str, out: &mut String) {
        if delta.is_empty() {
            return;
        }
        let mut data = self.place();
        data["delta"] = delta.into();
        data["logprobs"] = std::mem::take(&mut self.held).into();
        self.write("output_text.delta", data, out);
    }

    /// Where the text stands in the response.
    fn place(&self) -> Json {
        json!({"item_id": self.message, "output_index": 0, "content_index": 0})
    }
}

impl Writer for ResponseStream {
    fn content_type(&self) -> &'static str {
        EVENTS
    }

    fn start(&mut self, out: &mut String) {
        let response = self.body.response(&self.model, "in_progress", json!([]), None);
        self.write("created", json!({"response": response}), out);
        self.write("in_progress", json!({"response": response}), out);
        let item = output_message(&self.message, "in_progress", json!([]));
        self.write("output_item.added", json!({"output_index": 0, "item": item}), out);
        let mut data = self.place();
        data["part"] = output_text("", json!([]));
        self.write("content_part.added", data, out);
    }

    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        match self.answer.hear(text, heard)? {
            News::Nothing | News::Progress { .. } => {}
            News::Token(token) => {
                if token.logprob.is_some() {
                    self.held.push(parts::token_logprobs(&self.model.tokenizer, &token));
                }
                self.text(&token.text, out);
            }
            News::End(last) => self.text(&last, out),
        }
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        if let Err(error) = self.answer.check_ended() {
            return self.fail(&error, out);
        }
        let choice = &self.answer.choices[0];
        let (status, text) = (status(choice), choice.text.clone());
        let logprobs = logprobs(&self.model, choice);
        let part = output_text(&text, logprobs.clone());
        let item = output_message(&self.message, status, json!([part]));
        let response = self.body.response(&self.model, status, json!([item]), Some(self.answer.usage()));
        let mut data = self.place();
        (data["text"], data["logprobs"]) = (text.into(), logprobs);
        self.write("output_text.done", data, out);
        let mut data = self.place();
        data["part"] = part;
        self.write("content_part.done", data, out);
        self.write("output_item.done", json!({"output_index": 0, "item": item}), out);
        self.write(status, json!({"response": response}), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        let mut response = self.body.response(&self.model, "failed", json!([]), None);
        response["error"] = json!({"code": error.code.unwrap_or("server_error"), "message": error.message});
        self.write("failed", json!({"response": response}), out);
    }

    fn ping(&self, out: &mut String) {
        comment(out);
    }
}
