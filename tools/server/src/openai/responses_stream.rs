//! The stream of a response: events with names and numbers. There is no `[DONE]`.

use std::sync::Arc;

use quipu_runtime::chat::answer::Delta;
use serde_json::{Value as Json, json};

use super::chat::StreamOptions;
use super::items::{begun, content, item, items, parts, prefix, probabilities};
use super::parts::{timings, token_logprobs};
use super::responses::{ResponseBody, last_status, status};
use crate::answer::{Answer, News};
use crate::engine::Heard;
use crate::error::ApiError;
use crate::model::Model;
use crate::random;
use crate::said::{Change, Part};
use crate::stream::{EVENTS, Writer, comment, named_event};

/// Writes the stream.
pub struct ResponseStream {
    model: Arc<Model>,
    body: ResponseBody,
    options: StreamOptions,
    answer: Answer,
    /// The number of the next event.
    number: u64,
    /// The items' ids; all but the last have ended.
    ids: Vec<String>,
    /// The probabilities of tokens whose text is still held back.
    held: Vec<Json>,
}

impl ResponseStream {
    /// For this request.
    pub fn new(model: Arc<Model>, body: ResponseBody, options: StreamOptions, answer: Answer) -> ResponseStream {
        ResponseStream { model, body, options, answer, number: 0, ids: Vec::new(), held: Vec::new() }
    }

    fn write(&mut self, kind: &str, mut data: Json, out: &mut String) {
        let kind = format!("response.{kind}");
        data["type"] = kind.as_str().into();
        data["sequence_number"] = self.number.into();
        self.number += 1;
        named_event(&kind, &data, out);
    }

    /// Writes what is new of the parts, each of which is an item.
    fn changes(&mut self, out: &mut String) {
        for Change { part, delta } in self.answer.changes(0) {
            if self.ids.len() <= part {
                self.close("completed", out);
                self.open(out);
            }
            let (kind, text) = match delta {
                Delta::Content(text) => ("output_text.delta", text),
                Delta::Reasoning(text) => ("reasoning_text.delta", text),
                Delta::Arguments(text) => ("function_call_arguments.delta", text),
                Delta::Begin { .. } | Delta::End { .. } => continue,
            };
            let mut data = self.place();
            data["delta"] = text.into();
            if kind == "output_text.delta" {
                data["logprobs"] = std::mem::take(&mut self.held).into();
            }
            if self.options.timings {
                data["timings"] = timings(&self.answer.choices);
            }
            self.write(kind, data, out);
        }
    }

    /// Tells how far the prompt is read, if that is asked for: llama.cpp's addition to an event that there is.
    fn progress(&mut self, read: usize, total: usize, out: &mut String) {
        if self.options.progress {
            let response = self.body.response(&self.model, "in_progress", json!([]), None);
            let cached = self.answer.choices[0].cached;
            let progress = json!({"total": total, "cache": cached, "processed": read});
            self.write("in_progress", json!({"response": response, "prompt_progress": progress}), out);
        }
    }

    /// The part whose item is open, the last one.
    fn part(&self) -> Part {
        parts(&self.answer.choices[0])[self.ids.len() - 1].clone()
    }

    /// Where the last item stands in the response, and the text in it.
    fn place(&self) -> Json {
        let number = self.ids.len() - 1;
        let mut place = json!({"item_id": self.ids[number], "output_index": number});
        if self.answer.choices[0].said.parts.get(number).is_none_or(|part| !matches!(part, Part::Call(_))) {
            place["content_index"] = 0.into();
        }
        place
    }

    /// Begins the next item.
    fn open(&mut self, out: &mut String) {
        let parts = parts(&self.answer.choices[0]);
        let part = &parts[self.ids.len()];
        self.ids.push(random::id(prefix(part)));
        let item = begun(part, &self.ids[self.ids.len() - 1]);
        self.write("output_item.added", json!({"output_index": self.ids.len() - 1, "item": item}), out);
        let empty = match part {
            Part::Text(_) => Part::Text(String::new()),
            Part::Thought(_) => Part::Thought(String::new()),
            Part::Call(_) => return,
        };
        let mut data = self.place();
        data["part"] = content(&empty, json!([]));
        self.write("content_part.added", data, out);
    }

    /// Ends the last item, if there is one.
    fn close(&mut self, status: &str, out: &mut String) {
        let Some(id) = self.ids.last().cloned() else { return };
        let (part, place) = (self.part(), self.place());
        let logprobs = probabilities(&self.model, &self.answer.choices[0]);
        let mut data = place.clone();
        match &part {
            Part::Text(text) => {
                (data["text"], data["logprobs"]) = (text.as_str().into(), logprobs.clone());
                self.write("output_text.done", data, out);
            }
            Part::Thought(text) => {
                data["text"] = text.as_str().into();
                self.write("reasoning_text.done", data, out);
            }
            Part::Call(call) => {
                (data["name"], data["arguments"]) = (call.name.as_str().into(), call.arguments.as_str().into());
                self.write("function_call_arguments.done", data, out);
            }
        }
        if !matches!(part, Part::Call(_)) {
            let mut data = place;
            data["part"] = content(&part, logprobs.clone());
            self.write("content_part.done", data, out);
        }
        let item = item(&part, &id, status, logprobs);
        self.write("output_item.done", json!({"output_index": self.ids.len() - 1, "item": item}), out);
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
    }

    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        match self.answer.hear(text, heard)? {
            News::Progress { read, total } => self.progress(read, total, out),
            News::Token(token) if token.logprob.is_some() => {
                self.held.push(token_logprobs(&self.model.tokenizer, &token));
            }
            _ => {}
        }
        self.changes(out);
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        if let Err(error) = self.answer.check_ended() {
            return self.fail(&error, out);
        }
        if self.ids.is_empty() {
            self.open(out);
        }
        self.close(last_status(&self.answer.choices[0]), out);
        let items = items(&self.model, &self.answer.choices[0], &self.ids);
        let response = self.body.ended(&self.model, items.into(), &self.answer);
        let mut data = json!({ "response": response });
        if self.options.timings {
            data["timings"] = timings(&self.answer.choices);
        }
        self.write(status(&self.answer.choices[0]), data, out);
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
