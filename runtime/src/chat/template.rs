//! The Jinja template that comes with a model.

use serde_json::Value as Json;

use super::date::DateTime;
use super::error::ChatError;
use super::folded::system_in_first_turn;
use super::jinja::{Error, Rendered, TEMPLATE, Template, Value};
use super::message::Message;
use super::options::RenderOptions;
use super::prompt::{self, DATA};
use crate::tokenizer::Tokenizer;

/// A parsed template with the model's special tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    template: Template,
    special_tokens: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// Parses `source`. `bos` and `eos` are the texts of the model's tokens, `bos_token` and `eos_token` in the
    /// template; a missing one is undefined there and prints nothing.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with the line.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<ChatTemplate, ChatError> {
        let template = Template::parse(source).map_err(|error| ChatError::Syntax(describe(&error)))?;
        let tokens = [("bos_token", bos), ("eos_token", eos)];
        let special_tokens = tokens.into_iter().filter_map(|(name, text)| Some((name, text?.to_string()))).collect();
        Ok(ChatTemplate { source: source.to_string(), template, special_tokens })
    }

    /// Parses `source` for a model with this tokenizer.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with the line.
    pub fn for_tokenizer(source: &str, tokenizer: &Tokenizer) -> Result<ChatTemplate, ChatError> {
        let piece = |id: Option<u32>| id.map(|id| tokenizer.piece(id));
        ChatTemplate::new(source, piece(tokenizer.bos()), piece(tokenizer.eos()))
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as one text, with the special tokens spelled out, as Hugging Face renders it. Nothing in it
    /// says which of them the template has written and which a user: for a model take [`ChatTemplate::prompt`].
    ///
    /// # Errors
    /// [`ChatError::Refused`] when the template says so, [`ChatError::Render`] when it fails, [`ChatError::Empty`]
    /// without messages.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, ChatError> {
        self.rendered(messages, options).map(|rendered| rendered.text)
    }

    /// The conversation as the tokens of a prompt, with one BOS if the model wants it.
    ///
    /// Control tokens are what the template has written. What looks like one in a message, a tool or a variable stays
    /// text, unless `parse_special`; without such texts the tokens are Hugging Face's. An answer whose tokens are known
    /// ([`Message::tokens`]) keeps them where the template prints it as it is, or trimmed. What the system says
    /// stands before the user's first words where the template refuses it a turn (Gemma 2's does).
    ///
    /// # Errors
    /// Those of [`ChatTemplate::render`].
    pub fn prompt(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        options: &RenderOptions,
        parse_special: bool,
    ) -> Result<Vec<u32>, ChatError> {
        let tokens = |messages: &[Message]| {
            Ok(prompt::tokens(tokenizer, &self.rendered(messages, options)?, messages, parse_special))
        };
        match tokens(messages) {
            Err(ChatError::Refused(why)) => {
                let folded = system_in_first_turn(messages).map(|folded| tokens(&folded));
                folded.and_then(Result::ok).ok_or(ChatError::Refused(why))
            }
            rendered => rendered,
        }
    }

    fn rendered(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, ChatError> {
        if messages.is_empty() {
            return Err(ChatError::Empty);
        }
        let now = options.now.unwrap_or_else(DateTime::now);
        let bytes = prompt::size(messages, options);
        let rendered = self.template.render(bytes, now, || self.variables(messages, options));
        rendered.map_err(|error| match error.raised {
            true => ChatError::Refused(error.message),
            false => ChatError::Render(describe(&error)),
        })
    }

    fn variables(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<(String, Value)>, Error> {
        let mut variables = vec![
            ("messages".into(), prompt::messages(messages)?),
            ("tools".into(), options.tools.as_ref().map_or(Ok(Value::None), |tools| Value::from_json(tools, DATA))?),
            ("documents".into(), Value::None),
            ("add_generation_prompt".into(), Value::Bool(options.add_generation_prompt)),
        ];
        for (name, text) in &self.special_tokens {
            variables.push((name.to_string(), Value::from_json(&Json::from(text.as_str()), TEMPLATE)?));
        }
        for (name, value) in &options.variables {
            // `bos_token` and its like are to be tokens.
            let origin = if name.ends_with("_token") { TEMPLATE } else { DATA };
            variables.push((name.clone(), Value::from_json(value, origin)?));
        }
        Ok(variables)
    }
}

/// The engine's message with the line.
fn describe(error: &Error) -> String {
    match error.line {
        0 => error.message.clone(),
        line => format!("{} (chat_template:{line})", error.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, ChatError> {
        ChatTemplate::new(source, Some("<s>"), None)?.render(&[Message::new("user", "hi")], &RenderOptions::default())
    }

    #[test]
    fn failures_say_what_and_where() {
        assert!(matches!(render("{% if %}"), Err(ChatError::Syntax(m)) if m.contains("chat_template:1")));
        assert!(matches!(render("\n\n{{ messages.x.y }}"), Err(ChatError::Render(m)) if m.contains("chat_template:3")));
        assert!(
            matches!(render("{{ raise_exception('No ' ~ messages[0].role) }}"), Err(ChatError::Refused(m)) if m == "No user")
        );
        assert!(matches!(render("{{ strftime_now('%Q') }}"), Err(ChatError::Render(m)) if m.contains("%Q")));
        assert!(matches!(render("{% include 'x' %}"), Err(ChatError::Syntax(m)) if m.contains("include")));
        assert!(matches!(
            ChatTemplate::new("", None, None).unwrap().render(&[], &RenderOptions::default()),
            Err(ChatError::Empty)
        ));
    }
}
