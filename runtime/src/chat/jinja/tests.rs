//! Jinja's tests: what stands after `is`.

use super::args::{Arguments, string, wanted};
use super::ast::{Binary, Compare};
use super::error::{Result, fail};
use super::names::{FILTERS, TESTS};
use super::operators::{binary, compare, contains};
use super::print::to_text;
use super::strings;
use super::value::{SeqKind, Value};

/// `value is name(args)`.
pub(super) fn test(name: &str, value: &Value, args: Arguments) -> Result<bool> {
    let compared = |operator: Compare, args: Arguments| {
        let [other] = args.bind(name, ["other"])?;
        compare(operator, value, &wanted(other, name)?)
    };
    match name {
        "==" | "eq" | "equalto" => return compared(Compare::Eq, args),
        "!=" | "ne" => return compared(Compare::Ne, args),
        ">" | "gt" | "greaterthan" => return compared(Compare::Gt, args),
        ">=" | "ge" => return compared(Compare::Ge, args),
        "<" | "lt" | "lessthan" => return compared(Compare::Lt, args),
        "<=" | "le" => return compared(Compare::Le, args),
        "in" => {
            let [container] = args.bind(name, ["seq"])?;
            return contains(&wanted(container, name)?, value);
        }
        "sameas" => {
            let [other] = args.bind(name, ["other"])?;
            return same(value, &wanted(other, name)?);
        }
        "divisibleby" => {
            let [number] = args.bind(name, ["num"])?;
            return is_rest(value, &wanted(number, name)?, 0);
        }
        _ => args.none(name)?,
    }
    Ok(match name {
        "odd" => is_rest(value, &Value::Int(2), 1)?,
        "even" => is_rest(value, &Value::Int(2), 0)?,
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => FILTERS.contains(&string(value)?.as_str()),
        "test" => TESTS.contains(&string(value)?.as_str()),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "lower" | "upper" => {
            let text = std::rc::Rc::new(to_text(value)?);
            let method = if name == "lower" { "islower" } else { "isupper" };
            strings::call(&text, method, Arguments::default())?.is_true()
        }
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "number" => value.as_f64().is_some(),
        // What has a length and items: in Python that is a dict, too.
        "sequence" => match value {
            Value::Seq(seq) => matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Range | SeqKind::Group),
            Value::Undefined(_) | Value::Str(_) | Value::Dict(_) => true,
            _ => false,
        },
        "iterable" => {
            matches!(value, Value::Undefined(_) | Value::Str(_) | Value::Seq(_) | Value::Dict(_) | Value::Loop(_))
        }
        "callable" => matches!(value, Value::Callable(_) | Value::Loop(_) | Value::Undefined(_)),
        "escaped" => false,
        _ => return fail!("no test named '{name}'"),
    })
}

/// Whether `value % divisor == rest`.
fn is_rest(value: &Value, divisor: &Value, rest: i128) -> Result<bool> {
    binary(Binary::Mod, value, divisor)?.equals(&Value::Int(rest))
}

/// Python's `is`: for what a template can make, numbers and strings are the same when they are equal and of one type.
fn same(a: &Value, b: &Value) -> Result<bool> {
    Ok(match (a, b) {
        (Value::Seq(a), Value::Seq(b)) => std::rc::Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => std::rc::Rc::ptr_eq(a, b),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b) && a.equals(b)?,
    })
}
