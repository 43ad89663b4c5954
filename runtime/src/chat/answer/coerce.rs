//! Arguments that are nearly what a schema asks for.

use serde_json::{Map, Number, Value as Json};

/// Brings a value into the form that its JSON Schema asks for, where only one thing can be meant; any other value stays
/// as it is.
///
/// - A string where a number, true or false, null, a list or an object is asked for, and the string spells one.
/// - A number with nothing behind its point where a whole number is asked for.
/// - With `lenient`, null for a property that may be left out and not be null: it is left out.
///
/// ```
/// use quipu_runtime::chat::answer::coerce;
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "properties": {"days": {"type": "integer"}, "unit": {"type": "string"}}});
/// assert_eq!(coerce(json!({"days": "3", "unit": null}), &schema, true), json!({"days": 3}));
/// ```
pub fn coerce(value: Json, schema: &Json, lenient: bool) -> Json {
    match value {
        Json::String(text) if !allows(schema, "string") => spelled(&text, schema).unwrap_or(Json::String(text)),
        Json::Number(number) if !allows(schema, "number") && allows(schema, "integer") => {
            whole(&number).map_or(Json::Number(number), Json::Number)
        }
        Json::Array(list) => {
            let items = &schema["items"];
            list.into_iter().map(|item| coerce(item, items, lenient)).collect()
        }
        Json::Object(map) => object(map, schema, lenient).into(),
        value => value,
    }
}

fn object(map: Map<String, Json>, schema: &Json, lenient: bool) -> Map<String, Json> {
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    let is_left_out = |key: &String, value: &Json| {
        let property = &schema["properties"][key];
        lenient && value.is_null() && !required.iter().any(|name| name == key) && refuses_null(property)
    };
    let kept = map.into_iter().filter(|(key, value)| !is_left_out(key, value));
    kept.map(|(key, value)| {
        let value = coerce(value, &schema["properties"][&key], lenient);
        (key, value)
    })
    .collect()
}

/// Whether a schema says what its values are, and null is none of it.
pub(super) fn refuses_null(schema: &Json) -> bool {
    !allows(schema, "null")
}

/// Whether values of this type keep to a schema, as far as it says what type they have.
pub(super) fn allows(schema: &Json, name: &str) -> bool {
    let types = types(schema);
    types.is_empty() || types.contains(&name)
}

/// The types that a schema names, itself or in what it offers for choice; none if it says nothing or points elsewhere.
fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(name) => return vec![name],
        Json::Array(names) => return names.iter().filter_map(Json::as_str).collect(),
        _ => {}
    }
    let Some(choices) = schema["anyOf"].as_array().or(schema["oneOf"].as_array()) else { return Vec::new() };
    let mut all = Vec::new();
    for choice in choices {
        match types(choice) {
            of_choice if of_choice.is_empty() => return of_choice,
            of_choice => all.extend(of_choice),
        }
    }
    all
}

/// The value that a string spells, if the schema has a place for it.
fn spelled(text: &str, schema: &Json) -> Option<Json> {
    let text = text.trim();
    let value = match text {
        "True" => true.into(),
        "False" => false.into(),
        "None" => Json::Null,
        _ => serde_json::from_str::<Json>(text).ok()?,
    };
    let fits = match &value {
        Json::Null => allows(schema, "null"),
        Json::Bool(_) => allows(schema, "boolean"),
        Json::Number(_) if allows(schema, "number") => true,
        Json::Number(number) => return whole(number).filter(|_| allows(schema, "integer")).map(Json::Number),
        Json::Array(_) => allows(schema, "array"),
        Json::Object(_) => allows(schema, "object"),
        Json::String(_) => false,
    };
    fits.then_some(value)
}

/// The number, if it is whole and every program can hold it.
fn whole(number: &Number) -> Option<Number> {
    if number.is_f64() {
        let float = number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < (1_u64 << 53) as f64)?;
        return Some((float as i64).into());
    }
    Some(number.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_can_be_meant() {
        for (schema, value, expected) in [
            (json!({"type": "number"}), json!("2.50"), json!(2.5)),
            (json!({"type": "integer"}), json!(" 3 "), json!(3)),
            (json!({"type": "integer"}), json!("3.0"), json!(3)),
            (json!({"type": "integer"}), json!(3.0), json!(3)),
            (json!({"type": "integer"}), json!(3.5), json!(3.5)),
            (json!({"type": "integer"}), json!("3.5"), json!("3.5")),
            (json!({"type": "integer"}), json!(1e300), json!(1e300)),
            (json!({"type": "number"}), json!("three"), json!("three")),
            (json!({"type": "number"}), json!(3.0), json!(3.0)),
            (json!({"type": "boolean"}), json!("True"), json!(true)),
            (json!({"type": "boolean"}), json!("false"), json!(false)),
            (json!({"type": "boolean"}), json!("yes"), json!("yes")),
            (json!({"type": "array"}), json!("[1, 2]"), json!([1, 2])),
            (json!({"type": "object"}), json!("{\"a\": 1}"), json!({"a": 1})),
            (json!({"type": "object"}), json!("[1]"), json!("[1]")),
            // A string is what is asked for, so it stays one.
            (json!({"type": "string"}), json!("3"), json!("3")),
            (json!({"type": ["string", "integer"]}), json!("3"), json!("3")),
            (json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), json!("3"), json!(3)),
            (json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), json!("None"), json!(null)),
            (json!({"anyOf": [{"type": "integer"}, {"$ref": "#/x"}]}), json!("3"), json!("3")),
            (json!({}), json!("3"), json!("3")),
            (json!(null), json!("3"), json!("3")),
            (json!({"type": "array", "items": {"type": "integer"}}), json!(["1", "x"]), json!([1, "x"])),
            (
                json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}}}}),
                json!({"a": ["1"], "b": "1"}),
                json!({"a": [1], "b": "1"}),
            ),
        ] {
            assert_eq!(coerce(value.clone(), &schema, true), expected, "{value} for {schema}");
        }
    }

    #[test]
    fn nulls_that_mean_nothing_are_left_out() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": ["string", "null"]}, "d": {},
        }});
        let value = json!({"a": null, "b": null, "c": null, "d": null, "e": null});
        assert_eq!(coerce(value.clone(), &schema, false), value);
        assert_eq!(coerce(value, &schema, true), json!({"a": null, "c": null, "d": null, "e": null}));
    }
}
