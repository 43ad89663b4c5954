//! Fields of a JSON object from outside: `null` is the same as absent, what nobody asks for is ignored, and what is
//! wrong is refused by its name.

use std::ops::RangeInclusive;

use serde_json::{Map, Value as Json};

use crate::error::ApiError;

/// An object with the path that leads to it, for messages.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Json>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The body of a request.
    ///
    /// # Errors
    /// 400 if it is no object.
    pub fn of_body(body: &'a Json) -> Result<Fields<'a>, ApiError> {
        let map = body.as_object();
        let map =
            map.ok_or_else(|| ApiError::bad_request(format!("the body must be a JSON object, not {}", kind(body))))?;
        Ok(Fields { map, path: String::new() })
    }

    /// The object `value` that `name` leads to.
    ///
    /// # Errors
    /// 400 if it is no object.
    pub fn of(value: &'a Json, name: impl Into<String>) -> Result<Fields<'a>, ApiError> {
        let path = name.into();
        match value.as_object() {
            Some(map) => Ok(Fields { map, path }),
            None => Err(wrong(path, "an object", value)),
        }
    }

    /// The whole name of a field.
    pub fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.into() } else { format!("{}.{field}", self.path) }
    }

    /// A field, if it is there.
    pub fn get(&self, field: &str) -> Option<&'a Json> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    /// All fields.
    pub fn map(&self) -> &'a Map<String, Json> {
        self.map
    }

    /// The error that a field is not what it must be.
    pub fn wrong(&self, field: &str, expected: &str) -> ApiError {
        wrong(self.name(field), expected, self.map.get(field).unwrap_or(&Json::Null))
    }

    /// The error that a field is needed.
    pub fn missing(&self, field: &str) -> ApiError {
        ApiError::field(self.name(field), "is needed")
    }

    /// True or false.
    ///
    /// # Errors
    /// 400 for something else; so it is with all of these.
    pub fn bool(&self, field: &str) -> Result<Option<bool>, ApiError> {
        self.read(field, "true or false", Json::as_bool)
    }

    /// A text.
    pub fn str(&self, field: &str) -> Result<Option<&'a str>, ApiError> {
        self.read(field, "a string", Json::as_str)
    }

    /// A list of at most so many.
    pub fn array(&self, field: &str, most: usize) -> Result<Option<&'a [Json]>, ApiError> {
        let list = self.read(field, "an array", |value| value.as_array().map(Vec::as_slice))?;
        match list {
            Some(list) if list.len() > most => {
                let message = format!("has {} entries; at most {most} are taken", list.len());
                Err(ApiError::field(self.name(field), message))
            }
            list => Ok(list),
        }
    }

    /// An object.
    pub fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.get(field).map(|value| Fields::of(value, self.name(field))).transpose()
    }

    /// A number within a range.
    pub fn number(&self, field: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number as f32)),
            None => Err(self.wrong(field, &format!("a number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A whole number within a range.
    pub fn integer(&self, field: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(field) else { return Ok(None) };
        match integer(value).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None if *range.end() == i64::MAX => {
                Err(self.wrong(field, &format!("a whole number of at least {}", range.start())))
            }
            None => Err(self.wrong(field, &format!("a whole number from {} to {}", range.start(), range.end()))),
        }
    }

    /// A count of something: a whole number from 0 to `most`.
    pub fn count(&self, field: &str, most: usize) -> Result<Option<usize>, ApiError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        Ok(self.integer(field, 0..=most)?.map(|number| number as usize))
    }

    fn read<T>(
        &self,
        field: &str,
        expected: &str,
        read: impl Fn(&'a Json) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        match self.get(field) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(field, expected)),
        }
    }
}

/// A whole number, also one that is written as `1.0`.
pub fn integer(value: &Json) -> Option<i64> {
    let whole = |x: f64| (x.fract() == 0.0 && x.abs() < 9e15).then_some(x as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(whole))
}

/// A token's id.
pub fn token_id(value: &Json) -> Option<u32> {
    integer(value).and_then(|id| u32::try_from(id).ok())
}

/// The error that what `name` leads to is not what it must be.
pub fn wrong(name: impl Into<String>, expected: &str, found: &Json) -> ApiError {
    ApiError::field(name, format!("must be {expected}, not {}", kind(found)))
}

/// What a value is, short enough for a message.
fn kind(value: &Json) -> String {
    match value {
        Json::Null => "null".into(),
        Json::Bool(_) | Json::Number(_) => value.to_string(),
        Json::String(text) if text.chars().count() <= 40 => format!("{text:?}"),
        Json::String(_) => "a long string".into(),
        Json::Array(list) => format!("an array of {}", list.len()),
        Json::Object(_) => "an object".into(),
    }
}
