//! An answer as a line of JSON, or as a stream of lines.

use std::time::{Duration, Instant};

use quipu_runtime::chat::answer::{AnswerReader, Delta};
use quipu_runtime::generate::StopReason;
use serde_json::{Value as Json, json};

use crate::answer::Answer;
use crate::engine::Heard;
use crate::error::{ApiError, Dialect};
use crate::random;
use crate::said::{Call, Change};
use crate::stream::Writer;

/// What a line may bring.
#[derive(Clone, Copy, Debug)]
pub enum New<'a> {
    /// Text.
    Text(&'a str),
    /// What was thought.
    Thought(&'a str),
    /// Calls of tools.
    Calls(&'a [Json]),
}

/// How it stands in a line.
pub type Put = fn(&mut Json, New<'_>);

/// A call as lines have it; none if it is not complete, for its arguments are an object here and no text.
fn call(call: &Call) -> Option<Json> {
    let arguments = serde_json::from_str::<Json>(&call.arguments).ok().filter(|_| call.complete)?;
    Some(json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}}))
}

/// Makes lines.
#[derive(Debug)]
pub struct Lines {
    model: String,
    put: Put,
    answer: Answer,
    loading: Duration,
    started: Instant,
}

impl Lines {
    /// For a request for `model`, which has waited for it as long as `loading`.
    pub fn new(model: String, put: Put, loading: Duration) -> Lines {
        Lines { model, put, answer: Answer::new(1, 1, false), loading, started: Instant::now() }
    }

    /// The same, with an answer that `reader` reads.
    pub fn read_by(self, reader: &AnswerReader) -> Lines {
        Lines { answer: self.answer.read_by(reader), ..self }
    }

    /// Where the answer is put together.
    pub fn answer(&self) -> Answer {
        self.answer.clone()
    }

    fn line(&self, new: New<'_>, done: bool) -> Json {
        let mut line = json!({"model": self.model, "created_at": random::timestamp()});
        (self.put)(&mut line, new);
        line["done"] = done.into();
        line
    }

    /// The only line of an answer that comes as a whole.
    pub fn whole(&self, answer: &Answer) -> Json {
        let said = &answer.choices[0].said;
        let mut text = said.text();
        let mut calls = Vec::new();
        for made in said.calls() {
            match call(made) {
                Some(call) => calls.push(call),
                None => text += &format!("{}{}", made.name, made.arguments),
            }
        }
        let mut line = self.last(&text, answer);
        let thought = said.thought();
        if !thought.is_empty() {
            (self.put)(&mut line, New::Thought(&thought));
        }
        if !calls.is_empty() {
            (self.put)(&mut line, New::Calls(&calls));
        }
        line
    }

    /// The last line, with `text`.
    fn last(&self, text: &str, answer: &Answer) -> Json {
        let mut line = self.line(New::Text(text), true);
        let nanos = |time: Duration| time.as_nanos() as u64;
        if let Some(end) = &answer.choices[0].end {
            let full = matches!(end.stop, StopReason::Limit | StopReason::ContextFull);
            let reason = if full { "length" } else { "stop" };
            line["done_reason"] = if answer.choices[0].is_refused() { "content_filter" } else { reason }.into();
            answer.choices[0].tell_note(&mut line);
            line["total_duration"] = nanos(self.loading + self.started.elapsed()).into();
            line["load_duration"] = nanos(self.loading).into();
            line["prompt_eval_count"] = end.prompt_tokens.into();
            line["prompt_eval_cached_count"] = end.cached_tokens.into();
            line["prompt_eval_duration"] = nanos(end.prefill.time).into();
            line["eval_count"] = answer.choices[0].drawn().into();
            line["eval_duration"] = nanos(end.decode.time).into();
        }
        line
    }

    /// The only line of a request that asks for nothing but that the model be there.
    pub fn loaded(&self) -> Json {
        let mut line = self.line(New::Text(""), true);
        line["done_reason"] = "load".into();
        line
    }
}

fn write(line: &Json, out: &mut String) {
    out.push_str(&line.to_string());
    out.push('\n');
}

impl Writer for Lines {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn start(&mut self, _: &mut String) {}

    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        self.answer.hear(text, heard)?;
        for Change { part, delta } in self.answer.changes(text) {
            let line = match (delta, self.answer.choices[text].said.call(part)) {
                (Delta::Content(text), _) => self.line(New::Text(&text), false),
                (Delta::Reasoning(text), _) => self.line(New::Thought(&text), false),
                (Delta::End { .. }, Some((_, made))) => match call(made) {
                    Some(call) => self.line(New::Calls(&[call]), false),
                    None => self.line(New::Text(&format!("{}{}", made.name, made.arguments)), false),
                },
                _ => continue,
            };
            write(&line, out);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        match self.answer.check_ended() {
            Ok(()) => write(&self.last("", &self.answer), out),
            Err(error) => self.fail(&error, out),
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        write(&error.body(Dialect::Ollama), out);
    }

    fn ping(&self, _: &mut String) {
        // Lines have no comments, and an empty piece would be taken for text.
    }
}
