//! The arguments of a call, once they are evaluated.

use std::rc::Rc;

use super::error::{Error, Result, fail};
use super::text::Text;
use super::value::Value;

/// The arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Rc<str>, Value)>,
}

impl Arguments {
    /// The arguments for parameters of these names.
    pub(super) fn bind<const N: usize>(self, function: &str, names: [&str; N]) -> Result<[Option<Value>; N]> {
        let mut bound = [const { None }; N];
        if self.positional.len() > N {
            return fail!("{function}() takes at most {N} arguments ({} given)", self.positional.len());
        }
        for (place, value) in bound.iter_mut().zip(self.positional) {
            *place = Some(value);
        }
        for (name, value) in self.named {
            match names.iter().position(|known| **known == *name) {
                Some(at) if bound[at].is_none() => bound[at] = Some(value),
                Some(_) => return fail!("{function}() got multiple values for argument '{name}'"),
                None => return fail!("{function}() got an unexpected keyword argument '{name}'"),
            }
        }
        Ok(bound)
    }

    pub(super) fn none(self, function: &str) -> Result<()> {
        self.bind::<0>(function, []).map(drop)
    }

    /// Takes out the argument of this name.
    pub(super) fn take_named(&mut self, name: &str) -> Option<Value> {
        self.named.iter().position(|(n, _)| &**n == name).map(|at| self.named.remove(at).1)
    }
}

/// The string that an argument has to be.
pub(super) fn string(value: &Value) -> Result<&Rc<Text>> {
    match value {
        Value::Str(text) => Ok(text),
        Value::Undefined(message) => fail!("{message}"),
        other => fail!("a string is wanted, not '{}'", other.type_name()),
    }
}

pub(super) fn int(value: &Value) -> Result<i128> {
    match value {
        Value::Undefined(message) => fail!("{message}"),
        other => other.as_int().ok_or_else(|| Error::new(format!("an integer is wanted, not '{}'", other.type_name()))),
    }
}

/// An argument that must be there.
pub(super) fn wanted(value: Option<Value>, function: &str) -> Result<Value> {
    value.ok_or_else(|| Error::new(format!("{function}() lacks an argument")))
}
