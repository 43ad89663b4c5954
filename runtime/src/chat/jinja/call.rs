//! Calls: the functions of the environment, methods of loops and of what functions return.

use std::rc::Rc;

use super::args::{Arguments, int, string, wanted};
use super::budget::scan;
use super::error::{Error, Result, fail};
use super::print::to_text;
use super::state::Run;
use super::text::Text;
use super::value::{Callable, Dict, Loop, Namespace, Seq, SeqKind, Value};
use super::{containers, strings};

/// As in jinja2's sandbox.
const MAX_RANGE: i128 = 100_000;

impl Run {
    pub(super) fn call(&mut self, callee: &Value, args: Arguments) -> Result<Value> {
        match callee {
            Value::Callable(callable) => match &**callable {
                Callable::Macro { definition, scope } => {
                    let Some(scope) = scope.upgrade() else {
                        return fail!("macro `{}` is called after the block that it is defined in", definition.name);
                    };
                    self.call_macro(definition, &scope, args)
                }
                Callable::Method(value, name) => self.method(value, name, args),
                Callable::Function(name) => self.function(name, args),
                Callable::Joiner(separator, used) => {
                    args.none("joiner")?;
                    if used.replace(true) { Ok(Value::Str(separator.clone())) } else { Value::string("") }
                }
                Callable::Cycler(..) => fail!("'Cycler' object is not callable"),
            },
            Value::Loop(context) => self.call_loop(context, args),
            Value::Undefined(message) => fail!("{message}"),
            other => fail!("'{}' object is not callable", other.type_name()),
        }
    }

    pub(super) fn method(&mut self, value: &Value, name: &'static str, args: Arguments) -> Result<Value> {
        match value {
            Value::Str(text) => strings::call(text, name, args),
            Value::Dict(dict) => containers::dict_method(dict, name, args),
            Value::Seq(seq) => containers::seq_method(seq, name, args),
            Value::Loop(context) if name == "cycle" => {
                let values = args.positional;
                if values.is_empty() {
                    return fail!("no items for cycling given");
                }
                Ok(values[context.index.get() % values.len()].clone())
            }
            Value::Loop(context) => {
                let values = args.positional;
                let same = match &*context.last.borrow() {
                    Some(last) if last.len() == values.len() => {
                        let mut same = true;
                        for (a, b) in last.iter().zip(&values) {
                            same = same && a.equals(b)?;
                        }
                        same
                    }
                    _ => false,
                };
                if !same {
                    context.last.replace(Some(values));
                }
                Ok(Value::Bool(!same))
            }
            Value::Callable(callable) => match &**callable {
                Callable::Cycler(items, at) if name == "next" => {
                    let item = items.items()[at.get()].clone();
                    at.set((at.get() + 1) % items.items().len());
                    Ok(item)
                }
                Callable::Cycler(_, at) => {
                    at.set(0);
                    Ok(Value::None)
                }
                _ => fail!("no such method"),
            },
            _ => fail!("no such method"),
        }
    }

    /// `loop(items)`: the body of a recursive loop once more.
    fn call_loop(&mut self, context: &Rc<Loop>, args: Arguments) -> Result<Value> {
        let Some((the_loop, scope)) = &context.recursive else {
            return fail!("the loop must have the `recursive` marker to be called recursively");
        };
        let Some(scope) = scope.upgrade() else { return fail!("a loop is called after it has ended") };
        let [items] = args.bind("loop", ["items"])?;
        let mut out = Text::default();
        self.for_loop(the_loop, wanted(items, "loop")?, &scope, context.depth + 1, &mut out)?;
        Ok(out.into())
    }

    fn function(&mut self, name: &str, args: Arguments) -> Result<Value> {
        match name {
            "range" => {
                let [a, b, step] = args.bind(name, ["start", "stop", "step"])?;
                let a = int(&wanted(a, name)?)?;
                let (start, stop) = match &b {
                    Some(b) => (a, int(b)?),
                    None => (0, a),
                };
                let step = step.as_ref().map_or(Ok(1), int)?;
                if step == 0 {
                    return fail!("range() arg 3 must not be zero");
                }
                let distance = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
                let count = distance.max(0) as u128;
                let count = count.div_ceil(step.unsigned_abs());
                if count > MAX_RANGE as u128 {
                    return fail!("range too big: more than {MAX_RANGE} numbers");
                }
                Value::seq(SeqKind::Range, (0..count as i128).map(|i| Value::Int(start + i * step)))
            }
            "dict" => self.make_dict(args).map(Value::from),
            "namespace" => {
                let dict = self.make_dict(args)?;
                let mut members = Vec::new();
                for (name, value) in dict.pairs() {
                    members.push((to_text(name)?.as_str().into(), value.clone()));
                }
                let namespace = Rc::new(Namespace(members.into()));
                self.namespaces.push(namespace.clone());
                Ok(Value::Namespace(namespace))
            }
            "joiner" => {
                let [separator] = args.bind(name, ["sep"])?;
                let separator = separator.map_or_else(|| Value::string(", "), Ok)?;
                Ok(Callable::Joiner(string(&separator)?.clone(), Default::default()).into())
            }
            "cycler" => {
                if args.positional.is_empty() {
                    return fail!("at least one item has to be provided");
                }
                let mut items = Seq::new(SeqKind::Tuple);
                args.positional.into_iter().try_for_each(|item| items.push(item))?;
                Ok(Callable::Cycler(Rc::new(items), Default::default()).into())
            }
            "raise_exception" => {
                let [message] = args.bind(name, ["message"])?;
                let message = to_text(&wanted(message, name)?)?.as_str().to_string();
                Err(Error { raised: true, ..Error::new(message) })
            }
            "strftime_now" => {
                let [format] = args.bind(name, ["format"])?;
                let format = wanted(format, name)?;
                let format = string(&format)?;
                scan(64 * format.len())?;
                match self.now.format(format.as_str()) {
                    Ok(text) => Value::string(&text),
                    Err(directive) => fail!("strftime_now knows no directive {directive}"),
                }
            }
            _ => fail!("no such function"),
        }
    }

    /// Python's `dict(pairs or dict, **named)`.
    fn make_dict(&mut self, args: Arguments) -> Result<Dict> {
        let mut dict = Dict::default();
        match args.positional.as_slice() {
            [] => {}
            [Value::Dict(other)] => {
                for (key, value) in other.pairs() {
                    dict.insert(key.clone(), value.clone())?;
                }
            }
            [pairs] => {
                for pair in pairs.iterate()?.items() {
                    match pair.iterate()?.items() {
                        [key, value] => dict.insert(key.clone(), value.clone())?,
                        other => return fail!("dict() wants pairs, not {} values", other.len()),
                    }
                }
            }
            more => return fail!("dict() takes at most 1 argument ({} given)", more.len()),
        }
        for (name, value) in args.named {
            dict.insert(Value::string(&name)?, value)?;
        }
        Ok(dict)
    }
}
