//! The stream of a plain completion: one piece for each piece of text, one with the reason for the end, one with the
//! usage if that is asked for, and `[DONE]`.

use std::sync::Arc;

use quipu_runtime::generate::Token;
use serde_json::{Value as Json, json};

use super::chat::StreamOptions;
use super::completions::{CompletionBody, logprobs};
use super::parts;
use crate::answer::{Answer, News};
use crate::engine::Heard;
use crate::error::ApiError;
use crate::model::Model;
use crate::random;
use crate::stream::{EVENTS, Writer, comment, event};

/// Writes the stream.
pub struct CompletionStream {
    model: Arc<Model>,
    body: CompletionBody,
    piece: Json,
    options: StreamOptions,
    answer: Answer,
    /// For each text the tokens whose text is still held back, and where the first of them begins.
    held: Vec<(Vec<Token>, usize)>,
}

impl CompletionStream {
    /// For this request.
    pub fn new(model: Arc<Model>, body: CompletionBody, options: StreamOptions) -> CompletionStream {
        let piece = json!({
            "id": random::id("cmpl-"),
            "object": "text_completion",
            "created": random::now(),
            "model": body.model.as_deref().unwrap_or(model.id()),
            "system_fingerprint": parts::FINGERPRINT,
            "choices": [],
        });
        let answer = Answer::new(body.texts(), body.sampling.choices, false);
        let held = vec![(Vec::new(), 0); body.texts()];
        CompletionStream { model, body, piece, options, answer, held }
    }

    fn write(&mut self, index: usize, text: &str, finish_reason: Option<&str>, out: &mut String) {
        let (tokens, offset) = &mut self.held[index];
        let tokens = std::mem::take(tokens);
        let logprobs = (!tokens.is_empty()).then(|| logprobs(&self.model, tokens.iter(), offset));
        let choice = json!({"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason});
        self.piece["choices"] = json!([choice]);
        if self.options.timings && self.answer.choices[index].written > 0 {
            self.piece["timings"] = parts::timings(&self.answer.choices);
        }
        event(&self.piece, out);
    }
}

impl CompletionStream {
    /// Writes what text `index` begins with.
    fn echo(&mut self, index: usize, out: &mut String) {
        let prompt = self.body.echo(&self.model, index);
        if !prompt.is_empty() {
            self.held[index].0 = self.body.echoed(&self.model, index, &self.answer.choices[index]).to_vec();
            self.answer.choices[index].prompt_tokens = Vec::new();
            self.write(index, &prompt, None, out);
        }
    }

    /// Does so if that has not been done yet.
    fn echo_scored(&mut self, index: usize, out: &mut String) {
        if !self.answer.choices[index].prompt_tokens.is_empty() {
            self.echo(index, out);
        }
    }
}

impl Writer for CompletionStream {
    fn content_type(&self) -> &'static str {
        EVENTS
    }

    fn start(&mut self, out: &mut String) {
        // If its probabilities are wanted, it has to be read first.
        if !self.body.sampling.options.logprobs {
            (0..self.body.texts()).for_each(|text| self.echo(text, out));
        }
    }

    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        match self.answer.hear(text, heard)? {
            News::Nothing | News::Called(_) | News::Progress { .. } => {}
            News::Token(token) => {
                self.echo_scored(text, out);
                let piece = token.text.clone();
                if self.body.sampling.options.logprobs {
                    self.held[text].0.push(token);
                }
                if !piece.is_empty() {
                    self.write(text, &piece, None, out);
                }
            }
            News::End(last) => {
                self.echo_scored(text, out);
                if !last.is_empty() {
                    self.write(text, &last, None, out);
                }
                let reason = parts::finish_reason(&self.answer.choices[text]);
                if self.answer.check_ended().is_ok() && !self.options.usage {
                    self.piece["timings"] = parts::timings(&self.answer.choices);
                }
                let piece = self.piece.clone();
                self.answer.choices[text].tell_note(&mut self.piece);
                self.write(text, "", reason, out);
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
