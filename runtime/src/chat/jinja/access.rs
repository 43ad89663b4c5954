//! Attributes, items and slices.

use std::rc::Rc;

use super::budget::scan;
use super::error::{Result, fail};
use super::names;
use super::text::Text;
use super::value::{Callable, Loop, SeqKind, Value};

/// What jinja2 calls a value in messages.
fn describe(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        other => format!("{} object", other.type_name()),
    }
}

fn missing(value: &Value, name: &str) -> Value {
    Value::Undefined(format!("'{}' has no attribute '{name}'", describe(value)).into())
}

fn method(value: &Value, name: &str) -> Option<Result<Value>> {
    let (methods, unsafe_ones): (&[&'static str], &[&str]) = match value {
        Value::Str(_) => (names::STRING_METHODS, &[]),
        Value::Dict(_) => (names::DICT_METHODS, names::UNSAFE_DICT_METHODS),
        Value::Seq(seq) => names::seq_methods(seq.kind),
        Value::Loop(_) => (&["cycle", "changed"], &[]),
        Value::Callable(callable) if matches!(**callable, Callable::Cycler(..)) => (&["next", "reset"], &[]),
        _ => return None,
    };
    if let Some(name) = methods.iter().find(|method| **method == name) {
        return Some(Ok(Callable::Method(value.clone(), name).into()));
    }
    unsafe_ones
        .contains(&name)
        .then(|| fail!("access to attribute '{name}' of '{}' object is unsafe", value.type_name()))
}

/// `value.name`: a method or attribute, or else an item.
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value> {
    if let Some(method) = method(value, name) {
        return method;
    }
    match value {
        Value::Undefined(message) => fail!("{message}"),
        Value::Dict(dict) => {
            scan(8 * dict.pairs().len())?;
            Ok(dict.get_str(name).cloned().unwrap_or_else(|| missing(value, name)))
        }
        Value::Namespace(namespace) => {
            let found = namespace.0.borrow().iter().find(|(n, _)| &**n == name).map(|(_, value)| value.clone());
            Ok(found.unwrap_or_else(|| missing(value, name)))
        }
        Value::Seq(seq) if seq.kind == SeqKind::Group && name == "grouper" => Ok(seq.items()[0].clone()),
        Value::Seq(seq) if seq.kind == SeqKind::Group && name == "list" => Ok(seq.items()[1].clone()),
        Value::Loop(context) => Ok(loop_attribute(context, name).unwrap_or_else(|| missing(value, name))),
        Value::Callable(callable) => match (&**callable, name) {
            (Callable::Macro { definition, .. }, "name") => Value::string(&definition.name),
            (Callable::Cycler(items, at), "current") => Ok(items.items()[at.get()].clone()),
            _ => Ok(missing(value, name)),
        },
        _ => Ok(missing(value, name)),
    }
}

fn loop_attribute(context: &Rc<Loop>, name: &str) -> Option<Value> {
    let (index, items) = (context.index.get(), context.items.items());
    let number = |n: usize| Some(Value::Int(n as i128));
    let item = |at: Option<usize>| {
        Some(
            at.and_then(|at| items.get(at))
                .cloned()
                .unwrap_or_else(|| Value::Undefined("there is no such item".into())),
        )
    };
    match name {
        "index" => number(index + 1),
        "index0" => number(index),
        "revindex" => number(items.len() - index),
        "revindex0" => number(items.len() - index - 1),
        "first" => Some(Value::Bool(index == 0)),
        "last" => Some(Value::Bool(index + 1 == items.len())),
        "length" => number(items.len()),
        "depth" => number(context.depth + 1),
        "depth0" => number(context.depth),
        "previtem" => item(index.checked_sub(1)),
        "nextitem" => item(index.checked_add(1)),
        _ => None,
    }
}

/// `value[key]`: an item, or else an attribute.
pub(super) fn item(value: &Value, key: &Value) -> Result<Value> {
    let found = match (value, key, key.as_int()) {
        (Value::Undefined(message), ..) => return fail!("{message}"),
        (Value::Dict(dict), ..) => dict.get(key)?.cloned(),
        (Value::Seq(seq), _, Some(index)) => position(index, seq.items().len()).map(|at| seq.items()[at].clone()),
        (Value::Str(text), _, Some(index)) => {
            scan(text.len())?;
            let count = if index < 0 { text.as_str().chars().count() } else { text.len() };
            let at = position(index, count).and_then(|at| text.as_str().char_indices().nth(at));
            at.map(|(at, c)| text.part(at..at + c.len_utf8()).map(Value::from)).transpose()?
        }
        _ => None,
    };
    match (found, key) {
        (Some(found), _) => Ok(found),
        (None, Value::Str(name)) => match method(value, name.as_str()) {
            Some(method) => method,
            None if matches!(value, Value::Dict(_)) => Ok(missing(value, name.as_str())),
            None => attribute(value, name.as_str()),
        },
        (None, key) => {
            let mut text = Text::default();
            super::print::repr(&mut text, key, 0)?;
            Ok(Value::Undefined(format!("'{}' has no element {}", describe(value), text.as_str()).into()))
        }
    }
}

fn position(index: i128, count: usize) -> Option<usize> {
    let at = if index < 0 { index + count as i128 } else { index };
    usize::try_from(at).ok().filter(|at| *at < count)
}

/// `value[start:stop:step]`.
pub(super) fn slice(value: &Value, [start, stop, step]: [Option<i128>; 3]) -> Result<Value> {
    if step == Some(0) {
        return fail!("slice step cannot be zero");
    }
    match value {
        Value::Undefined(message) => fail!("{message}"),
        Value::Str(text) => {
            scan(text.len())?;
            let places: Vec<usize> = text.as_str().char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let indices = indices(start, stop, step, places.len() - 1);
            let mut out = Text::default();
            if step.unwrap_or(1) == 1 {
                let (first, count) = (indices.clone().next().unwrap_or(0), indices.count());
                out.push_part(text, places[first]..places[first + count])?;
            } else {
                for i in indices {
                    out.push_part(text, places[i]..places[i + 1])?;
                }
            }
            Ok(out.into())
        }
        Value::Seq(seq) if seq.kind.can_be_sliced() => {
            Value::seq(seq.kind, indices(start, stop, step, seq.items().len()).map(|i| seq.items()[i].clone()))
        }
        other => fail!("'{}' object cannot be sliced", other.type_name()),
    }
}

/// The indices that a slice of `count` items takes, in order (Python's `slice.indices`).
fn indices(
    start: Option<i128>,
    stop: Option<i128>,
    step: Option<i128>,
    count: usize,
) -> impl Iterator<Item = usize> + Clone {
    let (count, step) = (count as i128, step.unwrap_or(1));
    let (low, high) = if step > 0 { (0, count) } else { (-1, count - 1) };
    let bound = |index: Option<i128>, default: i128| match index {
        None => default,
        Some(index) if index < 0 => index.saturating_add(count).max(low),
        Some(index) => index.min(high),
    };
    let (start, stop) =
        if step > 0 { (bound(start, low), bound(stop, high)) } else { (bound(start, high), bound(stop, low)) };
    let distance = if step > 0 { stop - start } else { start - stop };
    let (stride, distance) = (step.unsigned_abs(), distance.max(0) as u128);
    let taken = distance.div_ceil(stride) as usize;
    (0..taken).map(move |i| (start + i as i128 * step) as usize)
}
