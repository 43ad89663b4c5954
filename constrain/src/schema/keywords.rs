//! What each keyword of JSON Schema is, in whatever draft.

use serde_json::{Value as Json, json};

/// What a keyword is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyword {
    /// Has a schema, that of a part of the instance.
    Schema,
    /// Has a list of schemas, those of parts of the instance.
    Schemas,
    /// Has schemas by name.
    SchemasByName,
    /// Has schemas for the instance itself.
    InPlace,
    /// Has a schema elsewhere.
    Reference,
    /// Says something of values alone.
    Value,
    /// Has schemas by pattern.
    SchemasByPattern,
    /// Says nothing that an instance could break.
    Annotation,
    /// Would have to be kept to, and is not.
    Refused,
}

/// What `name` is. Names that no draft knows are annotations: so the specification wants it.
pub fn find(name: &str) -> Keyword {
    match name {
        "items" | "additionalItems" | "additionalProperties" => Keyword::Schema,
        "prefixItems" => Keyword::Schemas,
        "properties" => Keyword::SchemasByName,
        "patternProperties" => Keyword::SchemasByPattern,
        "allOf" | "anyOf" | "oneOf" => Keyword::InPlace,
        "$ref" => Keyword::Reference,
        "type" | "enum" | "const" | "required" | "pattern" | "format" | "minimum" | "maximum" | "exclusiveMinimum"
        | "exclusiveMaximum" | "multipleOf" | "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties"
        | "maxProperties" => Keyword::Value,
        "not"
        | "if"
        | "contains"
        | "uniqueItems"
        | "propertyNames"
        | "dependentRequired"
        | "dependentSchemas"
        | "dependencies"
        | "unevaluatedItems"
        | "unevaluatedProperties"
        | "$dynamicRef"
        | "$recursiveRef"
        | "extends"
        | "disallow"
        | "divisibleBy" => Keyword::Refused,
        // `then`, `else`, `minContains` and `maxContains` say nothing without what they belong to.
        _ => Keyword::Annotation,
    }
}

/// Whether a refused keyword says nothing here.
pub fn is_idle(name: &str, value: &Json) -> bool {
    match name {
        "uniqueItems" => *value == json!(false),
        "unevaluatedItems" | "unevaluatedProperties" | "propertyNames" => *value == json!(true) || *value == json!({}),
        "not" => *value == json!(false),
        "dependentRequired" | "dependentSchemas" | "dependencies" => *value == json!({}),
        _ => false,
    }
}
