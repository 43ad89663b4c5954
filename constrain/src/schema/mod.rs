//! JSON schemas: checked, and brought into the form that llguidance enforces exactly.
//!
//! What comes out accepts no instance that the schema does not accept. It may accept fewer: where texts may be written
//! in several ways (`\u0041`, `1E2`) or a pattern means different things to different engines, what all agree on
//! stays. Keywords that cannot be kept to are refused with their place. `$ref`s lead to definitions with names of our
//! own, so that whatever a pointer looks like it is followed here, once.
//!
//! - `walk`: through schema and definitions. `keywords`: what each keyword is. `values`: what belongs to one type:
//!   numbers, lengths. `pattern`: regular expressions of ECMA 262. `formats`: `format`. `pointer`: places.

mod formats;
mod keywords;
mod pattern;
mod pointer;
mod values;
mod walk;

use serde_json::{Value as Json, json};

use crate::error::ShapeError;

/// White space between two tokens of JSON: none, a space, or a new line that is indented. A weak model would write it
/// for ever.
const WHITE_SPACE: &str = r"( |\n {0,20})";

/// The schema as llguidance is to see it.
///
/// # Errors
/// [`ShapeError::Schema`] with the place of what cannot be enforced, and [`ShapeError::TooLarge`].
pub fn prepare(schema: &Json) -> Result<Json, ShapeError> {
    Ok(with_options(walk::walk(schema)?))
}

/// Any object.
pub fn object() -> Json {
    with_options(json!({"type": "object"}))
}

/// The place of the first `oneOf` that `fails` when it stands alone.
pub fn find_one_of(schema: &Json, fails: impl Fn(&Json) -> bool) -> Option<String> {
    walk::one_ofs(schema).into_iter().find_map(|(pointer, alone)| {
        let alone = walk::walk_at(schema, &alone).ok()?;
        fails(&with_options(alone)).then_some(pointer)
    })
}

/// `schema` is an object.
fn with_options(mut schema: Json) -> Json {
    // Without `\u`, every string is written in one way, so a property cannot hide behind another spelling of its name.
    schema["x-guidance"] = json!({"whitespace_pattern": WHITE_SPACE, "json_allowed_escapes": "nrbtf\\\""});
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schema: Json) -> String {
        match prepare(&schema) {
            Err(ShapeError::Schema { pointer, problem }) => format!("{pointer}: {problem}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_enforced_is_named_with_its_place() {
        let inner = |schema: Json| json!({"type": "object", "properties": {"a/b": {"type": "array", "items": schema}}});
        for (schema, at) in [
            (json!({"uniqueItems": true}), "#/properties/a~1b/items/uniqueItems: "),
            (json!({"not": {"type": "null"}}), "#/properties/a~1b/items/not: "),
            (json!({"if": true, "then": false}), "#/properties/a~1b/items/if: "),
            (json!({"pattern": "(?=a)b"}), "#/properties/a~1b/items/pattern: "),
            (json!({"type": "string", "format": "regex"}), "#/properties/a~1b/items/format: "),
            (json!({"minimum": 1e300}), "#/properties/a~1b/items/minimum: "),
            (json!({"enum": [9007199254740993u64]}), "#/properties/a~1b/items/enum/0: "),
            (json!({"$ref": "other.json"}), "#/properties/a~1b/items/$ref: "),
            (json!({"$ref": "#/$defs/none"}), "#/properties/a~1b/items/$ref: "),
            (json!({"minProperties": 3, "required": ["a"]}), "#/properties/a~1b/items/minProperties: "),
            (json!({"type": "text"}), "#/properties/a~1b/items/type: "),
            (json!({"anyOf": [{"contains": {}}]}), "#/properties/a~1b/items/anyOf/0/contains: "),
            (json!(7), "#/properties/a~1b/items: "),
        ] {
            let found = refused(inner(schema.clone()));
            assert!(found.starts_with(at), "{schema}: {found}");
        }
    }

    #[test]
    fn what_changes_nothing_is_taken() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "T", "description": "d", "default": {}, "x-guidance": {"lenient": true},
            "type": "object",
            "properties": {"n": {"type": "integer", "format": "int32", "uniqueItems": false, "unknown": 3}},
        });
        let prepared = prepare(&schema).unwrap();
        assert_eq!(prepared["properties"]["n"], json!({"type": "integer"}));
        assert_eq!(prepared["x-guidance"]["lenient"], Json::Null);
        assert_eq!(prepare(&Json::Bool(true)).unwrap()["type"], Json::Null);
    }

    #[test]
    fn references_are_followed_here() {
        let schema = json!({
            "$ref": "#/definitions/a~1b%25",
            "definitions": {"a/b%": {"anyOf": [{"type": "null"}, {"$ref": "#"}, {"type": "array", "items": {"$ref": "#/definitions/a~1b%25"}}]}},
        });
        let prepared = prepare(&schema).unwrap();
        let defs = prepared["$defs"].as_object().unwrap();
        assert_eq!((defs.len(), &prepared["$ref"]), (2, &json!("#/$defs/d0")));
        assert_eq!(defs["d0"]["anyOf"][1]["$ref"], json!("#/$defs/d1"));
        assert_eq!(defs["d0"]["anyOf"][2]["items"]["$ref"], json!("#/$defs/d0"));
    }

    #[test]
    fn too_much_is_refused() {
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({"items": deep});
        }
        assert!(matches!(prepare(&deep), Err(ShapeError::TooLarge { what: "levels", .. })));
        let wide = json!({"enum": (0..30_000).collect::<Json>()});
        assert!(matches!(prepare(&wide), Err(ShapeError::TooLarge { .. })));
    }
}
