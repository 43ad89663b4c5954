//! An answer as a line of JSON, or as a stream of lines.

use std::time::{Duration, Instant};

use quipu_runtime::generate::StopReason;
use serde_json::{Value as Json, json};

use crate::answer::{Answer, News};
use crate::engine::Heard;
use crate::error::{ApiError, Dialect};
use crate::random;
use crate::stream::Writer;

/// How a piece of text stands in a line.
pub type Put = fn(&mut Json, &str);

/// Makes lines.
#[derive(Debug)]
pub struct Lines {
    model: String,
    put: Put,
    answer: Answer,
    started: Instant,
}

impl Lines {
    /// For a request for `model`.
    pub fn new(model: String, put: Put) -> Lines {
        Lines { model, put, answer: Answer::new(1, 1, false), started: Instant::now() }
    }

    fn line(&self, text: &str, done: bool) -> Json {
        let mut line = json!({"model": self.model, "created_at": random::timestamp()});
        (self.put)(&mut line, text);
        line["done"] = done.into();
        line
    }

    /// The last line, with `text`.
    pub fn last(&self, text: &str, answer: &Answer) -> Json {
        let mut line = self.line(text, true);
        let nanos = |time: Duration| time.as_nanos() as u64;
        if let Some(end) = &answer.choices[0].end {
            let full = matches!(end.stop, StopReason::Limit | StopReason::ContextFull);
            line["done_reason"] = if full { "length" } else { "stop" }.into();
            line["total_duration"] = nanos(self.started.elapsed()).into();
            line["load_duration"] = 0.into();
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
        let mut line = self.line("", true);
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
        let new = match self.answer.hear(text, heard)? {
            News::Nothing | News::Progress { .. } => return Ok(()),
            News::Token(token) => token.text,
            News::End(last) => last,
        };
        if !new.is_empty() {
            write(&self.line(&new, false), out);
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
