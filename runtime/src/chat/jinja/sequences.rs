//! Jinja's filters for sequences.

use std::cmp::Ordering;
use std::rc::Rc;

use super::access;
use super::args::{Arguments, int, string, wanted};
use super::ast::Binary;
use super::budget::step;
use super::containers::dict_method;
use super::error::{Result, fail};
use super::operators::binary;
use super::print::print;
use super::state::Run;
use super::strings::soft;
use super::tests::test;
use super::text::Text;
use super::value::{Dict, Seq, SeqKind, Value};

pub(super) fn filter(run: &mut Run, name: &str, mut value: Value, mut args: Arguments) -> Result<Value> {
    // These look at their items only if the value is true.
    if ["map", "select", "reject", "selectattr", "rejectattr"].contains(&name) && !value.is_true() {
        value = Value::seq(SeqKind::List, [])?;
    }
    match name {
        "list" => args.none(name).and_then(|()| Value::seq(SeqKind::List, value.iterate()?.items().iter().cloned())),
        "first" | "last" => {
            args.none(name)?;
            let items = value.iterate()?;
            let found = if name == "first" { items.items().first() } else { items.items().last() };
            Ok(found.cloned().unwrap_or_else(|| Value::Undefined(format!("no {name} item, sequence was empty").into())))
        }
        "join" => {
            let [separator, attribute] = args.bind(name, ["d", "attribute"])?;
            let separator = separator.map_or_else(|| Value::string(""), Ok)?;
            let mut items = value.iterate()?;
            if let Some(attribute) = attribute {
                items = mapped(&items, |item| path(item, &attribute))?;
            }
            joined(&items, &soft(&separator)?).map(Value::from)
        }
        "reverse" => {
            args.none(name)?;
            match &value {
                Value::Str(_) => access::slice(&value, [None, None, Some(-1)]),
                _ => Value::seq(SeqKind::Generator, value.iterate()?.items().iter().rev().cloned()),
            }
        }
        "sum" => {
            let [attribute, start] = args.bind(name, ["attribute", "start"])?;
            let mut total = start.unwrap_or(Value::Int(0));
            for item in value.iterate()?.items() {
                let item = attribute.as_ref().map_or_else(|| Ok(item.clone()), |attribute| path(item, attribute))?;
                total = binary(Binary::Add, &total, &item)?;
            }
            Ok(total)
        }
        "min" | "max" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
            let key = Key { attribute, folded: !sensitive.is_some_and(|s| s.is_true()) };
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            let mut best: Option<(Value, Value)> = None;
            for item in value.iterate()?.items() {
                let key = key.of(item)?;
                let better = match &best {
                    Some((_, other)) => key.order(other, "<")? == wanted,
                    None => true,
                };
                if better {
                    best = Some((item.clone(), key));
                }
            }
            Ok(best.map_or_else(|| Value::Undefined("no aggregated item, sequence was empty".into()), |(item, _)| item))
        }
        "sort" => {
            let [reverse, sensitive, attribute] = args.bind(name, ["reverse", "case_sensitive", "attribute"])?;
            let key = Key { attribute, folded: !sensitive.is_some_and(|s| s.is_true()) };
            let reverse = reverse.is_some_and(|reverse| reverse.is_true());
            Value::seq(SeqKind::List, sorted(&*value.iterate()?, &key, reverse)?)
        }
        "unique" => {
            let [sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
            let key = Key { attribute, folded: !sensitive.is_some_and(|s| s.is_true()) };
            let (mut seen, mut kept) = (Dict::default(), Seq::new(SeqKind::Generator));
            for item in value.iterate()?.items() {
                let key = key.of(item)?;
                if seen.get(&key)?.is_none() {
                    seen.insert(key, Value::None)?;
                    kept.push(item.clone())?;
                }
            }
            Ok(kept.into())
        }
        "groupby" => {
            let [attribute, default, sensitive] = args.bind(name, ["attribute", "default", "case_sensitive"])?;
            let attribute = wanted(attribute, name)?;
            let folded = !sensitive.is_some_and(|s| s.is_true());
            group(&*value.iterate()?, &attribute, default, folded)
        }
        "dictsort" => {
            let [sensitive, by, reverse] = args.bind(name, ["case_sensitive", "by", "reverse"])?;
            let Value::Dict(dict) = &value else { return fail!("dictsort wants a dict, not '{}'", value.type_name()) };
            let by = by.map_or_else(|| Value::string("key"), Ok)?;
            let at = match string(&by)?.as_str() {
                "key" => 0,
                "value" => 1,
                _ => return fail!("you can only sort by either \"key\" or \"value\""),
            };
            let key = Key { attribute: Some(Value::Int(at)), folded: !sensitive.is_some_and(|s| s.is_true()) };
            let items = dict_method(dict, "items", Arguments::default())?.iterate()?;
            Value::seq(SeqKind::List, sorted(&items, &key, reverse.is_some_and(|reverse| reverse.is_true()))?)
        }
        "items" => {
            args.none(name)?;
            match &value {
                Value::Undefined(_) => Value::seq(SeqKind::Generator, []),
                Value::Dict(dict) => {
                    let items = dict_method(dict, name, Arguments::default())?.iterate()?;
                    Value::seq(SeqKind::Generator, items.items().iter().cloned())
                }
                _ => fail!("can only get item pairs from a mapping"),
            }
        }
        "batch" => {
            let [count, fill] = args.bind(name, ["linecount", "fill_with"])?;
            let count = int(&wanted(count, name)?)?;
            let items = value.iterate()?;
            let mut batches = Seq::new(SeqKind::Generator);
            if count < 1 {
                return fail!("batch wants a count of at least 1");
            }
            for chunk in items.items().chunks(usize::try_from(count).unwrap_or(usize::MAX)) {
                let mut batch = Seq::new(SeqKind::List);
                chunk.iter().try_for_each(|item| batch.push(item.clone()))?;
                if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
                    (chunk.len() as i128..count).try_for_each(|_| batch.push(fill.clone()))?;
                }
                batches.push(batch.into())?;
            }
            Ok(batches.into())
        }
        "slice" => {
            let [count, fill] = args.bind(name, ["slices", "fill_with"])?;
            let count = int(&wanted(count, name)?)?;
            if count < 1 {
                return fail!("slice wants a count of at least 1");
            }
            let items = value.iterate()?;
            let (each, longer) = (items.items().len() as i128 / count, items.items().len() as i128 % count);
            let mut slices = Seq::new(SeqKind::Generator);
            let mut rest = items.items().iter();
            for i in 0..count {
                let mut slice = Seq::new(SeqKind::List);
                let length = (each + i128::from(i < longer)) as usize;
                rest.by_ref().take(length).try_for_each(|item| slice.push(item.clone()))?;
                if let Some(fill) =
                    fill.as_ref().filter(|fill| !matches!(fill, Value::None) && i >= longer && longer > 0)
                {
                    slice.push(fill.clone())?;
                }
                slices.push(slice.into())?;
            }
            Ok(slices.into())
        }
        "map" => {
            let items = value.iterate()?;
            let mapped = match (args.take_named("attribute"), args.take_named("default")) {
                (Some(attribute), default) => {
                    args.none("map")?;
                    mapped(&items, |item| {
                        let found = path(item, &attribute)?;
                        Ok(match &default {
                            Some(default) if found.is_undefined() => default.clone(),
                            _ => found,
                        })
                    })?
                }
                (None, _) => {
                    let (name, args) = name_and_args("map", args)?;
                    mapped(&items, |item| run.filter(&name, item.clone(), copy(&args)))?
                }
            };
            Value::seq(SeqKind::Generator, mapped.items().iter().cloned())
        }
        "select" | "reject" | "selectattr" | "rejectattr" => {
            let attribute = if name.ends_with("attr") {
                if args.positional.is_empty() {
                    return fail!("missing parameter for attribute name");
                }
                Some(args.positional.remove(0))
            } else {
                None
            };
            let check = if args.positional.is_empty() { None } else { Some(name_and_args(name, args)?) };
            let mut kept = Seq::new(SeqKind::Generator);
            for item in value.iterate()?.items() {
                step(1)?;
                let value = attribute.as_ref().map_or_else(|| Ok(item.clone()), |attribute| path(item, attribute))?;
                let passes = match &check {
                    Some((test_name, args)) => test(test_name, &value, copy(args))?,
                    None => value.is_true(),
                };
                if passes == name.starts_with("select") {
                    kept.push(item.clone())?;
                }
            }
            Ok(kept.into())
        }
        _ => fail!("no filter named '{name}'"),
    }
}

fn mapped(items: &Seq, mut change: impl FnMut(&Value) -> Result<Value>) -> Result<Rc<Seq>> {
    let mut out = Seq::new(SeqKind::List);
    for item in items.items() {
        out.push(change(item)?)?;
    }
    Ok(Rc::new(out))
}

/// The name of a filter or test, and the arguments for it.
fn name_and_args(what: &str, mut args: Arguments) -> Result<(String, Arguments)> {
    if args.positional.is_empty() {
        return fail!("{what} requires a filter argument");
    }
    let name = args.positional.remove(0);
    Ok((string(&name)?.as_str().to_string(), args))
}

fn copy(args: &Arguments) -> Arguments {
    Arguments { positional: args.positional.clone(), named: args.named.clone() }
}

/// The item that `a.b.0` leads to.
fn path(value: &Value, attribute: &Value) -> Result<Value> {
    let Value::Str(names) = attribute else { return access::item(value, attribute) };
    let mut value = value.clone();
    for name in names.as_str().split('.') {
        value = match name.parse::<u32>() {
            Ok(index) => access::item(&value, &Value::Int(index.into()))?,
            Err(_) => access::item(&value, &Value::string(name)?)?,
        };
    }
    Ok(value)
}

/// What items are ordered by.
struct Key {
    attribute: Option<Value>,
    /// Whether upper and lower case are the same.
    folded: bool,
}

impl Key {
    fn of(&self, item: &Value) -> Result<Value> {
        let one = |attribute: &Value| {
            let value = path(item, attribute)?;
            fold(value, self.folded)
        };
        match &self.attribute {
            None => fold(item.clone(), self.folded),
            // Several attributes, the first of which counts most.
            Some(Value::Str(names)) if names.as_str().contains(',') => {
                let mut keys = Seq::new(SeqKind::List);
                for name in names.as_str().split(',') {
                    keys.push(one(&Value::string(name.trim())?)?)?;
                }
                Ok(keys.into())
            }
            Some(attribute) => one(attribute),
        }
    }
}

fn fold(value: Value, folded: bool) -> Result<Value> {
    match &value {
        Value::Str(text) if folded => text.map(str::to_lowercase).map(Value::from),
        _ => Ok(value),
    }
}

/// The items in the order of their keys; equal ones stay in theirs.
fn sorted(items: &Seq, key: &Key, reverse: bool) -> Result<Vec<Value>> {
    let mut keyed = Vec::new();
    for item in items.items() {
        keyed.push((key.of(item)?, item.clone()));
    }
    let sorted = merge_sorted(keyed, reverse)?;
    Ok(sorted.into_iter().map(|(_, item)| item).collect())
}

/// A stable sort whose comparisons may fail, and need be no order (NaN).
fn merge_sorted(mut pairs: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<(Value, Value)>> {
    if pairs.len() < 2 {
        return Ok(pairs);
    }
    let right = pairs.split_off(pairs.len() / 2);
    let mut left = merge_sorted(pairs, reverse)?.into_iter().peekable();
    let mut right = merge_sorted(right, reverse)?.into_iter().peekable();
    let mut out = Vec::with_capacity(left.len() + right.len());
    while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
        let order = b.order(a, "<")?;
        let takes_right = order == if reverse { Ordering::Greater } else { Ordering::Less };
        out.extend(if takes_right { right.next() } else { left.next() });
    }
    out.extend(left.chain(right));
    Ok(out)
}

/// Pairs of an attribute's value and the items that have it, in the order of the values.
fn group(items: &Seq, attribute: &Value, default: Option<Value>, folded: bool) -> Result<Value> {
    let of = |item: &Value| -> Result<Value> {
        let value = path(item, attribute)?;
        Ok(if value.is_undefined() { default.clone().unwrap_or(value) } else { value })
    };
    let mut keyed = Seq::new(SeqKind::List);
    for item in items.items() {
        keyed.push(Value::seq(SeqKind::Tuple, [fold(of(item)?, folded)?, item.clone()])?)?;
    }
    let in_order = sorted(&keyed, &Key { attribute: Some(Value::Int(0)), folded: false }, false)?;
    let mut groups: Vec<(Value, Value, Seq)> = Vec::new();
    for pair in &in_order {
        let (key, item) = (access::item(pair, &Value::Int(0))?, access::item(pair, &Value::Int(1))?);
        match groups.last_mut() {
            Some((last, _, members)) if last.equals(&key)? => members.push(item)?,
            _ => {
                let mut members = Seq::new(SeqKind::List);
                members.push(item.clone())?;
                groups.push((key, of(&item)?, members));
            }
        }
    }
    let mut out = Seq::new(SeqKind::List);
    for (_, name, members) in groups {
        out.push(Value::seq(SeqKind::Group, [name, members.into()])?)?;
    }
    Ok(out.into())
}

/// Texts of all items, with `separator` between them.
fn joined(items: &Seq, separator: &Rc<Text>) -> Result<Text> {
    let mut out = Text::default();
    for (i, item) in items.items().iter().enumerate() {
        if i > 0 {
            out.push_text(separator)?;
        }
        print(&mut out, item)?;
    }
    Ok(out)
}
