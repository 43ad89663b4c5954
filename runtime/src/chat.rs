//! Chat templates: a conversation becomes the text that the model was trained on.
//!
//! A template is a Jinja program that came with the model. It is rendered as Hugging Face's `apply_chat_template`
//! renders it: blocks trimmed, `raise_exception`, `strftime_now`, `tojson` as Python's `json.dumps`, Python's string
//! methods, loop controls, `{% generation %}`. `tests/chat.rs` compares the two.

mod date;
mod json;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

pub use date::DateTime;

/// Instructions that one rendering may take. Llama's templates need some thousands; a template that loops without end
/// must not hang the program.
const FUEL: u64 = 5_000_000;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// A string, or a list of parts if the template takes one; null when there is none.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub content: Json,
    /// Whatever else the template reads, such as `tool_calls`.
    #[serde(flatten)]
    pub extra: Map<String, Json>,
}

impl Message {
    /// A message of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: Json::String(content.into()), extra: Map::new() }
    }
}

/// What a template may see besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderOptions {
    /// The tools offered to the model, a list of JSON schemas.
    pub tools: Option<Json>,
    /// Whether to open the assistant's answer at the end.
    pub add_generation_prompt: bool,
    /// Further variables, e.g. `date_string`, `custom_tools`. They override the special tokens.
    pub variables: Map<String, Json>,
    /// What `strftime_now` takes for now; the present moment if none.
    pub now: Option<DateTime>,
}

/// Why a conversation could not be rendered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChatError {
    /// The model has no template: most likely a base model.
    #[error(
        "this model has no chat template: it completes text and was not trained to converse. Use `quipu run`, or give a template with --template FILE"
    )]
    NoTemplate,
    /// The template is no Jinja that we know.
    #[error("the chat template cannot be parsed: {0}")]
    Syntax(String),
    /// The template itself refused the conversation, by `raise_exception`.
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
    /// Something failed while rendering.
    #[error("the chat template failed: {0}")]
    Render(String),
    /// No messages.
    #[error("a conversation needs at least one message")]
    Empty,
}

/// What `raise_exception` was called with, carried through the template engine.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// A parsed template with the model's special tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    special_tokens: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// Parses `source`. `bos` and `eos` are the texts of the model's tokens, `bos_token` and `eos_token` in the
    /// template; a missing one is undefined there and prints nothing.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with the line.
    pub fn new(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<ChatTemplate, ChatError> {
        let environment = environment(source).map_err(|e| ChatError::Syntax(describe(&e)))?;
        let tokens = [("bos_token", bos), ("eos_token", eos)];
        let special_tokens = tokens.into_iter().filter_map(|(name, text)| Some((name, text?.to_string()))).collect();
        Ok(ChatTemplate { source: source.to_string(), environment, special_tokens })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as one text, with the special tokens spelled out; tokenise it with them parsed and without
    /// adding a BOS (see [`one_bos`]).
    ///
    /// # Errors
    /// [`ChatError::Refused`] when the template says so, [`ChatError::Render`] when it fails, [`ChatError::Empty`]
    /// without messages.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, ChatError> {
        if messages.is_empty() {
            return Err(ChatError::Empty);
        }
        let mut variables: Vec<(String, Value)> = vec![
            ("messages".into(), messages.iter().map(message_value).collect()),
            ("tools".into(), options.tools.as_ref().map_or(Value::from(()), json::value)),
            ("documents".into(), Value::from(())),
            ("add_generation_prompt".into(), Value::from(options.add_generation_prompt)),
        ];
        variables.extend(self.special_tokens.iter().map(|(name, text)| (name.to_string(), Value::from(text.as_str()))));
        variables.extend(options.variables.iter().map(|(name, value)| (name.clone(), json::value(value))));
        let now = options.now.unwrap_or_else(DateTime::now);
        let strftime_now = Value::from_function(move |format: &str| {
            now.format(format).map_err(|directive| {
                Error::new(ErrorKind::InvalidOperation, format!("strftime_now knows no directive {directive}"))
            })
        });
        variables.push(("strftime_now".into(), strftime_now));

        let template = self.environment.get_template(NAME).map_err(|e| ChatError::Render(describe(&e)))?;
        // The engine has been seen to panic (minijinja 3.0.5: `''[::-1]`), and templates come from outside.
        let rendering = AssertUnwindSafe(|| template.render(Value::from_pairs(variables)));
        let Ok(rendered) = catch_unwind(rendering) else {
            return Err(ChatError::Render("the template engine crashed".into()));
        };
        rendered.map_err(|error| {
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                if let Some(raised) = cause.downcast_ref::<Raised>() {
                    return ChatError::Refused(raised.0.clone());
                }
                source = cause.source();
            }
            ChatError::Render(describe(&error))
        })
    }
}

/// The template's name in messages.
const NAME: &str = "chat_template";

fn environment(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    environment.add_template_owned(NAME, without_generation_tags(source))?;
    Ok(environment)
}

/// Hugging Face's `{% generation %}…{% endgeneration %}` marks what the assistant said, for training. Here it is only a
/// scope of its own, which is what `{% with %}` makes.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(len) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start..start + len]);
        out.push_str(before);
        match tag.trim_start_matches("{%").trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&tag.replace("generation", "with")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endwith")),
            _ => out.push_str(tag),
        }
        rest = &rest[start + len..];
    }
    out + rest
}

/// A message as the template sees it. Null fields are left out, as Hugging Face does: many templates fail on a null
/// where they handle a missing key.
fn message_value(message: &Message) -> Value {
    let mut fields = vec![("role", Value::from(message.role.as_str()))];
    let others = [("content", &message.content)].into_iter().chain(message.extra.iter().map(|(k, v)| (k.as_str(), v)));
    fields.extend(others.filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, json::value(v))));
    Value::from_pairs(fields)
}

/// The engine's message with the line and the causes, in one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.replace('\n', " ")
}

/// Makes sure that `tokens`, a conversation tokenised without adding anything, begin with one BOS if the model wants
/// one (`add`), and never with two: templates that write the BOS themselves and tokenizers that add it meet here.
pub fn one_bos(tokens: &mut Vec<u32>, bos: Option<u32>, add: bool) {
    let Some(bos) = bos else { return };
    let present = tokens.iter().take_while(|&&t| t == bos).count();
    if present > 1 {
        tokens.drain(1..present);
    } else if present == 0 && add {
        tokens.insert(0, bos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, ChatError> {
        ChatTemplate::new(source, Some("<s>"), None)?.render(&[Message::new("user", "hi")], &RenderOptions::default())
    }

    #[test]
    fn one_bos_never_two() {
        let bos = |mut tokens: Vec<u32>, bos, add| {
            one_bos(&mut tokens, bos, add);
            tokens
        };
        assert_eq!(bos(vec![5, 6], Some(1), true), [1, 5, 6]);
        assert_eq!(bos(vec![5, 6], Some(1), false), [5, 6]);
        assert_eq!(bos(vec![1, 5, 6], Some(1), true), [1, 5, 6]);
        assert_eq!(bos(vec![1, 1, 5, 1], Some(1), false), [1, 5, 1]);
        assert_eq!(bos(vec![5], None, true), [5]);
        assert_eq!(bos(vec![], Some(1), true), [1]);
    }

    #[test]
    fn failures_say_what_and_where() {
        assert!(matches!(render("{% if %}"), Err(ChatError::Syntax(m)) if m.contains("chat_template:1")));
        assert!(matches!(render("\n\n{{ messages.x.y }}"), Err(ChatError::Render(m)) if m.contains("chat_template:3")));
        assert!(
            matches!(render("{{ raise_exception('No ' ~ messages[0].role) }}"), Err(ChatError::Refused(m)) if m == "No user")
        );
        assert!(matches!(render("{{ strftime_now('%Q') }}"), Err(ChatError::Render(m)) if m.contains("%Q")));
        assert!(matches!(render("{% include 'x' %}"), Err(ChatError::Render(_))));
        assert!(matches!(
            ChatTemplate::new("", None, None).unwrap().render(&[], &RenderOptions::default()),
            Err(ChatError::Empty)
        ));
    }

    #[test]
    fn hostile_templates_end() {
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{{ c }}{% endfor %}{% endfor %}{% endfor %}";
        assert!(matches!(render(endless), Err(ChatError::Render(m)) if m.contains("fuel")));
        let deep = "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}";
        assert!(matches!(render(deep), Err(ChatError::Render(_))));
        let open = "{{ ".repeat(10_000);
        assert!(matches!(render(&open), Err(ChatError::Syntax(_))));
        let nested = format!("{{{{ {}1{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
        assert!(matches!(render(&nested), Err(ChatError::Syntax(_))));
        assert!(matches!(render("{{ ''[::-1] }}"), Err(ChatError::Render(_)) | Ok(_)));
    }
}
