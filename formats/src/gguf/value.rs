//! Metadata: keys and typed values.

use std::collections::HashMap;

use super::strings::Strings;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A metadata array. All elements have one type; large ones (vocabularies) stay compact.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Strings),
    Array(Vec<Array>),
}

impl Value {
    /// The name of the value's type, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::U8(_) => "u8",
            Value::I8(_) => "i8",
            Value::U16(_) => "u16",
            Value::I16(_) => "i16",
            Value::U32(_) => "u32",
            Value::I32(_) => "i32",
            Value::U64(_) => "u64",
            Value::I64(_) => "i64",
            Value::F32(_) => "f32",
            Value::F64(_) => "f64",
            Value::Bool(_) => "bool",
            Value::String(_) => "string",
            Value::Array(_) => "array",
        }
    }

    /// The value as an unsigned integer, whatever integer type the writer chose.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value as a float, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(v) => Some(v.into()),
            Value::F64(v) => Some(v),
            _ => None,
        }
    }
}

/// Evaluates `$then` with `$v` bound to the vector of whatever kind of array `$array` is.
macro_rules! each_array {
    ($array:expr, $v:ident => $then:expr) => {
        match $array {
            Array::U8($v) => $then,
            Array::I8($v) => $then,
            Array::U16($v) => $then,
            Array::I16($v) => $then,
            Array::U32($v) => $then,
            Array::I32($v) => $then,
            Array::U64($v) => $then,
            Array::I64($v) => $then,
            Array::F32($v) => $then,
            Array::F64($v) => $then,
            Array::Bool($v) => $then,
            Array::String($v) => $then,
            Array::Array($v) => $then,
        }
    };
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        each_array!(self, v => v.len())
    }

    /// True when there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, if they are integers and none is negative, whatever integer type the writer chose.
    pub fn integers(&self) -> Option<Vec<u64>> {
        macro_rules! each {
            ($v:expr) => {
                $v.iter().map(|&n| n.try_into().ok()).collect()
            };
        }
        match self {
            Array::U8(v) => each!(v),
            Array::I8(v) => each!(v),
            Array::U16(v) => each!(v),
            Array::I16(v) => each!(v),
            Array::U32(v) => each!(v),
            Array::I32(v) => each!(v),
            Array::U64(v) => each!(v),
            Array::I64(v) => each!(v),
            _ => None,
        }
    }
}

/// A metadata key that is missing or of the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is not there.
    #[error("metadata key `{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// The key is there with another type, or a value that does not fit.
    #[error("metadata key `{key}`: expected {expected}, found {found}")]
    WrongType {
        /// The key.
        key: String,
        /// What the reader needs.
        expected: &'static str,
        /// What the file has.
        found: String,
    },
}

/// Metadata in file order, found by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// Sets `key`, in place if it is there, else at the end.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        let key = key.into();
        match self.index.get(&key) {
            Some(&i) => self.entries[i].1 = value,
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let i = self.index.remove(key)?;
        let (_, value) = self.entries.remove(i);
        for at in self.index.values_mut() {
            *at -= usize::from(*at > i);
        }
        Some(value)
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// All keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match read(value) {
            Some(v) => Ok(Some(v)),
            None => {
                let found = match value {
                    Value::String(_) | Value::Array(_) => value.type_name().to_string(),
                    v => format!("{v:?}"),
                };
                Err(MetadataError::WrongType { key: key.into(), expected, found })
            }
        }
    }

    /// The value of `key` as a non-negative integer of any width that fits `usize`; `None` when the key is missing.
    pub fn usize_opt(&self, key: &str) -> Result<Option<usize>, MetadataError> {
        self.typed(key, "a non-negative integer", |v| v.as_u64().and_then(|v| v.try_into().ok()))
    }

    /// The value of `key` as a non-negative integer of any width that fits u32, such as a token id.
    pub fn u32_opt(&self, key: &str) -> Result<Option<u32>, MetadataError> {
        self.typed(key, "an unsigned 32-bit integer", |v| v.as_u64().and_then(|v| v.try_into().ok()))
    }

    /// The value of `key` as f32; an f64 is rounded.
    pub fn f32_opt(&self, key: &str) -> Result<Option<f32>, MetadataError> {
        self.typed(key, "a float", |v| v.as_f64().map(|v| v as f32))
    }

    /// The value of `key` as a bool.
    pub fn bool_opt(&self, key: &str) -> Result<Option<bool>, MetadataError> {
        self.typed(key, "a bool", |v| if let Value::Bool(b) = v { Some(*b) } else { None })
    }

    /// The value of `key` as a string.
    pub fn str_opt(&self, key: &str) -> Result<Option<&str>, MetadataError> {
        self.typed(key, "a string", |v| if let Value::String(s) = v { Some(s.as_str()) } else { None })
    }

    /// The value of `key` as an array of strings.
    pub fn strings_opt(&self, key: &str) -> Result<Option<&Strings>, MetadataError> {
        self.typed(key, "an array of strings", |v| if let Value::Array(Array::String(a)) = v { Some(a) } else { None })
    }

    /// The value of `key` as an array of f32.
    pub fn f32s_opt(&self, key: &str) -> Result<Option<&[f32]>, MetadataError> {
        self.typed(
            key,
            "an array of f32",
            |v| {
                if let Value::Array(Array::F32(a)) = v { Some(a.as_slice()) } else { None }
            },
        )
    }

    /// The value of `key` as an array of i32.
    pub fn i32s_opt(&self, key: &str) -> Result<Option<&[i32]>, MetadataError> {
        self.typed(
            key,
            "an array of i32",
            |v| {
                if let Value::Array(Array::I32(a)) = v { Some(a.as_slice()) } else { None }
            },
        )
    }
}

/// Turns an optional value into a required one.
pub trait Required<T> {
    /// The value, or [`MetadataError::Missing`] with `key`.
    fn required(self, key: &str) -> Result<T, MetadataError>;
}

impl<T> Required<T> for Result<Option<T>, MetadataError> {
    fn required(self, key: &str) -> Result<T, MetadataError> {
        self?.ok_or_else(|| MetadataError::Missing { key: key.into() })
    }
}
