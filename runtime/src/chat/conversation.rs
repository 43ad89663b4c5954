//! What was said, and what the model has read of it.

use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::answer::Tool;
use super::error::ChatError;
use super::history;
use super::message::Message;
use super::options::RenderOptions;
use super::template::ChatTemplate;
use crate::adapters::Adapters;
use crate::engine::Engine;
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
    /// Tokens of the prompt that was asked for last.
    asked: usize,
    parse_special: bool,
    tools: Arc<[Tool]>,
    variables: Map<String, Json>,
    adapters: Adapters,
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
        Conversation {
            tokenizer,
            template,
            context,
            messages: Vec::new(),
            sequence: None,
            asked: 0,
            parse_special: false,
            tools: Arc::new([]),
            variables: Map::new(),
            adapters: Adapters::default(),
        }
    }

    /// An empty conversation in the model's own template.
    ///
    /// # Errors
    /// [`ChatError::NoTemplate`], [`ChatError::Syntax`].
    pub fn in_own_template(engine: &Engine) -> Result<Conversation, ChatError> {
        let source = engine.chat_template().ok_or(ChatError::NoTemplate)?;
        Ok(Conversation::new(engine, ChatTemplate::for_tokenizer(source, engine.tokenizer())?))
    }

    /// Whether the pieces of control tokens in what is said (`<|eot_id|>`) become these tokens. By default they are
    /// text: who writes a message cannot end it and begin another in somebody else's name.
    pub fn parse_special(self, parse_special: bool) -> Conversation {
        Conversation { parse_special, ..self }
    }

    /// With tools that the model may call.
    pub fn tools(self, tools: impl Into<Arc<[Tool]>>) -> Conversation {
        Conversation { tools: tools.into(), ..self }
    }

    /// With variables that the template sees, such as `enable_thinking`.
    pub fn variables(self, variables: Map<String, Json>) -> Conversation {
        Conversation { variables, ..self }
    }

    /// With adapters that the engine has loaded.
    pub fn adapters(self, adapters: Adapters) -> Conversation {
        Conversation { adapters, ..self }
    }

    /// What was said.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds a message: the system's, or one of a conversation that was held before.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Puts what the system says in the place of its messages at the beginning.
    pub fn set_system(&mut self, text: impl Into<String>) {
        self.messages.splice(..self.system_messages(), [Message::new("system", text)]);
    }

    /// What the model has read of the conversation; nothing while a request has it.
    pub fn sequence(&self) -> Option<&Sequence> {
        self.sequence.as_ref()
    }

    /// Goes on in a sequence that has what was said before.
    pub fn set_sequence(&mut self, sequence: Sequence) {
        self.sequence = Some(sequence);
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
        self.go_on(options).inspect_err(|_| drop(self.messages.pop()))
    }

    /// The request for the answer to what was said last, when that is not the user's: results of calls.
    ///
    /// # Errors
    /// See [`ChatError`]; then nothing is forgotten.
    pub fn go_on(&mut self, options: GenerateOptions) -> Result<Turn, ChatError> {
        let (tokens, forgotten) = self.prompt()?;
        let first = self.system_messages();
        self.messages.drain(first..first + forgotten);
        self.asked = tokens.len();
        let request = Request::new(tokens, options).adapters(self.adapters.clone()).sequence(self.sequence.take());
        Ok(Turn { request, forgotten })
    }

    /// The tokens of the conversation up to the answer, and how many messages after the system's are left out: the
    /// oldest turns, when all leave too little room for an answer. A turn is what the user says and all that follows,
    /// calls of tools and their results too.
    fn prompt(&self) -> Result<(Vec<u32>, usize), ChatError> {
        let room = self.context - (self.context / 4).min(ROOM_FOR_AN_ANSWER);
        let first = self.system_messages();
        let with_all = self.tokens(&self.messages)?;
        if with_all.len() <= room {
            return Ok((with_all, 0));
        }
        let begins = |(i, message): (usize, &Message)| (i > first && message.role == "user").then_some(i);
        let turns: Vec<usize> = self.messages.iter().enumerate().filter_map(begins).collect();
        let without = |turn: usize| {
            let kept = [&self.messages[..first], &self.messages[turns[turn]..]].concat();
            Ok((self.tokens(&kept)?, turns[turn] - first))
        };
        let Some(last) = turns.len().checked_sub(1) else {
            return Err(ChatError::TooLong { tokens: with_all.len(), context: self.context });
        };
        let mut fits = without(last)?;
        if fits.0.len() > room {
            return Err(ChatError::TooLong { tokens: fits.0.len(), context: self.context });
        }
        // Fewer messages are fewer tokens: halve the range of turns that might be the first to stay.
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = low.midpoint(high);
            let found = without(middle)?;
            if found.0.len() <= room {
                (fits, high) = (found, middle);
            } else {
                low = middle + 1;
            }
        }
        Ok(fits)
    }

    fn tokens(&self, messages: &[Message]) -> Result<Vec<u32>, ChatError> {
        let (messages, tools) = history::fitted(&self.template, messages, &self.tools);
        let variables = self.variables.clone();
        let options = RenderOptions::default().add_generation_prompt(true).tools(tools).variables(variables);
        let prompt =
            |messages: &[Message]| self.template.prompt(&self.tokenizer, messages, &options, self.parse_special);
        prompt(&messages).or_else(|error| match history::one_call_each(&messages) {
            Some(split) => prompt(&split),
            None => Err(error),
        })
    }

    /// The model has answered `text`, in the sequence that the request had. Later prompts have the tokens that it has
    /// written, not what a tokenizer makes of the text.
    pub fn answer(&mut self, text: impl Into<String>, sequence: Sequence) {
        let written = sequence.tokens().get(self.asked..).unwrap_or_default().to_vec();
        self.messages.push(Message::answer(text, written));
        self.sequence = Some(sequence);
    }

    /// The model has said `message`, which calls tools, in the sequence that the request had. Their results are to be
    /// pushed; [`Conversation::go_on`] asks for what it makes of them.
    pub fn called(&mut self, message: Message, sequence: Sequence) {
        self.messages.push(message);
        self.sequence = Some(sequence);
    }

    /// There is no answer: what the user said last is taken back. Older messages that [`Conversation::ask`] has
    /// forgotten to make room stay forgotten. `sequence` is the request's, as far as it was read.
    pub fn take_back(&mut self, sequence: Option<Sequence>) {
        self.messages.pop_if(|message| message.role == "user");
        self.sequence = sequence;
    }
}
