//! Reading small files: JSON by key, with messages that name file, key, what was expected and what was found.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::map::irregular;

/// Why a file beside the weights could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused.
    #[error("{}: cannot read: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A directory or a pipe.
    #[error("{}: is {what}, expected a regular file", .path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// The file is larger than any real one of its kind.
    #[error("{}: {bytes} bytes or more; at most {limit} are read", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size, as far as it was read.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The file is something else.
    #[error("{}: is {what}", .path.display())]
    SomethingElse {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        what: &'static str,
    },
    /// The file is not UTF-8.
    #[error("{}: not UTF-8 at byte {at}", .path.display())]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// Where.
        at: usize,
    },
    /// The file is not JSON, or not of the shape that it should have.
    #[error("{}: {reason}", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        reason: String,
    },
}

/// A key of a JSON object that is missing or has the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key is not there.
    #[error("`{key}` is missing")]
    Missing {
        /// The key, with its parents.
        key: String,
    },
    /// The value is of another type or out of range.
    #[error("`{key}`: expected {expected}, found {found}")]
    Wrong {
        /// The key, with its parents.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

/// The largest tokenizer.json or tokenizer.model that is read; real ones have up to 40 MB.
pub(super) const MAX_TOKENIZER_BYTES: u64 = 512 << 20;
/// The largest of any other file; real ones have up to a few MB (the index of a very large model).
pub(crate) const MAX_SMALL_BYTES: u64 = 64 << 20;

/// The bytes of the file at `path`; `None` when there is no such file.
pub(super) fn read_bytes(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    // Asked before opening, since opening a pipe waits for a writer.
    if let Some(what) = irregular(&meta) {
        return Err(FileError::NotRegular { path: path.to_owned(), what });
    }
    if meta.len() > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes: meta.len(), limit });
    }
    // What was asked about need not be what is opened, and some files are longer than the system says.
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64, limit });
    }
    match something_else(&bytes) {
        Some(what) => Err(FileError::SomethingElse { path: path.to_owned(), what }),
        None => Ok(Some(bytes)),
    }
}

/// What a file is that is none of those that belong beside weights.
fn something_else(bytes: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"version https://git-lfs") {
        return Some("a Git LFS pointer, not the file itself; fetch it with `git lfs pull`");
    }
    if starts(b"../../blobs/") {
        return Some("the text of a link into the Hub's cache, not what it leads to; copy the cache with its links");
    }
    if starts(b"\xef\xbb\xbf") || starts(b"\xff\xfe") || starts(b"\xfe\xff") {
        return Some("a text with a byte-order mark; save it as UTF-8 without one");
    }
    None
}

/// The text of the file at `path`; `None` when there is no such file.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<Option<String>, FileError> {
    let Some(bytes) = read_bytes(path, limit)? else { return Ok(None) };
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|e| FileError::InvalidUtf8 { path: path.to_owned(), at: e.utf8_error().valid_up_to() })
}

/// The JSON file at `path` as a `T`; `None` when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<Option<T>, FileError> {
    let Some(bytes) = read_bytes(path, limit)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| FileError::Json { path: path.to_owned(), reason: e.to_string() })
}

/// A JSON object read by key. `null` counts as absent, as it does in the Python that writes these files.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    map: &'a Map<String, Value>,
    /// The keys that lead here, each with a dot after it.
    prefix: &'a str,
}

impl<'a> Object<'a> {
    pub fn new(map: &'a Map<String, Value>, prefix: &'a str) -> Self {
        Object { map, prefix }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Whether the key is there, be it with `null`.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// The value of `key`, read by `read`.
    pub fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, KeyError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match read(value) {
            Some(v) => Ok(Some(v)),
            None => Err(KeyError::Wrong { key: self.key(key), expected, found: describe(value) }),
        }
    }

    /// `value`, or that `key` is missing.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, KeyError> {
        value.ok_or_else(|| KeyError::Missing { key: self.key(key) })
    }

    /// A size: an integer from 1 to 2³¹ − 1, the range in which GGUF readers agree.
    pub fn size(&self, key: &str) -> Result<Option<usize>, KeyError> {
        self.typed(key, "an integer from 1 to 2147483647", |v| {
            v.as_u64().filter(|v| (1..1 << 31).contains(v)).and_then(|v| v.try_into().ok())
        })
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>, KeyError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub fn string(&self, key: &str) -> Result<Option<&'a str>, KeyError> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A positive number that stays positive and finite as f32.
    pub fn positive(&self, key: &str) -> Result<Option<f64>, KeyError> {
        self.typed(key, "a positive number", |v| v.as_f64().filter(|v| (*v as f32) > 0.0 && (*v as f32).is_finite()))
    }

    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, KeyError> {
        self.typed(key, "an object", Value::as_object)
    }
}

/// `value` for a message: itself when short, else its type.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".into(),
        Value::Object(_) => "an object".into(),
        v => {
            let text = v.to_string();
            if text.len() <= 60 { text } else { format!("{}…", text.chars().take(60).collect::<String>()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_for_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_bytes(&path, 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert!(matches!(read_bytes(&path, 4), Err(FileError::TooLarge { bytes: 5, limit: 4, .. })));
        // A regular file of 0 bytes, says the system.
        #[cfg(target_os = "linux")]
        assert!(matches!(read_bytes(Path::new("/proc/self/status"), 4), Err(FileError::TooLarge { limit: 4, .. })));
    }
}
