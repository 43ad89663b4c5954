//! The stream of a response: events with names and numbers. There is no `[DONE]`.

use std::sync::Arc;

use quipu_runtime::chat::answer::Delta;
use serde_json::{Value as Json, json};

use super::chat::StreamOptions;
use super::items::{
    Kind, begun, content, item, items, last_status, needs_consent, new_id, parts, probabilities, status,
};
use super::parts::{timings, token_logprobs};
use super::responses::ResponseBody;
use crate::answer::{Answer, News};
use crate::engine::Heard;
use crate::error::ApiError;
use crate::model::Model;
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
    /// The ids of the parts' items.
    ids: Vec<String>,
    /// Which of them have ended: all but the last, and calls that are still being run.
    ended: Vec<bool>,
    /// The probabilities of tokens whose text is still held back.
    held: Vec<Json>,
}

impl ResponseStream {
    /// For this request.
    pub fn new(model: Arc<Model>, body: ResponseBody, options: StreamOptions, answer: Answer) -> ResponseStream {
        ResponseStream { model, body, options, answer, number: 0, ids: Vec::new(), ended: Vec::new(), held: Vec::new() }
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
                // What the client is asked about is told when it is complete.
                if self.needs_consent(part) && delta != (Delta::End { complete: true }) {
                    continue;
                }
                self.close("completed", out);
                self.open(out);
            }
            let hosted = matches!(self.kind(part), Kind::Hosted(..));
            let (kind, text) = match delta {
                Delta::Content(text) => ("output_text.delta", text),
                Delta::Reasoning(text) => ("reasoning_text.delta", text),
                Delta::Arguments(text) if hosted => ("mcp_call_arguments.delta", text),
                Delta::Arguments(text) => ("function_call_arguments.delta", text),
                Delta::End { complete: true } if hosted => {
                    self.arguments_done(part, out);
                    continue;
                }
                Delta::Begin { .. } | Delta::End { .. } => continue,
            };
            let mut data = self.place(part);
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

    fn kind(&self, part: usize) -> Kind<'_> {
        self.answer.choices[0].said.parts.get(part).map_or(Kind::Text, |part| Kind::of(part, &self.body.granted))
    }

    fn needs_consent(&self, part: usize) -> bool {
        let Some(Part::Call(call)) = self.answer.choices[0].said.parts.get(part) else { return false };
        self.body.granted.find(&call.name).is_some_and(|grant| needs_consent(call, grant))
    }

    fn arguments_done(&mut self, part: usize, out: &mut String) {
        let Kind::Hosted(call, _) = self.kind(part) else { return };
        let arguments = call.arguments.clone();
        let mut data = self.place(part);
        data["arguments"] = arguments.into();
        self.write("mcp_call_arguments.done", data, out);
    }

    /// Tells that a call was run.
    fn called(&mut self, part: usize, out: &mut String) {
        let Kind::Hosted(call, _) = self.kind(part) else { return };
        let failed = matches!(call.outcome, Some(Err(_)));
        let kind = if failed { "mcp_call.failed" } else { "mcp_call.completed" };
        let data = self.place(part);
        self.write(kind, data, out);
        self.end_item(part, "completed", out);
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

    /// The number of a part's item in the response.
    fn output_index(&self, part: usize) -> usize {
        self.body.lists.len() + part
    }

    /// Where a part's item stands in the response, and the text in it.
    fn place(&self, part: usize) -> Json {
        let mut place = json!({"item_id": self.ids[part], "output_index": self.output_index(part)});
        if matches!(self.kind(part), Kind::Text | Kind::Thought) {
            place["content_index"] = 0.into();
        }
        place
    }

    /// Begins the next item.
    fn open(&mut self, out: &mut String) {
        let number = self.ids.len();
        let parts = parts(&self.answer.choices[0]);
        let part = &parts[number];
        let id = new_id(part, &self.body.granted);
        let item = begun(part, &id, &self.body.granted);
        self.ids.push(id);
        self.ended.push(false);
        self.write("output_item.added", json!({"output_index": self.output_index(number), "item": item}), out);
        let place = self.place(number);
        let empty = match self.kind(number) {
            Kind::Text => Part::Text(String::new()),
            Kind::Thought => Part::Thought(String::new()),
            Kind::Function(_) => return,
            Kind::Hosted(..) => return self.write("mcp_call.in_progress", place, out),
            Kind::Asked(..) => return self.end_item(number, "completed", out),
        };
        let mut data = place;
        data["part"] = content(&empty, json!([]));
        self.write("content_part.added", data, out);
    }

    /// Ends the last item, if there is one, and it is no call that is yet to be run.
    fn close(&mut self, status: &str, out: &mut String) {
        let Some(number) = self.ids.len().checked_sub(1).filter(|&last| !self.ended[last]) else { return };
        let parts = parts(&self.answer.choices[0]);
        let part = &parts[number];
        let place = self.place(number);
        let logprobs = probabilities(&self.model, &self.answer.choices[0]);
        let mut data = place.clone();
        match part {
            Part::Text(text) => {
                (data["text"], data["logprobs"]) = (text.as_str().into(), logprobs.clone());
                self.write("output_text.done", data, out);
            }
            Part::Thought(text) => {
                data["text"] = text.as_str().into();
                self.write("reasoning_text.done", data, out);
            }
            Part::Call(_) if matches!(self.kind(number), Kind::Hosted(..)) => return,
            Part::Call(call) => {
                (data["name"], data["arguments"]) = (call.name.as_str().into(), call.arguments.as_str().into());
                self.write("function_call_arguments.done", data, out);
            }
        }
        if !matches!(part, Part::Call(_)) {
            let mut data = place;
            data["part"] = content(part, logprobs);
            self.write("content_part.done", data, out);
        }
        self.end_item(number, status, out);
    }

    /// The whole item of a part.
    fn end_item(&mut self, number: usize, status: &str, out: &mut String) {
        let parts = parts(&self.answer.choices[0]);
        let logprobs = probabilities(&self.model, &self.answer.choices[0]);
        let item = item(&parts[number], &self.ids[number], status, logprobs, &self.body.granted);
        self.ended[number] = true;
        self.write("output_item.done", json!({"output_index": self.output_index(number), "item": item}), out);
    }

    /// Tells which tools the server may run.
    fn lists(&mut self, out: &mut String) {
        for (number, list) in self.body.lists.clone().into_iter().enumerate() {
            let place = json!({"output_index": number, "item_id": list["id"]});
            let mut begun = list.clone();
            begun["tools"] = json!([]);
            self.write("output_item.added", json!({"output_index": number, "item": begun}), out);
            self.write("mcp_list_tools.in_progress", place.clone(), out);
            self.write("mcp_list_tools.completed", place, out);
            self.write("output_item.done", json!({"output_index": number, "item": list}), out);
        }
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
        self.lists(out);
    }

    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        match self.answer.hear(text, heard)? {
            News::Progress { read, total } => self.progress(read, total, out),
            News::Token(token) if token.logprob.is_some() => {
                self.held.push(token_logprobs(&self.model.tokenizer, &token));
            }
            News::Called(part) => self.called(part, out),
            _ => {}
        }
        self.changes(out);
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        if let Err(error) = self.answer.check_ended() {
            return self.fail(&error, out);
        }
        if self.ids.len() < parts(&self.answer.choices[0]).len() {
            // There was no text at all, or the client would have been asked about a call that has broken off.
            self.close("completed", out);
            self.open(out);
        }
        self.close(last_status(&self.answer.choices[0]), out);
        for number in (0..self.ids.len()).filter(|&number| !self.ended[number]).collect::<Vec<_>>() {
            self.end_item(number, "incomplete", out);
        }
        let items = items(&self.model, &self.answer.choices[0], &self.ids, &self.body.granted);
        let response = self.body.ended(&self.model, items, &self.answer);
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
