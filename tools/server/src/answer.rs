//! What has been heard of the texts of one request, put together.

use std::time::{Duration, Instant};

use quipu_runtime::chat::answer::AnswerReader;
use quipu_runtime::generate::{StopReason, Timing, Token};
use serde_json::Value as Json;

use crate::engine::{End, Heard, Note};
use crate::error::ApiError;
use crate::said::{Change, Said};

/// One text.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// What is written so far.
    pub text: String,
    /// The same in parts, if it answers a conversation.
    pub said: Said,
    /// What is new of them.
    changes: Vec<Change>,
    /// Its tokens, if the request wants to know them.
    pub tokens: Vec<Token>,
    /// How many there are.
    pub written: usize,
    /// Tokens of the prompt, once it is being read.
    pub prompt: usize,
    /// Those of them that did not have to be read.
    pub cached: usize,
    /// Its tokens but the first with their probabilities, if the request wants to know them.
    pub prompt_tokens: Vec<Token>,
    /// How it has ended.
    pub end: Option<End>,
    clock: Clock,
    /// The texts before it, where an answer has several.
    before: Before,
}

/// What texts have cost that are parts of the same answer.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    usage: Usage,
    prefill: Timing,
    decode: Timing,
}

/// When things have happened to a text that has not ended yet, as they were heard. Afterwards its [`End`] knows better.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    begun: Option<Instant>,
    /// Tokens of the prompt that are read, and when the last of them was.
    read: Option<(usize, Instant)>,
    /// When the first and the last token were written.
    written: Option<(Instant, Instant)>,
}

/// All texts of a request: the answers to its first prompt, those to the second…
#[derive(Clone, Debug)]
pub struct Answer {
    /// The texts.
    pub choices: Vec<Choice>,
    /// How many of them belong to each prompt.
    pub for_each_prompt: usize,
    keep_tokens: bool,
}

/// How much was read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompts.
    pub prompt: usize,
    /// Those of them that did not have to be read.
    pub cached: usize,
    /// Tokens that were drawn, those included that end a text.
    pub written: usize,
}

impl Answer {
    /// Nothing yet of `texts` texts.
    pub fn new(texts: usize, for_each_prompt: usize, keep_tokens: bool) -> Answer {
        Answer { choices: vec![Choice::default(); texts], for_each_prompt, keep_tokens }
    }

    /// The same, with texts that are answers: `reader` tells their parts apart.
    pub fn read_by(mut self, reader: &AnswerReader) -> Answer {
        self.choices.iter_mut().for_each(|choice| choice.said = Said::new(reader.clone()));
        self
    }

    /// What is new of the parts of a text since this was asked for last.
    pub fn changes(&mut self, text: usize) -> Vec<Change> {
        self.choices.get_mut(text).map(|choice| std::mem::take(&mut choice.changes)).unwrap_or_default()
    }

    /// Takes what has happened. Returns the text that is new, and the token that brought it.
    ///
    /// # Errors
    /// If a text could not be written.
    pub fn hear(&mut self, text: usize, heard: Heard) -> Result<News, ApiError> {
        let Some(choice) = self.choices.get_mut(text) else { return Ok(News::Nothing) };
        match heard {
            Heard::Started { cached } => {
                choice.cached = cached;
                choice.clock.begun = Some(Instant::now());
                Ok(News::Nothing)
            }
            Heard::Progress { read, total } => {
                choice.prompt = total;
                choice.clock.read = choice.clock.begun.filter(|_| read > choice.cached).map(|_| (read, Instant::now()));
                Ok(News::Progress { read, total })
            }
            Heard::Prompt(tokens) => {
                choice.prompt_tokens.extend(tokens);
                Ok(News::Nothing)
            }
            Heard::Token(token) => {
                choice.written += 1;
                let now = Instant::now();
                let (first, _) = *choice.clock.written.get_or_insert((now, now));
                choice.clock.written = Some((first, now));
                choice.text.push_str(&token.text);
                choice.changes.extend(choice.said.hear(&token.text));
                if self.keep_tokens {
                    choice.tokens.push(token.clone());
                }
                Ok(News::Token(token))
            }
            Heard::End(end) if end.stop == StopReason::Cancelled => Err(ApiError::stopping()),
            Heard::End(end) => {
                choice.text.push_str(&end.text);
                choice.changes.extend(choice.said.hear(&end.text));
                choice.changes.extend(choice.said.end(end.stop));
                let last = end.text.clone();
                // What came from the disk came after the beginning.
                choice.cached = end.cached_tokens;
                choice.end = Some(end);
                Ok(News::End(last))
            }
            Heard::Failed(error) => Err(error.into()),
            Heard::Stopped(error) => Err(error),
            Heard::Approved(call) => {
                choice.changes.extend(choice.said.call_of_before(call));
                Ok(News::Nothing)
            }
            Heard::Called(part, outcome) => {
                choice.said.called(part, outcome);
                Ok(News::Called(part))
            }
            Heard::Next(reader) => {
                choice.said.go_on(reader);
                choice.go_on();
                Ok(News::Nothing)
            }
        }
    }

    /// Nothing more will be heard.
    ///
    /// # Errors
    /// If a text has not ended.
    pub fn check_ended(&self) -> Result<(), ApiError> {
        match self.choices.iter().all(|choice| choice.end.is_some()) {
            true => Ok(()),
            false => Err(ApiError::internal("the thread that runs the model has ended")),
        }
    }

    /// How much was read and written.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (i, choice) in self.choices.iter().enumerate() {
            let Some(end) = &choice.end else { continue };
            if i % self.for_each_prompt.max(1) == 0 {
                usage.prompt += end.prompt_tokens + choice.before.usage.prompt;
                usage.cached += end.cached_tokens + choice.before.usage.cached;
            }
            usage.written += choice.drawn();
        }
        usage
    }
}

impl Choice {
    /// How long reading its prompt has taken, and all that was written after its first token.
    pub fn timing(&self) -> (Timing, Timing) {
        let (mut prompt, mut written) = self.timing_of_last();
        for (sum, before) in [(&mut prompt, self.before.prefill), (&mut written, self.before.decode)] {
            sum.tokens += before.tokens;
            sum.time += before.time;
        }
        (prompt, written)
    }

    fn timing_of_last(&self) -> (Timing, Timing) {
        if let Some(end) = &self.end {
            return (end.prefill, end.decode);
        }
        let since = |from: Option<Instant>, to: Instant| from.map_or(Duration::ZERO, |from| to - from);
        let read = match (self.clock.written, self.clock.read) {
            (Some((first, _)), _) => Some((self.prompt, first)),
            (None, read) => read,
        };
        let mut prompt = Timing::default();
        if let Some((read, at)) = read {
            (prompt.tokens, prompt.time) = (read - self.cached.min(read), since(self.clock.begun, at));
        }
        let mut written = Timing::default();
        if let Some((first, last)) = self.clock.written {
            (written.tokens, written.time) = (self.written - 1, last - first);
        }
        (prompt, written)
    }

    /// What has ended was not the end of the answer.
    fn go_on(&mut self) {
        let (prefill, decode) = self.timing();
        let mut usage = Usage { written: self.drawn(), ..self.before.usage };
        if let Some(end) = self.end.take() {
            usage.prompt += end.prompt_tokens;
            usage.cached += end.cached_tokens;
        }
        self.before = Before { usage, prefill, decode };
        (self.clock, self.written, self.prompt, self.cached) = Default::default();
    }

    /// What a guard has found, if there is one.
    pub fn note(&self) -> Option<&Note> {
        self.end.as_ref()?.note.as_deref()
    }

    /// Whether a guard has ended it.
    pub fn is_refused(&self) -> bool {
        self.note().is_some_and(|note| note.refused)
    }

    /// Whether a stop string has cut it in the middle of a call.
    pub fn is_cut_in_a_call(&self) -> bool {
        let is_cut = self.end.as_ref().is_some_and(|end| end.stop == StopReason::StopString);
        is_cut && self.said.is_cut_in_a_call()
    }

    /// Adds to `json`, which tells of the end, what a guard has found.
    pub fn tell_note(&self, json: &mut Json) {
        if let Some(note) = self.note() {
            json["guard"] = note.told.clone();
        }
    }

    /// Tokens of prompts that did not have to be read.
    pub fn cached_tokens(&self) -> usize {
        self.before.usage.cached + self.cached
    }

    /// Tokens that were drawn, the one included that ends the text.
    pub fn drawn(&self) -> usize {
        let ended = self.end.as_ref().is_some_and(|end| end.stop == StopReason::End);
        self.before.usage.written + self.written + usize::from(ended)
    }
}

/// What is new.
#[derive(Clone, Debug)]
pub enum News {
    /// Nothing.
    Nothing,
    /// So many tokens of the prompt are read.
    Progress {
        /// So many.
        read: usize,
        /// Of so many.
        total: usize,
    },
    /// A token, with the text that became certain with it.
    Token(Token),
    /// The text has ended; this was held back until now.
    End(String),
    /// The call that this part of the answer is was run.
    Called(usize),
}
