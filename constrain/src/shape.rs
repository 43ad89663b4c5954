//! What an answer is to be.

use serde_json::Value as Json;

use crate::error::ShapeError;
use crate::parser::BUILT;
use crate::{gbnf, lark, limits, schema};

/// What an answer is to be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Shape {
    /// Any JSON object.
    JsonObject,
    /// JSON that is valid against this schema (draft 2020-12).
    JsonSchema(Json),
    /// What matches this regular expression, in the syntax of Rust's `regex`, from its beginning to its end.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A grammar in llguidance's dialect of Lark, with the rule `start`.
    Lark(String),
    /// A grammar in llama.cpp's GBNF, with the rule `root`.
    Gbnf(String),
}

impl Shape {
    /// A JSON schema that is written down.
    ///
    /// # Errors
    /// [`ShapeError::Json`], and [`ShapeError::TooLarge`].
    pub fn schema(text: &str) -> Result<Shape, ShapeError> {
        let (found, most) = (text.len(), limits::TEXT);
        if found > most {
            return Err(ShapeError::TooLarge { kind: "JSON schema", what: "bytes", found, most });
        }
        let schema = serde_json::from_str(text).map_err(|error| ShapeError::Json(error.to_string()))?;
        Ok(Shape::JsonSchema(schema))
    }

    /// A grammar that is written down: Lark after the word `%llguidance`, as llama.cpp has it, otherwise GBNF.
    pub fn grammar(text: &str) -> Shape {
        let is_lark = text.trim_start().starts_with("%llguidance");
        if is_lark { Shape::Lark(text.into()) } else { Shape::Gbnf(text.into()) }
    }

    /// Any text until a trigger occurs in it, and then what the rule beside the trigger says, one of those in `lark`;
    /// the text may end without a trigger, too. A trigger `<[128010]>` is the token with that id.
    ///
    /// After that rule the text ends. (It may of course be a list of calls.)
    pub fn after(triggers: &[(&str, &str)], lark: &str) -> Shape {
        let is_token = |trigger: &str| trigger.starts_with("<[") && trigger.ends_with("]>");
        let quoted = |text: &str| Json::from(text).to_string();
        let texts: Vec<String> = triggers.iter().filter(|(t, _)| !is_token(t)).map(|(t, _)| quoted(t)).collect();
        let mut grammar = "start: QUIPU_TEXT?".to_string();
        let mut rules = String::new();
        for (i, (trigger, then)) in triggers.iter().enumerate() {
            if is_token(trigger) {
                grammar += &format!(" | QUIPU_TEXT? {trigger} {then}");
            } else {
                // One lexeme that ends as soon as the trigger is there, wherever tokens are cut.
                grammar += &format!(" | quipu_until_{i} {then}");
                rules += &format!("quipu_until_{i}[lazy]: /(?s:.*)/ {}\n", quoted(trigger));
            }
        }
        let free = match texts.is_empty() {
            true => "/(?s:.+)/".to_string(),
            false => format!("/(?s:.+)/ & ~(/(?s:.*)/ ({}) /(?s:.*)/)", texts.join(" | ")),
        };
        Shape::Lark(format!("{grammar}\n{rules}QUIPU_TEXT: {free}\n{lark}\n"))
    }

    /// Refuses what can be seen to be wrong without a vocabulary. (The rest is found when it is compiled.)
    ///
    /// # Errors
    /// [`ShapeError`].
    pub fn check(&self) -> Result<(), ShapeError> {
        match self {
            _ if !BUILT => Err(ShapeError::NotBuilt),
            Shape::JsonSchema(asked) => schema::prepare(asked).map(|_| ()),
            Shape::Lark(text) => lark::check(text).map(|_| ()),
            Shape::Gbnf(text) => gbnf::to_lark(text).map(|_| ()),
            Shape::JsonObject | Shape::Regex(_) | Shape::Choice(_) => Ok(()),
        }
    }

    /// A name under which the same shape is found again.
    pub(crate) fn key(&self) -> String {
        match self {
            Shape::JsonObject => "object".into(),
            Shape::JsonSchema(schema) => format!("schema {schema}"),
            Shape::Regex(regex) => format!("regex {regex}"),
            Shape::Choice(texts) => format!("choice {}", Json::from(texts.clone())),
            Shape::Lark(lark) => format!("lark {lark}"),
            Shape::Gbnf(gbnf) => format!("gbnf {gbnf}"),
        }
    }

    /// What it is called in messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Shape::JsonObject | Shape::JsonSchema(_) => "JSON schema",
            Shape::Regex(_) => "regular expression",
            Shape::Choice(_) => "list of choices",
            Shape::Lark(_) => "Lark grammar",
            Shape::Gbnf(_) => "GBNF grammar",
        }
    }
}
