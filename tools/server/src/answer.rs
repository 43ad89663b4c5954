//! What has been heard of the texts of one request, put together.

use quipu_runtime::chat::answer::AnswerReader;
use quipu_runtime::generate::{StopReason, Token};

use crate::engine::{End, Heard};
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
    /// How it has ended.
    pub end: Option<End>,
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
                Ok(News::Nothing)
            }
            Heard::Progress { read, total } => {
                choice.prompt = total;
                Ok(News::Progress { read, total })
            }
            Heard::Token(token) => {
                choice.written += 1;
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
                choice.end = Some(end);
                Ok(News::End(last))
            }
            Heard::Failed(error) => Err(error.into()),
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
                usage.prompt += end.prompt_tokens;
                usage.cached += end.cached_tokens;
            }
            usage.written += choice.drawn();
        }
        usage
    }
}

impl Choice {
    /// Tokens that were drawn, the one included that ends the text.
    pub fn drawn(&self) -> usize {
        let ended = self.end.as_ref().is_some_and(|end| end.stop == StopReason::End);
        self.written + usize::from(ended)
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
}
