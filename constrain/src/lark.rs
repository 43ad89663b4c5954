//! Lark from outside: what is checked before it is compiled.

use serde_json::{Deserializer, Value as Json};

use crate::error::ShapeError;
use crate::limits;
use crate::schema;

const KIND: &str = "Lark grammar";

/// A grammar that may be compiled: the schemas in it (`%json`) are brought into the form that is enforced.
///
/// # Errors
/// When it is too large or too deep, or has a schema that cannot be enforced.
pub fn check(lark: &str) -> Result<String, ShapeError> {
    check_depth(lark, KIND)?;
    let rules = lark.lines().filter(|line| line.split_once(':').is_some_and(|(name, _)| is_name(name))).count();
    if rules > limits::RULES {
        return Err(ShapeError::TooLarge { kind: KIND, what: "rules", found: rules, most: limits::RULES });
    }
    let mut checked = String::with_capacity(lark.len());
    let mut rest = lark;
    while let Some((before, after)) = rest.split_once("%json") {
        checked.push_str(before);
        checked.push_str("%json");
        let mut values = Deserializer::from_str(after).into_iter::<Json>();
        rest = match values.next() {
            Some(Ok(value @ Json::Object(_))) => {
                checked.push(' ');
                checked.push_str(&schema::prepare(&value)?.to_string());
                &after[values.byte_offset()..]
            }
            // Not where a schema stands, or no JSON: the compiler says so.
            _ => after,
        };
    }
    checked.push_str(rest);
    Ok(checked)
}

fn is_name(text: &str) -> bool {
    let name = text.trim().trim_start_matches(['?', '!']);
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.[]=\" ".contains(c))
}

/// Refuses groups that are nested so deep that reading them may not end well. Brackets in texts count as well.
///
/// # Errors
/// [`ShapeError::TooLarge`].
pub fn check_depth(text: &str, kind: &'static str) -> Result<(), ShapeError> {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    match deepest > limits::GROUPS {
        true => Err(ShapeError::TooLarge { kind, what: "levels of groups", found: deepest, most: limits::GROUPS }),
        false => Ok(()),
    }
}
