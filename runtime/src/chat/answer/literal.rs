//! Values as models write them: JSON, Python, or something in between.

use serde_json::{Map, Number, Value as Json};

use super::cursor::{Cursor, Scan, Stop};

/// Lists within lists. JSON's readers, who come after this, take 127.
const DEEPEST: usize = 64;

/// A value: JSON's, or a literal of Python (`'…'`, `True`, `None`, tuples, a comma at the end).
pub(super) fn value(cursor: &mut Cursor<'_>) -> Scan<Json> {
    nested(cursor, 0)
}

fn nested(cursor: &mut Cursor<'_>, depth: usize) -> Scan<Json> {
    if depth > DEEPEST {
        return Err(Stop::No);
    }
    match cursor.after_space()? {
        '"' | '\'' => string(cursor).map(Json::String),
        '{' => {
            let mut map = Map::new();
            items(cursor, '}', |cursor| {
                let key = string(cursor)?;
                cursor.after_space()?;
                cursor.eat(":")?;
                map.insert(key, nested(cursor, depth + 1)?);
                Ok(())
            })?;
            Ok(map.into())
        }
        open @ ('[' | '(') => {
            let mut list = Vec::new();
            let close = if open == '[' { ']' } else { ')' };
            items(cursor, close, |cursor| {
                list.push(nested(cursor, depth + 1)?);
                Ok(())
            })?;
            Ok(list.into())
        }
        _ => word(cursor),
    }
}

/// What stands between a bracket, which is here, and `close`, with commas between.
pub(super) fn items<'a>(
    cursor: &mut Cursor<'a>,
    close: char,
    mut item: impl FnMut(&mut Cursor<'a>) -> Scan<()>,
) -> Scan<()> {
    cursor.at += 1;
    loop {
        if cursor.after_space()? == close {
            break;
        }
        item(cursor)?;
        match cursor.after_space()? {
            ',' => cursor.at += 1,
            c if c == close => break,
            _ => return Err(Stop::No),
        }
    }
    cursor.at += close.len_utf8();
    Ok(())
}

/// A number or a word.
fn word(cursor: &mut Cursor<'_>) -> Scan<Json> {
    let word = cursor.word(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))?;
    match word {
        "true" | "True" => return Ok(true.into()),
        "false" | "False" => return Ok(false.into()),
        "null" | "None" => return Ok(Json::Null),
        _ => {}
    }
    let number = || word.parse::<Number>().ok().map(Json::Number);
    // Python's `.5` and `1.`, too.
    let is_decimal = || word.chars().all(|c| matches!(c, '0'..='9' | '.' | '-' | '+' | 'e' | 'E'));
    let python = || Number::from_f64(word.parse().ok().filter(|_| is_decimal())?).map(Json::Number);
    number().or_else(python).ok_or(Stop::No)
}

/// A string in either kind of quotes.
pub(super) fn string(cursor: &mut Cursor<'_>) -> Scan<String> {
    let quote = cursor.after_space()?;
    if !matches!(quote, '"' | '\'') {
        return Err(Stop::No);
    }
    let mut text = String::from('"');
    let read = string_text(&cursor.rest()[1..], quote, &mut text);
    if !read.closed {
        return Err(cursor.end());
    }
    cursor.at += 1 + read.bytes;
    text.push('"');
    serde_json::from_str(&text).map_err(|_| Stop::No)
}

/// How far a string's text was read.
pub(super) struct Read {
    /// So many bytes, the closing quote included.
    pub(super) bytes: usize,
    /// Whether that was there.
    pub(super) closed: bool,
}

/// Appends to `out` what stands in a string, up to `quote` or as far as it is certain, as JSON writes it: a line break
/// within it becomes `\n`, a backslash that begins no escape one that stands for itself, half of a surrogate pair a
/// replacement character.
pub(super) fn string_text(text: &str, quote: char, out: &mut String) -> Read {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        match c {
            _ if c == quote => return Read { bytes: at + 1, closed: true },
            '\\' => match escape(rest) {
                Some((bytes, escaped)) => {
                    out.push_str(&escaped);
                    at += bytes;
                    continue;
                }
                None => break,
            },
            '"' => out.push_str("\\\""),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", c as u32)),
            _ => out.push(c),
        }
        at += c.len_utf8();
    }
    Read { bytes: at, closed: false }
}

/// The escape that `text` begins with, its bytes and how JSON has it; none if more of it has to be seen.
fn escape(text: &str) -> Option<(usize, String)> {
    match text[1..].chars().next()? {
        c @ ('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => Some((2, format!("\\{c}"))),
        '\'' => Some((2, "'".into())),
        'u' => match unit(text) {
            Unit::More => None,
            Unit::No => Some((1, "\\\\".into())),
            Unit::Code(high @ 0xd800..=0xdbff) => match unit(&text[6..]) {
                Unit::More => None,
                Unit::Code(low @ 0xdc00..=0xdfff) => Some((12, format!("\\u{high:04x}\\u{low:04x}"))),
                _ => Some((6, "\u{fffd}".into())),
            },
            Unit::Code(0xdc00..=0xdfff) => Some((6, "\u{fffd}".into())),
            Unit::Code(code) => Some((6, format!("\\u{code:04x}"))),
        },
        _ => Some((1, "\\\\".into())),
    }
}

enum Unit {
    Code(u32),
    More,
    No,
}

/// The `\uXXXX` that `text` begins with.
fn unit(text: &str) -> Unit {
    let digits = text.strip_prefix("\\u").unwrap_or_else(|| text.get(2..).unwrap_or_default());
    let is_begun = "\\u".starts_with(text) || text.starts_with("\\u");
    let hex = digits.bytes().take(4).take_while(u8::is_ascii_hexdigit).count();
    match hex {
        _ if !is_begun => Unit::No,
        4 => u32::from_str_radix(&digits[..4], 16).map_or(Unit::No, Unit::Code),
        _ if digits.len() == hex => Unit::More,
        _ => Unit::No,
    }
}
