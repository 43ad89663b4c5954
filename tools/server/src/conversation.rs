//! A conversation that an answer is asked for, in whichever dialect it came.

use quipu_runtime::chat::answer::{AnswerReader, ReadOptions, Tool, control_tokens};
use quipu_runtime::chat::{Message, RenderOptions, history};
use quipu_runtime::generate::Request;
use serde_json::Value as Json;

use crate::demand::Tools;
use crate::error::ApiError;
use crate::model::Model;
use crate::shape::Asked;

/// Tokens at the end of a prompt in which a template may have opened the thoughts.
const LAST_TOKENS: usize = 8;

/// What was said, and what the model may do with it.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// What was said.
    pub messages: Vec<Message>,
    /// What the template sees besides; tools are added to it.
    pub render: RenderOptions,
    /// Whether the answer goes on from what the assistant has said last.
    pub continue_last: bool,
    /// The tools that may be called.
    pub tools: Tools,
    /// Whether thoughts are told apart.
    pub thinking: bool,
}

impl Conversation {
    /// These messages, answered by the assistant.
    pub fn new(messages: Vec<Message>) -> Conversation {
        let render = RenderOptions::default().add_generation_prompt(true);
        Conversation { messages, render, continue_last: true, tools: Tools::default(), thinking: true }
    }

    /// The same with these tools.
    pub fn tools(self, tools: Tools) -> Conversation {
        Conversation { tools, ..self }
    }

    /// Tells templates that ask for it whether to have the model think (Qwen3's, SmolLM3's), unless it is said already.
    pub fn think(&mut self, think: bool) {
        self.render.variables.entry("enable_thinking").or_insert(think.into());
    }

    /// The conversation as the model's template can render it, and what it sees besides.
    ///
    /// # Errors
    /// When there is no template.
    pub fn rendered(&self, model: &Model) -> Result<(Vec<Message>, RenderOptions), ApiError> {
        let (messages, tools) = history::fitted(model.template()?, &self.messages, &self.tools.list);
        Ok((messages, self.render.clone().tools(tools)))
    }

    /// The tokens of the prompt.
    ///
    /// # Errors
    /// When the template refuses, or there is no room.
    pub fn prompt(&self, model: &Model) -> Result<Vec<u32>, ApiError> {
        let (messages, render) = self.rendered(model)?;
        fitted(&messages, |messages| model.conversation(messages, &render, self.continue_last))
    }

    /// The prompt as text.
    ///
    /// # Errors
    /// When the template refuses.
    pub fn text(&self, model: &Model) -> Result<String, ApiError> {
        let (messages, render) = self.rendered(model)?;
        let template = model.template()?;
        fitted(&messages, |messages| Ok(template.render(messages, &render)?))
    }

    /// Who reads the answer to `prompt`.
    pub fn reader(&self, model: &Model, prompt: &[u32]) -> AnswerReader {
        let Tools { list, parallel, .. } = self.tools.clone();
        let options = ReadOptions { tools: list, parallel, thinking: self.thinking };
        AnswerReader::new(options, &last_text(model, prompt))
    }

    /// Has the marks spelled out that the reader looks for, and keeps answers to calls of the tools; `asked` is the
    /// shape that they have already.
    ///
    /// # Errors
    /// 400 if that cannot be done.
    pub fn prepare(&self, model: &Model, requests: &mut [Request], asked: Option<&Asked>) -> Result<(), ApiError> {
        let Some(first) = requests.first() else { return Ok(()) };
        // A text that must not end is none with calls in it, but for those that it has to have.
        let is_free = !first.options.ignore_end || self.tools.demand.is_some();
        let end = last_text(model, &first.tokens);
        let grammar = match is_free {
            true => self.tools.grammar(model, &end, asked.map(Asked::shape))?,
            false => None,
        };
        let spelled = control_tokens(&model.tokenizer);
        for request in requests {
            request.options.spelled.clone_from(&spelled);
            if let Some(grammar) = &grammar {
                // It has the thoughts in it.
                request.options.after_thoughts = false;
                request.options.grammar = Some(grammar.clone());
            }
        }
        Ok(())
    }
}

/// What `render` makes of a conversation, or of the same one in another form if the template refuses it.
fn fitted<T>(messages: &[Message], render: impl Fn(&[Message]) -> Result<T, ApiError>) -> Result<T, ApiError> {
    let refused = match render(messages) {
        Err(error) if error.param.as_deref() == Some("messages") => error,
        rendered => return rendered,
    };
    let in_turns = history::in_turns(messages);
    let both = in_turns.as_deref().and_then(history::one_call_each);
    for other in [history::one_call_each(messages), in_turns, both].into_iter().flatten() {
        match render(&other) {
            Err(error) if error.param.as_deref() == Some("messages") => {}
            rendered => return rendered,
        }
    }
    Err(refused)
}

/// The end of a prompt as text.
fn last_text(model: &Model, prompt: &[u32]) -> String {
    model.tokenizer.decode(&prompt[prompt.len().saturating_sub(LAST_TOKENS)..], true)
}

/// The names that two tools have.
pub fn doubled(tools: &[Tool]) -> Option<&str> {
    let names = tools.iter().map(|tool| tool.name.as_str()).enumerate();
    names.clone().find(|(i, name)| names.clone().any(|(j, other)| i > &j && *name == other)).map(|(_, name)| name)
}

/// Arguments as the object that templates print, and not as the text that clients send.
pub fn arguments(arguments: &Json) -> Json {
    let object = arguments.as_str().and_then(|text| serde_json::from_str(text).ok()).filter(Json::is_object);
    object.unwrap_or_else(|| arguments.clone())
}
