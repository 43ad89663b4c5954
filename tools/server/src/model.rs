//! What the server knows of a model without asking its thread: names, tokenizer, template.

use std::sync::Arc;

use quipu_constrain::Grammars;
use quipu_runtime::Engine;
use quipu_runtime::chat::{ChatError, ChatTemplate, Message, RenderOptions};
use quipu_runtime::generate::prompt_tokens;
use quipu_runtime::tokenizer::Tokenizer;

use crate::card::Card;
use crate::error::ApiError;
use crate::lora::{Lora, Loras};
use crate::random;

/// A model as requests see it.
#[derive(Debug)]
pub struct Model {
    /// What it is called; the first is its id.
    pub names: Vec<String>,
    /// What its files say of it.
    pub card: Arc<Card>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The grammars that answers are kept to.
    pub grammars: Arc<Grammars>,
    /// Its adapters.
    pub loras: Loras,
    /// The most tokens of a prompt and its answer together.
    pub context: usize,
    /// When it was loaded, in seconds since 1970.
    pub loaded: u64,
    template: Result<ChatTemplate, ChatError>,
    longest_token: usize,
}

impl Model {
    /// What is to be known of a loaded model that is called `names`.
    pub fn of(engine: &Engine, names: Vec<String>) -> Model {
        let tokenizer = engine.tokenizer().clone();
        let template = match engine.chat_template() {
            Some(source) => ChatTemplate::for_tokenizer(source, &tokenizer),
            None => Err(ChatError::NoTemplate),
        };
        let ids = 0..tokenizer.vocab_size() as u32;
        let longest_token = ids.map(|id| tokenizer.token_bytes(id, true).len()).max().unwrap_or(1).max(1);
        Model {
            names,
            card: Card::of(engine.source(), engine.config()).into(),
            context: engine.context_length(),
            loaded: random::now(),
            loras: Loras::default(),
            grammars: Grammars::new(tokenizer.clone()).into(),
            tokenizer,
            template,
            longest_token,
        }
    }

    /// The same model with another chat template.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn with_template(self, source: &str) -> Result<Model, ChatError> {
        let template = Ok(ChatTemplate::for_tokenizer(source, &self.tokenizer)?);
        Ok(Model { template, ..self })
    }

    /// The same model with adapters that its engine has loaded.
    pub fn with_loras(self, list: Vec<Lora>) -> Model {
        Model { loras: Loras::new(list), ..self }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Its chat template.
    ///
    /// # Errors
    /// When it has none, or one that cannot be read.
    pub fn template(&self) -> Result<&ChatTemplate, ApiError> {
        self.template.as_ref().map_err(|error| error.clone().into())
    }

    /// The tokens of a conversation. If the assistant spoke last and `continue_last`, what is written goes on from
    /// there.
    ///
    /// # Errors
    /// When the template refuses, or there is no room.
    pub fn conversation(
        &self,
        messages: &[Message],
        options: &RenderOptions,
        continue_last: bool,
    ) -> Result<Vec<u32>, ApiError> {
        let template = self.template()?;
        let bytes = |message: &Message| message.content.as_str().map_or(0, str::len);
        self.check_bytes(messages.iter().map(bytes).sum())?;
        let (messages, begun) = match messages.split_last() {
            Some((last, before)) if continue_last && last.role == "assistant" && !before.is_empty() => {
                (before, last.content.as_str())
            }
            _ => (messages, None),
        };
        let mut tokens = template.prompt(&self.tokenizer, messages, options, false)?;
        if let Some(begun) = begun {
            tokens.extend(self.tokenizer.encode(begun, false, false));
        }
        self.check_room(tokens)
    }

    /// The tokens of a text to be continued.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn text(&self, text: &str) -> Result<Vec<u32>, ApiError> {
        self.check_bytes(text.len())?;
        self.check_room(prompt_tokens(&self.tokenizer, text, true))
    }

    /// Tokens from outside.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn check_room(&self, tokens: Vec<u32>) -> Result<Vec<u32>, ApiError> {
        match tokens.len() {
            n if n > self.context => Err(ApiError::exceeds_context(n, self.context)),
            _ => Ok(tokens),
        }
    }

    /// Refuses a text that has more tokens than there is room for even if all of them are the longest that there are:
    /// then nobody need count them.
    pub(crate) fn check_bytes(&self, bytes: usize) -> Result<(), ApiError> {
        // A normaliser may make a text shorter before it becomes tokens, but not by this much.
        let least = bytes / (self.longest_token * 4);
        if least > self.context { Err(ApiError::exceeds_context(least, self.context)) } else { Ok(()) }
    }
}
