//! Methods of Python's `dict`, `list` and their like.

use super::args::{Arguments, int, wanted};
use super::error::{Result, fail};
use super::value::{Dict, Seq, SeqKind, Value};

pub(super) fn dict_method(dict: &Dict, name: &str, args: Arguments) -> Result<Value> {
    let pairs = dict.pairs().iter();
    match name {
        "get" => {
            let [key, default] = args.bind(name, ["key", "default"])?;
            let found = dict.get(&wanted(key, name)?)?.cloned();
            Ok(found.or(default).unwrap_or(Value::None))
        }
        "keys" => args.none(name).and_then(|()| Value::seq(SeqKind::Keys, pairs.map(|(key, _)| key.clone()))),
        "values" => args.none(name).and_then(|()| Value::seq(SeqKind::Values, pairs.map(|(_, value)| value.clone()))),
        "items" => {
            args.none(name)?;
            let mut items = Seq::new(SeqKind::Items);
            for (key, value) in pairs {
                items.push(Value::seq(SeqKind::Tuple, [key.clone(), value.clone()])?)?;
            }
            Ok(items.into())
        }
        "copy" => {
            args.none(name)?;
            let mut copy = Dict::default();
            pairs.cloned().try_for_each(|(key, value)| copy.insert(key, value))?;
            Ok(copy.into())
        }
        "fromkeys" => {
            let [keys, value] = args.bind(name, ["iterable", "value"])?;
            let mut new = Dict::default();
            for key in wanted(keys, name)?.iterate()?.items() {
                new.insert(key.clone(), value.clone().unwrap_or(Value::None))?;
            }
            Ok(new.into())
        }
        _ => fail!("'dict' object has no method '{name}'"),
    }
}

pub(super) fn seq_method(seq: &Seq, name: &str, args: Arguments) -> Result<Value> {
    let items = seq.items();
    match name {
        "count" => {
            let [value] = args.bind(name, ["value"])?;
            let value = wanted(value, name)?;
            let mut count = 0;
            for item in items {
                count += i128::from(item.equals(&value)?);
            }
            Ok(Value::Int(count))
        }
        "index" => {
            let [value, start, stop] = args.bind(name, ["value", "start", "stop"])?;
            let value = wanted(value, name)?;
            let count = items.len() as i128;
            let place = |bound: Option<Value>, default: i128| -> Result<usize> {
                let at = bound.as_ref().map_or(Ok(default), int)?;
                Ok((if at < 0 { at.saturating_add(count) } else { at }).clamp(0, count) as usize)
            };
            for at in place(start, 0)?..place(stop, count)? {
                if items[at].equals(&value)? {
                    return Ok(Value::Int(at as i128));
                }
            }
            fail!("the value is not in the {}", Value::seq(seq.kind, [])?.type_name())
        }
        "copy" => args.none(name).and_then(|()| Value::seq(seq.kind, items.iter().cloned())),
        _ => fail!("no method '{name}'"),
    }
}
