//! Keywords that say something of values: types, numbers, lengths, patterns.

use serde_json::{Map, Number, Value as Json};

use super::pointer::Pointer;
use super::{formats, pattern};
use crate::error::ShapeError;
use crate::{limits, size};

const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

/// The error for what stands at `at`.
pub fn refuse<T>(at: &Pointer, problem: impl Into<String>) -> Result<T, ShapeError> {
    Err(ShapeError::Schema { pointer: at.shown(), problem: problem.into() })
}

/// `type`: a name or a list of names.
pub fn check_type(value: &Json, at: &Pointer) -> Result<(), ShapeError> {
    let is_type = |value: &Json| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Json::Array(list) if !list.is_empty() && list.iter().all(is_type) => Ok(()),
        value if is_type(value) => Ok(()),
        _ => refuse(at, format!("must be one or several of {}", TYPES.join(", "))),
    }
}

/// Whether instances may be of this type, as far as `type` says.
pub fn may_be(schema: &Map<String, Json>, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(only)) => only == name,
        Some(Json::Array(list)) => list.iter().any(|one| one == name),
        _ => true,
    }
}

/// A value of `enum` or `const`, whose numbers have to be exact. `count` counts what is in it.
pub fn check_constant(value: &Json, at: &Pointer, depth: usize, count: &mut usize) -> Result<(), ShapeError> {
    *count += 1;
    check_count(*count)?;
    if depth > limits::DEPTH {
        return Err(too_deep(depth));
    }
    match value {
        Json::Number(number) => check_number(number, at).map(|_| ()),
        Json::String(text) if text.contains(pattern::is_unwritten) => {
            refuse(at, "has a control character that JSON writes by its number, which is not supported")
        }
        Json::Array(list) => {
            list.iter().enumerate().try_for_each(|(i, v)| check_constant(v, &at.index(i), depth + 1, count))
        }
        Json::Object(map) => map.iter().try_for_each(|(k, v)| check_constant(v, &at.at(k), depth + 1, count)),
        _ => Ok(()),
    }
}

/// Refuses too many schemas and values.
pub fn check_count(found: usize) -> Result<(), ShapeError> {
    let most = limits::SCHEMAS;
    if found <= most {
        return Ok(());
    }
    Err(ShapeError::TooLarge { kind: "JSON schema", what: "schemas and values", found, most })
}

/// The error for what is nested so deep.
pub fn too_deep(found: usize) -> ShapeError {
    ShapeError::TooLarge { kind: "JSON schema", what: "levels", found, most: limits::DEPTH }
}

fn check_number(number: &Number, at: &Pointer) -> Result<f64, ShapeError> {
    match number.as_f64().filter(|value| value.abs() < limits::NUMBER) {
        Some(value) => Ok(value),
        None => refuse(at, "is a number of 2^53 or more, which is not held exactly"),
    }
}

/// The bound that `minimum` and the like are.
pub fn bound(value: &Json, at: &Pointer) -> Result<f64, ShapeError> {
    match value {
        Json::Number(number) => check_number(number, at),
        _ => refuse(at, "must be a number"),
    }
}

/// `multipleOf`.
pub fn check_step(value: &Json, at: &Pointer) -> Result<(), ShapeError> {
    match bound(value, at)? {
        step if step > 0.0 => Ok(()),
        _ => refuse(at, "must be above 0"),
    }
}

/// How many: `minLength` and the like. A number such as 2.0 is one, too.
pub fn count(value: &Json, at: &Pointer) -> Result<u64, ShapeError> {
    let whole = |value: f64| (value.fract() == 0.0 && (0.0..1e15).contains(&value)).then_some(value as u64);
    match value.as_u64().or_else(|| value.as_f64().and_then(whole)) {
        Some(count) if count > limits::REPETITIONS => {
            refuse(at, format!("is {count}; at most {} is taken", limits::REPETITIONS))
        }
        Some(count) => Ok(count),
        None => refuse(at, "must be a whole number, not below 0"),
    }
}

/// A pattern, translated.
pub fn translate(value: &Json, at: &Pointer) -> Result<String, ShapeError> {
    let Some(text) = value.as_str() else { return refuse(at, "must be a string") };
    let translated = pattern::translate(text).and_then(|regex| size::check(&regex).map(|()| regex));
    translated.or_else(|problem| refuse(at, problem))
}

/// The pattern that a format is, translated.
pub fn format_pattern(value: &Json, at: &Pointer) -> Result<String, ShapeError> {
    match value.as_str().map(formats::find) {
        Some(Some(regex)) => Ok(format!("^(?:{regex})$")),
        Some(None) => refuse(
            at,
            format!(
                "{value} is not enforced (date, time, date-time, duration, email, hostname, ipv4, ipv6, uuid and uri are); \
                 leave it out or use `pattern`"
            ),
        ),
        None => refuse(at, "must be a string"),
    }
}

/// Whether it says how large numbers are.
pub fn has_bounds(schema: &Map<String, Json>) -> bool {
    ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].iter().any(|name| schema.contains_key(*name))
}

/// Refuses bounds between which llguidance does not tell the numbers apart: an exclusive integer and another bound
/// less than one away from it, for numbers that need not be integers.
pub fn check_bounds(schema: &Map<String, Json>, may_be_merged: bool, at: &Pointer) -> Result<(), ShapeError> {
    if !may_be(schema, "number") {
        return Ok(());
    }
    let get = |name: &str| schema.get(name).and_then(Json::as_f64);
    for (exclusive, others, sign) in [
        ("exclusiveMinimum", ["maximum", "exclusiveMaximum"], 1.0),
        ("exclusiveMaximum", ["minimum", "exclusiveMinimum"], -1.0),
    ] {
        let Some(bound) = get(exclusive).filter(|bound| bound.fract() == 0.0) else { continue };
        let is_near = |other: f64| (other - bound) * sign < 1.0;
        if may_be_merged || others.iter().filter_map(|name| get(name)).any(is_near) {
            let problem = "is a whole number, and the range may be less than 1 wide: that it is left out cannot be \
                           enforced; use `type: integer`, or a bound that is not exclusive";
            return refuse(&at.at(exclusive), problem);
        }
    }
    Ok(())
}
