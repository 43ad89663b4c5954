//! The stream of `/completion`: pieces with `content`, and a last one with everything else. There is no `[DONE]`.

use std::sync::Arc;
use std::time::Instant;

use quipu_runtime::generate::Token;
use serde_json::{Value as Json, json};

use super::completion::CompletionBody;
use crate::answer::{Answer, News};
use crate::engine::Heard;
use crate::error::{ApiError, Dialect};
use crate::model::Model;
use crate::openai::chat::StreamOptions;
use crate::openai::parts;
use crate::stream::{EVENTS, Writer, comment, event};

/// Writes the stream.
pub struct CompletionStream {
    model: Arc<Model>,
    body: CompletionBody,
    options: StreamOptions,
    answer: Answer,
    /// For each text the tokens whose text is still held back.
    held: Vec<Vec<Token>>,
    started: Instant,
}

impl CompletionStream {
    /// For this request, which has so many texts.
    pub fn new(model: Arc<Model>, body: CompletionBody, options: StreamOptions, texts: usize) -> CompletionStream {
        let answer = Answer::new(texts, body.sampling.choices, false);
        CompletionStream { model, body, options, answer, held: vec![Vec::new(); texts], started: Instant::now() }
    }

    fn piece(&mut self, text: usize, content: &str) -> Json {
        let tokens = std::mem::take(&mut self.held[text]);
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let mut piece = json!({
            "index": text,
            "content": content,
            "tokens": ids,
            "stop": false,
            "id_slot": text,
            "tokens_predicted": self.answer.choices[text].written,
        });
        if self.body.sampling.options.logprobs {
            piece["completion_probabilities"] = self.body.probabilities(&self.model, &tokens);
        }
        if self.options.timings {
            piece["timings"] = parts::timings(std::slice::from_ref(&self.answer.choices[text]));
        }
        piece
    }

    /// Tells how far a prompt is read, if that is asked for.
    fn progress(&mut self, text: usize, read: usize, out: &mut String) {
        if self.options.progress {
            let mut piece = self.piece(text, "");
            let choice = &self.answer.choices[text];
            piece["prompt_progress"] = json!({
                "total": choice.prompt,
                "cache": choice.cached,
                "processed": read,
                "time_ms": self.started.elapsed().as_millis() as u64,
            });
            event(&piece, out);
        }
    }
}

impl Writer for CompletionStream {
    fn content_type(&self) -> &'static str {
        EVENTS
    }

    fn start(&mut self, _: &mut String) {}

    fn hear(&mut self, text: usize, heard: Heard, out: &mut String) -> Result<(), ApiError> {
        match self.answer.hear(text, heard)? {
            News::Nothing | News::Called(_) => {}
            News::Progress { read, .. } => self.progress(text, read, out),
            News::Token(token) => {
                if self.answer.choices[text].written == 1 {
                    self.progress(text, self.answer.choices[text].prompt, out);
                }
                let content = token.text.clone();
                self.held[text].push(token);
                if !content.is_empty() {
                    event(&self.piece(text, &content), out);
                }
            }
            News::End(last) => {
                if !last.is_empty() || !self.held[text].is_empty() {
                    event(&self.piece(text, &last), out);
                }
                let end = self.body.end(&self.model, text, &self.answer.choices[text]);
                event(&self.body.wanted(end), out);
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut String) {
        if let Err(error) = self.answer.check_ended() {
            self.fail(&error, out);
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut String) {
        event(&error.body(Dialect::OpenAi), out);
    }

    fn ping(&self, out: &mut String) {
        comment(out);
    }
}
