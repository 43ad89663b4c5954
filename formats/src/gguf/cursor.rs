//! Reading little-endian values from the head of a file, never past its end.

use std::borrow::Cow;
use std::fmt;

use super::fault::{GgufFault, quote};
use super::limits::{MAX_ARRAY_DEPTH, MAX_HEADER_BYTES};
use super::strings::Strings;
use super::value::{Array, Value};
use super::wire;

/// Where in the header something is, for messages.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Start,
    Key(usize),
    Value(&'a str),
    TensorName(usize),
    Tensor(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Start => f.write_str("the counts at the start"),
            Place::Key(i) => write!(f, "key number {i}"),
            Place::Value(key) => write!(f, "the value of {}", quote(key)),
            Place::TensorName(i) => write!(f, "the name of tensor number {i}"),
            Place::Tensor(name) => write!(f, "the entry of tensor {}", quote(name)),
        }
    }
}

/// A position in the head of a file.
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
    /// The keys whose texts are no UTF-8.
    pub not_utf8: Vec<String>,
}

impl<'a> Cursor<'a> {
    pub fn new(file: &'a [u8]) -> Self {
        Cursor { file, at: 0, not_utf8: Vec::new() }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// `count` things of at least `each` bytes, when the rest of the file can hold them. Asked before anything is
    /// allocated for them.
    pub fn count(&self, count: u64, each: usize, place: Place) -> Result<usize, GgufFault> {
        let left = self.file.len() - self.at;
        let needed = usize::try_from(count).ok().and_then(|n| n.checked_mul(each));
        match needed {
            Some(needed) if needed <= left => {
                if self.at + needed > MAX_HEADER_BYTES {
                    return Err(GgufFault::HeaderTooLarge { place: place.to_string() });
                }
                Ok(needed / each)
            }
            _ => Err(GgufFault::CountBeyondFile { place: place.to_string(), count, left }),
        }
    }

    pub fn take(&mut self, n: usize, place: Place) -> Result<&'a [u8], GgufFault> {
        let left = self.file.len() - self.at;
        if n > left {
            return Err(GgufFault::Truncated { place: place.to_string(), at: self.at, needed: n, left });
        }
        if self.at + n > MAX_HEADER_BYTES {
            return Err(GgufFault::HeaderTooLarge { place: place.to_string() });
        }
        let bytes = &self.file[self.at..self.at + n];
        self.at += n;
        Ok(bytes)
    }

    fn array_of<const N: usize>(&mut self, place: Place) -> Result<[u8; N], GgufFault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, place)?);
        Ok(out)
    }

    pub fn u32(&mut self, place: Place) -> Result<u32, GgufFault> {
        self.array_of(place).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, place: Place) -> Result<u64, GgufFault> {
        self.array_of(place).map(u64::from_le_bytes)
    }

    /// The bytes of a string, not yet known to be UTF-8.
    pub fn string_bytes(&mut self, place: Place) -> Result<&'a [u8], GgufFault> {
        let len = self.u64(place)?;
        let len = self.count(len, 1, place)?;
        self.take(len, place)
    }

    pub fn string(&mut self, place: Place) -> Result<&'a str, GgufFault> {
        let bytes = self.string_bytes(place)?;
        std::str::from_utf8(bytes).map_err(|e| GgufFault::InvalidUtf8 {
            place: place.to_string(),
            at: self.at - bytes.len() + e.valid_up_to(),
        })
    }

    /// A text of the value of `key`; what is no UTF-8 in it becomes U+FFFD.
    fn text(&mut self, key: &str) -> Result<Cow<'a, str>, GgufFault> {
        let text = String::from_utf8_lossy(self.string_bytes(Place::Value(key))?);
        if matches!(text, Cow::Owned(_)) && self.not_utf8.last().is_none_or(|last| last != key) {
            self.not_utf8.push(key.into());
        }
        Ok(text)
    }

    /// The value of `key`, whose type number is `id`.
    pub fn value(&mut self, id: u32, key: &str) -> Result<Value, GgufFault> {
        let p = Place::Value(key);
        Ok(match id {
            wire::U8 => Value::U8(u8::from_le_bytes(self.array_of(p)?)),
            wire::I8 => Value::I8(i8::from_le_bytes(self.array_of(p)?)),
            wire::U16 => Value::U16(u16::from_le_bytes(self.array_of(p)?)),
            wire::I16 => Value::I16(i16::from_le_bytes(self.array_of(p)?)),
            wire::U32 => Value::U32(u32::from_le_bytes(self.array_of(p)?)),
            wire::I32 => Value::I32(i32::from_le_bytes(self.array_of(p)?)),
            wire::U64 => Value::U64(u64::from_le_bytes(self.array_of(p)?)),
            wire::I64 => Value::I64(i64::from_le_bytes(self.array_of(p)?)),
            wire::F32 => Value::F32(f32::from_le_bytes(self.array_of(p)?)),
            wire::F64 => Value::F64(f64::from_le_bytes(self.array_of(p)?)),
            wire::BOOL => Value::Bool(bool_of(self.array_of::<1>(p)?[0], key)?),
            wire::STRING => Value::String(self.text(key)?.into_owned()),
            wire::ARRAY => Value::Array(self.array(key, 1)?),
            id => return Err(GgufFault::UnknownValueType { key: key.into(), id }),
        })
    }

    fn array(&mut self, key: &str, depth: usize) -> Result<Array, GgufFault> {
        if depth > MAX_ARRAY_DEPTH {
            return Err(GgufFault::ArrayTooDeep { key: key.into() });
        }
        let p = Place::Value(key);
        let id = self.u32(p)?;
        let len = self.u64(p)?;
        let each = wire::min_bytes(id).ok_or_else(|| GgufFault::UnknownValueType { key: key.into(), id })?;
        let n = self.count(len, each, p)?;
        // The product cannot overflow: `count` has formed it.
        macro_rules! numbers {
            ($t:ty) => {{
                let bytes = self.take(n * size_of::<$t>(), p)?;
                bytes.as_chunks().0.iter().map(|b| <$t>::from_le_bytes(*b)).collect()
            }};
        }
        Ok(match id {
            wire::U8 => Array::U8(numbers!(u8)),
            wire::I8 => Array::I8(numbers!(i8)),
            wire::U16 => Array::U16(numbers!(u16)),
            wire::I16 => Array::I16(numbers!(i16)),
            wire::U32 => Array::U32(numbers!(u32)),
            wire::I32 => Array::I32(numbers!(i32)),
            wire::U64 => Array::U64(numbers!(u64)),
            wire::I64 => Array::I64(numbers!(i64)),
            wire::F32 => Array::F32(numbers!(f32)),
            wire::F64 => Array::F64(numbers!(f64)),
            wire::BOOL => Array::Bool(self.take(n, p)?.iter().map(|&b| bool_of(b, key)).collect::<Result<_, _>>()?),
            wire::STRING => {
                let mut strings = Strings::with_capacity(n.min(MODEST));
                for _ in 0..n {
                    strings.push(&self.text(key)?);
                }
                Array::String(strings)
            }
            wire::ARRAY => {
                let mut arrays = Vec::with_capacity(n.min(MODEST));
                for _ in 0..n {
                    arrays.push(self.array(key, depth + 1)?);
                }
                Array::Array(arrays)
            }
            id => return Err(GgufFault::UnknownValueType { key: key.into(), id }),
        })
    }
}

/// So many elements at most are allocated ahead where an element takes more bytes in memory than in the file; beyond
/// that the vector grows as they turn out to be there.
const MODEST: usize = 1 << 16;

fn bool_of(byte: u8, key: &str) -> Result<bool, GgufFault> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(GgufFault::InvalidBool { key: key.into(), value }),
    }
}
