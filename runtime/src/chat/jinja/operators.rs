//! Python's operators.

use super::ast::{Binary, Compare};
use super::budget::scan;
use super::error::{Result, fail};
use super::percent;
use super::text::Text;
use super::value::{Seq, SeqKind, Value};

fn symbol(operator: Binary) -> &'static str {
    match operator {
        Binary::Or => "or",
        Binary::And => "and",
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "**",
    }
}

fn overflow<T>() -> Result<T> {
    fail!("an integer becomes too large")
}

/// Any operator but `and` and `or`.
pub(super) fn binary(operator: Binary, left: &Value, right: &Value) -> Result<Value> {
    if let Value::Undefined(message) = left {
        return fail!("{message}");
    }
    match (operator, left, right) {
        (Binary::Mod, Value::Str(format), _) => return percent::format(format, right).map(Value::from),
        (_, _, Value::Undefined(message)) => return fail!("{message}"),
        (Binary::Add, Value::Str(a), Value::Str(b)) => {
            let mut text = Text::default();
            text.push_text(a)?;
            text.push_text(b)?;
            return Ok(text.into());
        }
        (Binary::Add, Value::Seq(a), Value::Seq(b)) if a.kind == b.kind && is_list_or_tuple(a) => {
            return Value::seq(a.kind, a.items().iter().chain(b.items()).cloned());
        }
        (Binary::Mul, Value::Str(_) | Value::Seq(_), times) if times.as_int().is_some() => return repeat(left, times),
        (Binary::Mul, times, Value::Str(_) | Value::Seq(_)) if times.as_int().is_some() => return repeat(right, times),
        _ => {}
    }
    match (left.as_int(), right.as_int(), left.as_f64(), right.as_f64()) {
        (Some(a), Some(b), ..) => integers(operator, a, b),
        (.., Some(a), Some(b)) => floats(operator, a, b),
        _ => fail!(
            "unsupported operand type(s) for {}: '{}' and '{}'",
            symbol(operator),
            left.type_name(),
            right.type_name()
        ),
    }
}

fn is_list_or_tuple(seq: &Seq) -> bool {
    matches!(seq.kind, SeqKind::List | SeqKind::Tuple)
}

fn repeat(value: &Value, times: &Value) -> Result<Value> {
    let times = times.as_int().unwrap_or(0).max(0);
    match value {
        Value::Str(text) => {
            let mut out = Text::default();
            if text.len() > 0 {
                for _ in 0..times {
                    out.push_text(text)?;
                }
            }
            Ok(out.into())
        }
        Value::Seq(seq) if is_list_or_tuple(seq) => {
            let mut out = Seq::new(seq.kind);
            if !seq.items().is_empty() {
                for _ in 0..times {
                    seq.items().iter().try_for_each(|item| out.push(item.clone()))?;
                }
            }
            Ok(out.into())
        }
        other => fail!("unsupported operand type(s) for *: '{}' and 'int'", other.type_name()),
    }
}

fn integers(operator: Binary, a: i128, b: i128) -> Result<Value> {
    let value = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div if b == 0 => return fail!("division by zero"),
        Binary::Div => return Ok(Value::Float(a as f64 / b as f64)),
        Binary::FloorDiv | Binary::Mod if b == 0 => return fail!("integer division or modulo by zero"),
        // Python rounds down, so that the rest has the sign of the divisor.
        Binary::FloorDiv => a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }),
        Binary::Mod => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
        Binary::Pow if b < 0 && a == 0 => return fail!("0.0 cannot be raised to a negative power"),
        Binary::Pow if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
        Binary::Pow => match a {
            0 | 1 => Some(if b == 0 { 1 } else { a }),
            -1 => Some(if b % 2 == 0 { 1 } else { -1 }),
            _ => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        },
        Binary::And | Binary::Or => None,
    };
    value.map_or_else(overflow, |value| Ok(Value::Int(value)))
}

fn floats(operator: Binary, a: f64, b: f64) -> Result<Value> {
    Ok(Value::Float(match operator {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div | Binary::FloorDiv | Binary::Mod if b == 0.0 => return fail!("float division by zero"),
        Binary::Div => a / b,
        Binary::FloorDiv => ((a - modulo(a, b)) / b).round(),
        Binary::Mod => modulo(a, b),
        Binary::Pow if a == 0.0 && b < 0.0 => return fail!("0.0 cannot be raised to a negative power"),
        Binary::Pow => a.powf(b),
        Binary::And | Binary::Or => f64::NAN,
    }))
}

/// The rest with the sign of the divisor.
fn modulo(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}

pub(super) fn negate(value: &Value) -> Result<Value> {
    match (value, value.as_int()) {
        (Value::Float(f), _) => Ok(Value::Float(-f)),
        (_, Some(i)) => i.checked_neg().map_or_else(overflow, |i| Ok(Value::Int(i))),
        (Value::Undefined(message), _) => fail!("{message}"),
        _ => fail!("bad operand type for unary -: '{}'", value.type_name()),
    }
}

pub(super) fn plus(value: &Value) -> Result<Value> {
    match (value, value.as_int()) {
        (Value::Float(f), _) => Ok(Value::Float(*f)),
        (_, Some(i)) => Ok(Value::Int(i)),
        (Value::Undefined(message), _) => fail!("{message}"),
        _ => fail!("bad operand type for unary +: '{}'", value.type_name()),
    }
}

pub(super) fn compare(operator: Compare, left: &Value, right: &Value) -> Result<bool> {
    let is_nan = |value: &Value| matches!(value, Value::Float(f) if f.is_nan());
    Ok(match operator {
        Compare::Eq => left.equals(right)?,
        Compare::Ne => !left.equals(right)?,
        Compare::In => contains(right, left)?,
        Compare::NotIn => !contains(right, left)?,
        Compare::Lt => left.order(right, "<")?.is_lt() && !is_nan(left) && !is_nan(right),
        Compare::Le => left.order(right, "<=")?.is_le() && !is_nan(left) && !is_nan(right),
        Compare::Gt => left.order(right, ">")?.is_gt() && !is_nan(left) && !is_nan(right),
        Compare::Ge => left.order(right, ">=")?.is_ge() && !is_nan(left) && !is_nan(right),
    })
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool> {
    match (container, item) {
        (Value::Str(text), Value::Str(part)) => {
            scan(text.len())?;
            Ok(text.as_str().contains(part.as_str()))
        }
        (Value::Str(_), Value::Undefined(message)) => fail!("{message}"),
        (Value::Str(_), other) => {
            fail!("'in <string>' requires string as left operand, not {}", other.type_name())
        }
        (Value::Dict(dict), key) => Ok(dict.get(key)?.is_some()),
        (Value::Seq(seq), item) => {
            for mine in seq.items() {
                if mine.equals(item)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Undefined(_), _) => Ok(false),
        (other, _) => fail!("argument of type '{}' is not iterable", other.type_name()),
    }
}
