//! The Jinja template that comes with a model.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use serde_json::{Map, Value as Json};

use super::date::DateTime;
use super::error::ChatError;
use super::json;
use super::message::Message;
use crate::setters::setters;
use crate::tokenizer::Tokenizer;

/// Instructions that one rendering may take. Llama's templates need some thousands; a template that loops without end
/// must not hang the program.
const FUEL: u64 = 5_000_000;

/// What a template may see besides the messages.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
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

setters!(RenderOptions {
    tools: impl Into<Option<Json>>,
    add_generation_prompt: bool,
    variables: Map<String, Json>,
    now: impl Into<Option<DateTime>>,
});

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

    /// The conversation as one text, with the special tokens spelled out; tokenise it with them parsed and without
    /// adding a BOS (see [`one_bos`](crate::generate::one_bos)).
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
