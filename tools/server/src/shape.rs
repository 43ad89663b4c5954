//! What an answer is to be: the fields of all dialects that ask for JSON, a schema, a grammar.

use std::sync::Arc;

use quipu_constrain::{Shape, ShapeError};
use quipu_runtime::constraint::Grammar;
use serde_json::Value as Json;

use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Model;

/// A shape, and the field that asks for it.
#[derive(Clone, Debug)]
pub struct Asked {
    shape: Shape,
    field: String,
}

impl Asked {
    /// This shape, which the field `field` asks for.
    ///
    /// # Errors
    /// 400 if it can be seen already that it cannot be enforced.
    pub fn new(shape: Shape, field: impl Into<String>) -> Result<Asked, ApiError> {
        let asked = Asked { shape, field: field.into() };
        asked.shape.check().map_err(|error| asked.refused(&error))?;
        Ok(asked)
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    fn refused(&self, error: &ShapeError) -> ApiError {
        ApiError::field(&self.field, format!("cannot be kept to: {error}"))
    }

    /// The grammar of the shape, for a model.
    ///
    /// # Errors
    /// 400 if it cannot be enforced.
    pub fn grammar(&self, model: &Model) -> Result<Arc<dyn Grammar>, ApiError> {
        model.grammars.compile(&self.shape).map_err(|error| self.refused(&error))
    }
}

/// Reads the fields of OpenAI's bodies, and those that llama.cpp and vLLM have in the same place. Two of them at once
/// are refused.
///
/// # Errors
/// 400 with the name of the field.
pub fn read(fields: &Fields<'_>) -> Result<Option<Asked>, ApiError> {
    if fields.bool("grammar_lazy")? == Some(true) {
        return Err(ApiError::field(
            fields.name("grammar_lazy"),
            "is not supported: a grammar holds from the first token",
        ));
    }
    let is_empty = |value: &Json| value == "" || value.as_object().is_some_and(|map| map.is_empty());
    let mut found: Option<Asked> =
        fields.object("response_format")?.map(|format| of_format(&format)).transpose()?.flatten();
    // llama.cpp's and vLLM's.
    for (name, read) in FIELDS {
        // llama.cpp takes an empty one for none.
        let Some(value) = fields.get(name).filter(|value| !is_empty(value)) else { continue };
        let shape = read(value).ok_or_else(|| fields.wrong(name, "a schema, a text or a list of texts"))??;
        join(&mut found, Asked::new(shape, fields.name(name))?)?;
    }
    if let Some(outputs) = fields.object("structured_outputs")? {
        for (name, value) in outputs.map().iter().filter(|(_, value)| !value.is_null()) {
            let Some((_, read)) = OUTPUTS.iter().find(|(known, _)| known == name) else {
                let idle = ["disable_any_whitespace", "disable_additional_properties", "whitespace_pattern"];
                if idle.contains(&name.as_str()) && *value == Json::Bool(false) {
                    continue;
                }
                return Err(ApiError::field(outputs.name(name), "is not supported"));
            };
            let shape = read(value).ok_or_else(|| outputs.wrong(name, "a schema, a text or a list of texts"))??;
            join(&mut found, Asked::new(shape, outputs.name(name))?)?;
        }
    }
    Ok(found)
}

/// `{"type": "json_schema", …}`, with the schema beside it or within `json_schema`; none for `text`.
///
/// # Errors
/// 400 with the name of the field.
pub fn of_format(format: &Fields<'_>) -> Result<Option<Asked>, ApiError> {
    let of_schema = |fields: &Fields<'_>, name: &str| {
        fields.get(name).map(|schema| Asked::new(Shape::JsonSchema(schema.clone()), fields.name(name))).transpose()
    };
    match format.str("type")? {
        Some("text") | None => Ok(None),
        Some("json_object") => match of_schema(format, "schema")? {
            Some(asked) => Ok(Some(asked)),
            None => Asked::new(Shape::JsonObject, format.name("type")).map(Some),
        },
        Some("json_schema") => {
            let inner = format.object("json_schema")?;
            let schema = match &inner {
                Some(inner) => of_schema(inner, "schema")?.ok_or_else(|| inner.missing("schema"))?,
                None => of_schema(format, "schema")?.ok_or_else(|| format.missing("json_schema"))?,
            };
            Ok(Some(schema))
        }
        Some(_) => Err(format.wrong("type", "`text`, `json_object` or `json_schema`")),
    }
}

/// ollama's `format`: `json`, or a schema.
///
/// # Errors
/// 400 with the name of the field.
pub fn of_ollama(fields: &Fields<'_>) -> Result<Option<Asked>, ApiError> {
    let shape = match fields.get("format") {
        None => return Ok(None),
        Some(Json::String(text)) if text.is_empty() => return Ok(None),
        Some(Json::String(text)) if text == "json" => Shape::JsonObject,
        Some(schema @ Json::Object(_)) => Shape::JsonSchema(schema.clone()),
        Some(_) => return Err(fields.wrong("format", "`json` or a JSON schema")),
    };
    Asked::new(shape, fields.name("format")).map(Some)
}

fn join(found: &mut Option<Asked>, asked: Asked) -> Result<(), ApiError> {
    match found.replace(asked) {
        None => Ok(()),
        Some(other) => {
            let field = found.as_ref().map(|asked| asked.field.clone()).unwrap_or_default();
            Err(ApiError::field(field, format!("cannot be asked for together with `{}`", other.field)))
        }
    }
}

/// Makes a shape of a field's value; none if it is nothing of the kind.
type Read = fn(&Json) -> Option<Result<Shape, ApiError>>;

/// A schema, or the text of one.
fn schema(value: &Json) -> Option<Result<Shape, ApiError>> {
    Some(match value {
        Json::String(text) => Shape::schema(text).map_err(|error| ApiError::bad_request(error.to_string())),
        value => Ok(Shape::JsonSchema(value.clone())),
    })
}

fn regex(value: &Json) -> Option<Result<Shape, ApiError>> {
    Some(Ok(Shape::Regex(value.as_str()?.into())))
}

fn grammar(value: &Json) -> Option<Result<Shape, ApiError>> {
    Some(Ok(Shape::grammar(value.as_str()?)))
}

fn choice(value: &Json) -> Option<Result<Shape, ApiError>> {
    let texts = value.as_array()?.iter().map(|text| text.as_str().map(str::to_string));
    Some(Ok(Shape::Choice(texts.collect::<Option<_>>()?)))
}

fn object(value: &Json) -> Option<Result<Shape, ApiError>> {
    value.as_bool().filter(|&is| is).map(|_| Ok(Shape::JsonObject))
}

const FIELDS: [(&str, Read); 6] = [
    ("json_schema", schema),
    ("grammar", grammar),
    ("guided_json", schema),
    ("guided_regex", regex),
    ("guided_choice", choice),
    ("guided_grammar", grammar),
];

const OUTPUTS: [(&str, Read); 5] =
    [("json", schema), ("regex", regex), ("choice", choice), ("grammar", grammar), ("json_object", object)];
