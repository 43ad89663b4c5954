//! The stream of a chat completion: a piece with the role, one for each piece of text, one with the reason for the end,
//! one with the usage if that is asked for, and `[DONE]`.

use std::sync::Arc;
use std::time::Instant;

use quipu_runtime::chat::answer::Delta;
use serde_json::{Value as Json, json};

use super::chat::{ChatBody, StreamOptions};
use super::parts;
use crate::answer::{Answer, News};
use crate::engine::Heard;
use crate::error::ApiError;
use crate::model::Model;
use crate::random;
use crate::said::Change;
use crate::stream::{EVENTS, Writer, comment, event};

/// Writes the stream.
pub struct ChatStream {
    model: Arc<Model>,
    body: ChatBody,
    /// What every piece has; its choices are replaced.
    piece: Json,
    options: StreamOptions,
    answer: Answer,
    /// For each text the probabilities of tokens whose text is still held back; no list if they are not asked for.
    held: Option<Vec<Vec<Json>>>,
    started: Instant,
}

impl ChatStream {
    /// For this request.
    pub fn new(model: Arc<Model>, body: ChatBody, options: StreamOptions, answer: Answer) -> ChatStream {
        let piece = json!({
            "id": random::id("chatcmpl-"),
            "object": "chat.completion.chunk",
            "created": random::now(),
            "model": body.model.as_deref().unwrap_or(model.id()),
            "system_fingerprint": parts::FINGERPRINT,
            "choices": [],
        });
        let texts = body.sampling.choices;
        let held = body.sampling.options.logprobs.then(|| vec![Vec::new(); texts]);
        ChatStream { model, body, piece, options, answer, held, started: Instant::now() }
    }

    /// Tells how far a prompt is read, if that is asked for.
    fn progress(&self, text: usize, read: usize, out: &mut String) {
        if self.options.progress {
            let choice = &self.answer.choices[text];
            let mut piece = self.piece.clone();
            piece["choices"] = json!([{"index": text, "delta": {}, "finish_reason": null}]);
            piece["prompt_progress"] = json!({
                "total": choice.prompt,
                "cache": choice.cached,
                "processed": read,
                "time_ms": self.started.elapsed().as_millis() as u64,
            });
            if self.options.timings {
                piece["timings"] = parts::timings(std::slice::from_ref(choice));
            }
            event(&piece, out);
        }
    }

    /// Writes what is new of a text's parts.
    fn changes(&mut self, text: usize, out: &mut String) {
        for Change { part, delta } in self.answer.changes(text) {
            let said = &self.answer.choices[text].said;
            let functions = self.body.functions;
            let delta = match (delta, said.call(part)) {
                (Delta::Content(text), _) => json!({ "content": text }),
                (Delta::Reasoning(text), _) => json!({ "reasoning_content": text }),
                (Delta::Begin { name }, _) if functions => json!({"function_call": {"name": name, "arguments": ""}}),
                (Delta::Arguments(text), _) if functions => json!({"function_call": {"arguments": text}}),
                (Delta::Begin { name }, Some((index, call))) => {
                    let function = json!({"name": name, "arguments": ""});
                    json!({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": function}]})
                }
                (Delta::Arguments(text), Some((index, _))) => {
                    json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
                }
                _ => continue,
            };
            self.write(text, delta, None, out);
        }
    }

    fn write(&mut self, text: usize, delta: Json, finish_reason: Option<&str>, out: &mut String) {
        let held = self.held.as_mut().map(|held| std::mem::take(&mut held[text]));
        let logprobs = held.filter(|held| !held.is_empty()).map(|held| json!({"content": held, "refusal": null}));
        let choice = json!({"index": text, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason});
        self.piece["choices"] = json!([choice]);
        // The piece with the role comes before there is anything to tell.
        if self.options.timings && self.answer.choices[text].written > 0 {
            self.piece["timings"] = parts::timings(&self.answer.choices);
        }
        event(&self.piece, out);
    }
}

impl Writer for ChatStream {
    fn content_type(&self) -> &'static str {
        EVENTS
    }

    fn start(&mut self, out: &mut String) {
        for text in 0..self.answer.choices.len() {
            self.write(text, json!({"role": "assistant", "content": null}), None, out);
        }
    }

    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        match self.answer.hear(text, heard)? {
            News::Nothing | News::Called(_) => {}
            News::Progress { read, .. } => self.progress(text, read, out),
            News::Token(token) => {
                if self.answer.choices[text].written == 1 {
                    self.progress(text, self.answer.choices[text].prompt, out);
                }
                if let Some(held) = &mut self.held {
                    held[text].push(parts::token_logprobs(&self.model.tokenizer, &token));
                }
                self.changes(text, out);
            }
            News::End(_) => {
                self.changes(text, out);
                let reason = self.body.finish_reason(&self.answer.choices[text]);
                let ended = self.answer.check_ended().is_ok();
                if ended && !self.options.usage {
                    self.piece["timings"] = parts::timings(&self.answer.choices);
                }
                let piece = self.piece.clone();
                self.answer.choices[text].tell_note(&mut self.piece);
                self.write(text, json!({}), reason, out);
                self.piece = piece;
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        parts::end_stream(&self.answer, self.options.usage, &mut self.piece, out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        parts::fail_stream(error, out);
    }

    fn ping(&self, out: &mut String) {
        comment(out);
    }
}
