//! The arguments of a call, an object, while they are being written.

use serde_json::Value as Json;

use super::coerce::{allows, coerce, refuses_null};
use super::cursor::{Cursor, Scan, Stop};
use super::literal::{string, string_text, value};
use super::tool::Tool;

/// An object that is read member by member. A string that may be one is given out as it comes, any other value when it
/// is there, since only then it is known what it is.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    /// The tool's place among those declared.
    pub(super) tool: usize,
    /// Whether a member was given out.
    any: bool,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the brace.
    Open,
    /// Before a member, or the end.
    Member,
    /// Within a string.
    Text,
    /// After a member.
    After,
}

/// What was read.
pub(super) struct Progress {
    /// Its bytes.
    pub(super) used: usize,
    /// What is given out for them.
    pub(super) text: String,
    /// Whether it is the end of the object.
    pub(super) done: bool,
}

impl Arguments {
    pub(super) fn new(tool: usize) -> Arguments {
        Arguments { tool, any: false, at: At::Open }
    }

    /// Whether nothing is missing but the brace at the end.
    pub(super) fn may_end(&self) -> bool {
        self.at == At::After
    }

    /// Reads one thing more.
    pub(super) fn step(&mut self, text: &str, last: bool, tool: &Tool) -> Scan<Progress> {
        let mut cursor = Cursor::new(text, last);
        let mut out = String::new();
        let mut done = false;
        match self.at {
            At::Open => {
                cursor.eat("{")?;
                out.push('{');
                self.at = At::Member;
            }
            At::Member if cursor.after_space()? == '}' => done = true,
            At::Member => self.at = self.member(&mut cursor, tool, &mut out)?,
            At::Text => {
                let read = string_text(text, '"', &mut out);
                if read.bytes == 0 {
                    return Err(cursor.end());
                }
                cursor.at = read.bytes;
                if read.closed {
                    out.push('"');
                    self.at = At::After;
                }
            }
            At::After => match cursor.after_space()? {
                ',' => {
                    cursor.at += 1;
                    self.at = At::Member;
                }
                '}' => done = true,
                _ => return Err(Stop::No),
            },
        }
        if done {
            cursor.at += 1;
            out.push('}');
        }
        Ok(Progress { used: cursor.at, text: out, done })
    }

    /// Reads a member, or its beginning; returns where that leads.
    fn member(&mut self, cursor: &mut Cursor<'_>, tool: &Tool, out: &mut String) -> Scan<At> {
        let key = string(cursor)?;
        cursor.after_space()?;
        cursor.eat(":")?;
        let first = cursor.after_space()?;
        let schema = tool.schema_of(&key);
        let (at, written) = if first == '"' && allows(schema, "string") {
            cursor.at += 1;
            (At::Text, "\"".to_string())
        } else {
            let from = cursor.at;
            let value = value(cursor)?;
            let lenient = !tool.strict;
            if lenient && value.is_null() && tool.is_optional(&key) && refuses_null(schema) {
                return Ok(At::After);
            }
            let raw = &cursor.text[from..cursor.at];
            let coerced = coerce(value.clone(), schema, lenient);
            // As it was written, if it can stay. (Who passes over a value does not see half a surrogate pair in it.)
            let stays = coerced == value && serde_json::from_str::<Json>(raw).is_ok();
            (At::After, if stays { raw.to_string() } else { coerced.to_string() })
        };
        if std::mem::replace(&mut self.any, true) {
            out.push(',');
        }
        out.push_str(&format!("{}:{written}", Json::from(key)));
        Ok(at)
    }
}
