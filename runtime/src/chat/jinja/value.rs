//! Values, and what Python says of them: truth, equality, order, `str` and `repr`.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use serde_json::Value as Json;

use super::ast::{For, Macro};
use super::budget::{Bytes, scan, step};
use super::error::{Result, fail};
use super::text::{Origin, TEMPLATE, Text};

/// How deep lists and dicts may lie in each other. JSON from outside has at most 128 levels.
const MAX_DEPTH: usize = 200;

#[derive(Clone, Debug)]
pub(in crate::chat) enum Value {
    /// What is missing, with the message for those who use it. It prints nothing, is false and empty.
    Undefined(Rc<str>),
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Rc<Text>),
    Seq(Rc<Seq>),
    Dict(Rc<Dict>),
    Namespace(Rc<Namespace>),
    Loop(Rc<Loop>),
    Callable(Rc<Callable>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::chat) enum SeqKind {
    List,
    Tuple,
    Range,
    Keys,
    Values,
    Items,
    /// What `groupby` gives: a pair whose members have names.
    Group,
    /// What filters such as `map` return: it can be gone through, and has no length.
    Generator,
}

impl SeqKind {
    pub(super) fn can_be_sliced(self) -> bool {
        matches!(self, SeqKind::List | SeqKind::Tuple | SeqKind::Range | SeqKind::Group)
    }
}

#[derive(Debug)]
pub(in crate::chat) struct Seq {
    pub(super) kind: SeqKind,
    items: Vec<Value>,
    depth: usize,
    bytes: Bytes,
}

#[derive(Debug, Default)]
pub(in crate::chat) struct Dict {
    pairs: Vec<(Value, Value)>,
    depth: usize,
    bytes: Bytes,
}

/// `namespace()`: the one value that can change.
#[derive(Debug, Default)]
pub(in crate::chat) struct Namespace(pub(super) RefCell<Vec<(Rc<str>, Value)>>);

/// `loop` in the body of a loop.
#[derive(Debug)]
pub(in crate::chat) struct Loop {
    pub(super) items: Rc<Seq>,
    pub(super) index: Cell<usize>,
    pub(super) depth: usize,
    /// What `loop.changed` has seen.
    pub(super) last: RefCell<Option<Vec<Value>>>,
    /// What `loop(…)` runs, if the loop is recursive.
    pub(super) recursive: Option<(Arc<For>, Weak<Scope>)>,
}

/// Variables of a block, and those around it.
#[derive(Debug, Default)]
pub(in crate::chat) struct Scope {
    pub(super) variables: RefCell<Vec<(Rc<str>, Value)>>,
    pub(super) parent: Option<Rc<Scope>>,
}

#[derive(Debug)]
pub(in crate::chat) enum Callable {
    /// A macro, where it was defined, and the names that its body may take besides its arguments.
    Macro { definition: Arc<Macro>, scope: Weak<Scope> },
    /// A method of a value.
    Method(Value, &'static str),
    /// A function of the environment.
    Function(&'static str),
    /// `joiner(sep)`: nothing at first, then the separator.
    Joiner(Rc<Text>, Cell<bool>),
    /// `cycler(…)`.
    Cycler(Rc<Seq>, Cell<usize>),
}

impl Seq {
    pub(super) fn new(kind: SeqKind) -> Seq {
        Seq { kind, items: Vec::new(), depth: 1, bytes: Bytes::default() }
    }

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        self.bytes.grow(size_of::<Value>())?;
        self.depth = self.depth.max(deeper(&value)?);
        self.items.push(value);
        Ok(())
    }

    pub(super) fn items(&self) -> &[Value] {
        &self.items
    }
}

fn deeper(value: &Value) -> Result<usize> {
    let depth = 1 + match value {
        Value::Seq(seq) => seq.depth,
        Value::Dict(dict) => dict.depth,
        Value::Callable(callable) => match &**callable {
            Callable::Method(of, _) => deeper(of)?,
            Callable::Cycler(items, _) => items.depth,
            _ => 0,
        },
        _ => 0,
    };
    if depth > MAX_DEPTH {
        fail!("its lists and dicts are nested more than {MAX_DEPTH} levels deep")
    } else {
        Ok(depth)
    }
}

impl Dict {
    /// Python's `d[key] = value`.
    pub(super) fn insert(&mut self, key: Value, value: Value) -> Result<()> {
        self.depth = self.depth.max(deeper(&value)?).max(deeper(&key)?);
        match self.find(&key)? {
            Some(at) => self.pairs[at].1 = value,
            None => {
                self.bytes.grow(2 * size_of::<Value>())?;
                self.pairs.push((key, value));
            }
        }
        Ok(())
    }

    fn find(&self, key: &Value) -> Result<Option<usize>> {
        step(1 + self.pairs.len() as u64 / 8)?;
        key.check_hashable()?;
        for (i, (mine, _)) in self.pairs.iter().enumerate() {
            if mine.equals(key)? {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }

    pub(super) fn get(&self, key: &Value) -> Result<Option<&Value>> {
        Ok(self.find(key)?.map(|at| &self.pairs[at].1))
    }

    pub(super) fn get_str(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(mine, _)| matches!(mine, Value::Str(s) if s.as_str() == key)).map(|(_, value)| value)
    }

    pub(super) fn pairs(&self) -> &[(Value, Value)] {
        &self.pairs
    }
}

impl Value {
    /// A string of the template's own making.
    pub(super) fn string(text: &str) -> Result<Value> {
        Text::new(text, TEMPLATE).map(Value::from)
    }

    pub(super) fn undefined(name: &str) -> Value {
        Value::Undefined(format!("'{name}' is undefined").into())
    }

    pub(super) fn seq(kind: SeqKind, items: impl IntoIterator<Item = Value>) -> Result<Value> {
        let mut seq = Seq::new(kind);
        items.into_iter().try_for_each(|item| seq.push(item))?;
        Ok(seq.into())
    }

    /// A JSON value; its strings come from `origin`, its keys too.
    pub(in crate::chat) fn from_json(json: &Json, origin: Origin) -> Result<Value> {
        Ok(match json {
            Json::Null => Value::None,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(i), _) => Value::Int(i.into()),
                (None, Some(u)) => Value::Int(u.into()),
                (None, None) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Text::new(s, origin)?.into(),
            Json::Array(items) => {
                let mut seq = Seq::new(SeqKind::List);
                for item in items {
                    seq.push(Value::from_json(item, origin)?)?;
                }
                seq.into()
            }
            Json::Object(map) => {
                let mut dict = Dict::default();
                for (key, value) in map {
                    dict.insert(Text::new(key, origin)?.into(), Value::from_json(value, origin)?)?;
                }
                dict.into()
            }
        })
    }

    /// A list of values.
    pub(in crate::chat) fn list(items: Vec<Value>) -> Result<Value> {
        Value::seq(SeqKind::List, items)
    }

    /// A dict with these keys, which come from `origin`.
    pub(in crate::chat) fn dict(pairs: Vec<(&str, Value)>, origin: Origin) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            dict.insert(Text::new(key, origin)?.into(), value)?;
        }
        Ok(dict.into())
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Str(text) => text.len() > 0,
            Value::Seq(seq) => seq.kind == SeqKind::Generator || !seq.items.is_empty(),
            Value::Dict(dict) => !dict.pairs.is_empty(),
            Value::Namespace(_) | Value::Loop(_) | Value::Callable(_) => true,
        }
    }

    /// Python's name of the type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "Undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple | SeqKind::Group => "tuple",
                SeqKind::Range => "range",
                SeqKind::Keys => "dict_keys",
                SeqKind::Values => "dict_values",
                SeqKind::Items => "dict_items",
                SeqKind::Generator => "generator",
            },
            Value::Dict(_) => "dict",
            Value::Namespace(_) => "Namespace",
            Value::Loop(_) => "LoopContext",
            Value::Callable(_) => "function",
        }
    }

    /// Python's rule for what can be a key.
    fn check_hashable(&self) -> Result<()> {
        match self {
            Value::Seq(seq) if matches!(seq.kind, SeqKind::Tuple | SeqKind::Group) => {
                seq.items.iter().try_for_each(Value::check_hashable)
            }
            Value::Dict(_) => fail!("unhashable type: 'dict'"),
            Value::Seq(seq) if seq.kind == SeqKind::List => fail!("unhashable type: 'list'"),
            _ => Ok(()),
        }
    }

    /// The number that an int, a bool or a float is.
    pub(super) fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Value::Bool(b) => Some(i128::from(*b)),
            Value::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// Python's `==`.
    pub(super) fn equals(&self, other: &Value) -> Result<bool> {
        step(1)?;
        Ok(match (self, other) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Str(a), Value::Str(b)) => {
                scan(a.len().min(b.len()))?;
                a.as_str() == b.as_str()
            }
            (Value::Seq(a), Value::Seq(b)) => {
                if a.kind != b.kind || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.pairs.len() != b.pairs.len() {
                    return Ok(false);
                }
                for (key, value) in &a.pairs {
                    match b.get(key)? {
                        Some(theirs) if theirs.equals(value)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Loop(a), Value::Loop(b)) => Rc::ptr_eq(a, b),
            (Value::Callable(a), Value::Callable(b)) => Rc::ptr_eq(a, b),
            _ => match (self.as_int(), other.as_int()) {
                (Some(a), Some(b)) => a == b,
                _ => matches!((self.as_f64(), other.as_f64()), (Some(a), Some(b)) if a == b),
            },
        })
    }

    /// Python's `<` and its kin, for operators that need an order.
    pub(super) fn order(&self, other: &Value, operator: &str) -> Result<Ordering> {
        step(1)?;
        match (self, other) {
            (Value::Str(a), Value::Str(b)) => {
                scan(a.len().min(b.len()))?;
                // Code points order as UTF-8 does.
                Ok(a.as_str().cmp(b.as_str()))
            }
            (Value::Seq(a), Value::Seq(b)) if a.kind == b.kind && matches!(a.kind, SeqKind::List | SeqKind::Tuple) => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !a.equals(b)? {
                        return a.order(b, operator);
                    }
                }
                Ok(a.items.len().cmp(&b.items.len()))
            }
            (Value::Undefined(message), _) | (_, Value::Undefined(message)) => fail!("{message}"),
            _ => match (self.as_int(), other.as_int(), self.as_f64(), other.as_f64()) {
                (Some(a), Some(b), ..) => Ok(a.cmp(&b)),
                // NaN is neither; "greater" keeps sorting going.
                (.., Some(a), Some(b)) => Ok(a.partial_cmp(&b).unwrap_or(Ordering::Greater)),
                _ => fail!(
                    "'{operator}' not supported between instances of '{}' and '{}'",
                    self.type_name(),
                    other.type_name()
                ),
            },
        }
    }

    /// The items that a loop goes through.
    pub(super) fn iterate(&self) -> Result<Rc<Seq>> {
        let mut seq = Seq::new(SeqKind::List);
        match self {
            Value::Seq(items) => return Ok(items.clone()),
            Value::Undefined(_) => {}
            Value::Str(text) => {
                for (at, c, _) in text.chars() {
                    seq.push(text.part(at..at + c.len_utf8())?.into())?;
                }
            }
            Value::Dict(dict) => dict.pairs.iter().try_for_each(|(key, _)| seq.push(key.clone()))?,
            other => return fail!("'{}' object is not iterable", other.type_name()),
        }
        Ok(Rc::new(seq))
    }

    /// Python's `len`.
    pub(super) fn length(&self) -> Result<usize> {
        match self {
            Value::Undefined(_) => Ok(0),
            Value::Str(text) => {
                scan(text.len())?;
                Ok(text.as_str().chars().count())
            }
            Value::Seq(seq) if seq.kind != SeqKind::Generator => Ok(seq.items.len()),
            Value::Dict(dict) => Ok(dict.pairs.len()),
            other => fail!("object of type '{}' has no len()", other.type_name()),
        }
    }
}

impl From<Text> for Value {
    fn from(text: Text) -> Value {
        Value::Str(Rc::new(text))
    }
}

impl From<Seq> for Value {
    fn from(seq: Seq) -> Value {
        Value::Seq(Rc::new(seq))
    }
}

impl From<Dict> for Value {
    fn from(dict: Dict) -> Value {
        Value::Dict(Rc::new(dict))
    }
}

impl From<Callable> for Value {
    fn from(callable: Callable) -> Value {
        Value::Callable(Rc::new(callable))
    }
}
