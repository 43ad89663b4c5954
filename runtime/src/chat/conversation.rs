//! What was said, and what the model has read of it.

use std::sync::Arc;

use super::error::ChatError;
use super::message::Message;
use super::template::{ChatTemplate, RenderOptions};
use crate::engine::Engine;
use crate::generate::prompt_tokens;
use crate::generate::{GenerateOptions, Request};
use crate::kv::Sequence;
use crate::tokenizer::Tokenizer;

/// Room that is kept for an answer: a quarter of the context, this many tokens at most.
const ROOM_FOR_AN_ANSWER: usize = 512;

/// A conversation with a model.
///
/// [`Conversation::ask`] makes a request of what was said; what became of it goes back with
/// [`Conversation::answer`], or with [`Conversation::take_back`] if there is no answer.
#[derive(Debug)]
pub struct Conversation {
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    context: usize,
    messages: Vec<Message>,
    /// What the model has read, when no request has it.
    sequence: Option<Sequence>,
}

/// A request for the next answer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Turn {
    /// What goes to the scheduler.
    pub request: Request,
    /// Messages that were forgotten to make room: the oldest ones, but not those of the system at the beginning.
    pub forgotten: usize,
}

impl Conversation {
    /// An empty conversation, in a template that takes the place of the model's own.
    pub fn new(engine: &Engine, template: ChatTemplate) -> Conversation {
        let (tokenizer, context) = (engine.tokenizer().clone(), engine.context_length());
        Conversation { tokenizer, template, context, messages: Vec::new(), sequence: None }
    }

    /// An empty conversation in the model's own template.
    ///
    /// # Errors
    /// [`ChatError::NoTemplate`], [`ChatError::Syntax`].
    pub fn in_own_template(engine: &Engine) -> Result<Conversation, ChatError> {
        let source = engine.chat_template().ok_or(ChatError::NoTemplate)?;
        Ok(Conversation::new(engine, ChatTemplate::for_tokenizer(source, engine.tokenizer())?))
    }

    /// What was said.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds a message: the system's, or one of a conversation that was held before.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Forgets all but the system's messages at the beginning.
    pub fn clear(&mut self) {
        self.messages.truncate(self.system_messages());
    }

    fn system_messages(&self) -> usize {
        self.messages.iter().take_while(|m| m.role == "system").count()
    }

    /// The user says `text`; returns the request for the answer, which takes along what the model has read so far.
    ///
    /// # Errors
    /// See [`ChatError`]; then nothing was said and nothing forgotten.
    pub fn ask(&mut self, text: impl Into<String>, options: GenerateOptions) -> Result<Turn, ChatError> {
        self.messages.push(Message::new("user", text));
        match self.prompt() {
            Ok((tokens, forgotten)) => {
                let first = self.system_messages();
                self.messages.drain(first..first + forgotten);
                Ok(Turn { request: Request::new(tokens, options).sequence(self.sequence.take()), forgotten })
            }
            Err(error) => {
                self.messages.pop();
                Err(error)
            }
        }
    }

    /// The tokens of the conversation up to the answer, and how many messages after the system's are left out: the
    /// oldest turns, when all leave too little room for an answer.
    fn prompt(&self) -> Result<(Vec<u32>, usize), ChatError> {
        let room = self.context - (self.context / 4).min(ROOM_FOR_AN_ANSWER);
        let first = self.system_messages();
        let mut messages = self.messages.clone();
        loop {
            let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
            let text = self.template.render(&messages, &options)?;
            let tokens = prompt_tokens(&self.tokenizer, &text, true);
            if tokens.len() <= room {
                return Ok((tokens, self.messages.len() - messages.len()));
            }
            // A turn is taken to be two messages: the user's, and the answer.
            if first + 2 >= messages.len() {
                return Err(ChatError::TooLong { tokens: tokens.len(), context: self.context });
            }
            messages.drain(first..first + 2);
        }
    }

    /// The model has answered `text`, in the sequence that the request had.
    pub fn answer(&mut self, text: impl Into<String>, sequence: Sequence) {
        self.messages.push(Message::new("assistant", text));
        self.sequence = Some(sequence);
    }

    /// There is no answer: what the user said last is taken back. Older messages that [`Conversation::ask`] has
    /// forgotten to make room stay forgotten. `sequence` is the request's, as far as it was read.
    pub fn take_back(&mut self, sequence: Option<Sequence>) {
        self.messages.pop_if(|message| message.role == "user");
        self.sequence = sequence;
    }
}
