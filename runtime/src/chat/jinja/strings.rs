//! Methods of Python's `str`. Characters keep their origin in all of them.

use std::ops::Range;
use std::rc::Rc;

use super::args::{Arguments, int, string, wanted};
use super::budget::scan;
use super::chars;
use super::error::{Result, fail};
use super::print::{is_printable, to_text};
use super::text::Text;
use super::value::{Dict, Seq, SeqKind, Value};
use super::{format, layout};

pub(super) fn call(text: &Rc<Text>, name: &str, args: Arguments) -> Result<Value> {
    scan(text.len())?;
    let s = text.as_str();
    let all = |fits: fn(char) -> bool| Value::Bool(!s.is_empty() && s.chars().all(fits));
    match name {
        "upper" | "lower" | "casefold" | "capitalize" | "title" | "swapcase" => {
            args.none(name)?;
            change_case(text, name).map(Value::from)
        }
        "isalnum" => args.none(name).map(|()| all(chars::is_alphanumeric)),
        "isalpha" => args.none(name).map(|()| all(chars::is_alpha)),
        "isdecimal" => args.none(name).map(|()| all(chars::is_decimal)),
        "isdigit" => args.none(name).map(|()| all(chars::is_digit)),
        "isnumeric" => args.none(name).map(|()| all(chars::is_numeric)),
        "isspace" => args.none(name).map(|()| all(chars::is_space)),
        "isascii" => args.none(name).map(|()| Value::Bool(s.is_ascii())),
        "isprintable" => args.none(name).map(|()| Value::Bool(s.chars().all(is_printable))),
        "isidentifier" => args.none(name).map(|()| Value::Bool(is_identifier(s))),
        "islower" => args.none(name).map(|()| Value::Bool(is_case(s, |c| c.is_uppercase() || chars::is_title(c)))),
        "isupper" => args.none(name).map(|()| Value::Bool(is_case(s, |c| c.is_lowercase() || chars::is_title(c)))),
        "istitle" => args.none(name).map(|()| Value::Bool(is_title(s))),
        "startswith" | "endswith" => starts_or_ends(text, name, args).map(Value::Bool),
        "count" | "find" | "rfind" | "index" | "rindex" => search(text, name, args),
        "strip" | "lstrip" | "rstrip" => {
            let [set] = args.bind(name, ["chars"])?;
            let set = set.filter(|set| !matches!(set, Value::None));
            let set = set.as_ref().map(string).transpose()?;
            text.part(strip(s, name != "rstrip", name != "lstrip", set.map(|set| set.as_str()))).map(Value::from)
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = args.bind(name, ["affix"])?;
            let affix = wanted(affix, name)?;
            let affix = string(&affix)?.as_str();
            let rest = if name == "removeprefix" {
                s.strip_prefix(affix).map(|rest| s.len() - rest.len()..s.len())
            } else {
                s.strip_suffix(affix).map(|rest| 0..rest.len())
            };
            text.part(rest.unwrap_or(0..s.len())).map(Value::from)
        }
        "partition" | "rpartition" => partition(text, name, args),
        "split" | "rsplit" => split(text, name, args),
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"])?;
            split_lines(text, keep.as_ref().map_or(Ok(0), int)? != 0)
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let (old, new) = (wanted(old, name)?, wanted(new, name)?);
            let count = count.as_ref().map_or(Ok(-1), int)?;
            replace(text, string(&old)?, string(&new)?, count).map(Value::from)
        }
        "join" => {
            let [items] = args.bind(name, ["iterable"])?;
            let mut out = Text::default();
            for (i, item) in wanted(items, name)?.iterate()?.items().iter().enumerate() {
                if i > 0 {
                    out.push_text(text)?;
                }
                match item {
                    Value::Str(item) => out.push_text(item)?,
                    other => return fail!("sequence item {i}: expected str instance, {} found", other.type_name()),
                }
            }
            Ok(out.into())
        }
        "center" | "ljust" | "rjust" | "zfill" | "expandtabs" => layout::call(text, name, args).map(Value::from),
        "format" => format::format(text, &args).map(Value::from),
        "format_map" => {
            let [mapping] = args.bind(name, ["mapping"])?;
            // Nothing is looked up in it before a field wants that.
            let mapping = match wanted(mapping, name)? {
                Value::Dict(mapping) => mapping,
                _ => Rc::new(Dict::default()),
            };
            format::format_map(text, &mapping).map(Value::from)
        }
        _ => fail!("'str' object has no method '{name}'"),
    }
}

pub(super) fn change_case(text: &Text, name: &str) -> Result<Text> {
    scan(16 * text.len())?;
    if name == "upper" {
        return text.map(str::to_uppercase);
    }
    let mut out = Text::default();
    // Lower case looks at whole words, for the final sigma of Greek.
    let lower = text.as_str().to_lowercase();
    let mut rest = lower.chars();
    let mut after_cased = false;
    for (at, c, origin) in text.chars() {
        let mut lower = String::new();
        c.to_lowercase().for_each(|c| lower.push(rest.next().unwrap_or(c)));
        match name {
            "lower" => out.push_str(&lower, origin)?,
            "casefold" => out.push_str(&chars::to_folded(c), origin)?,
            "capitalize" if at == 0 => out.push_str(&chars::to_title(c), origin)?,
            "capitalize" => out.push_str(&lower, origin)?,
            "title" if after_cased => out.push_str(&lower, origin)?,
            "title" => out.push_str(&chars::to_title(c), origin)?,
            _ if c.is_uppercase() => out.push_str(&lower, origin)?,
            _ if c.is_lowercase() => out.push_str(&c.to_uppercase().to_string(), origin)?,
            _ => out.push(c, origin)?,
        }
        after_cased = chars::is_cased(c);
    }
    Ok(out)
}

fn is_case(s: &str, other: fn(char) -> bool) -> bool {
    s.chars().any(chars::is_cased) && !s.chars().any(other)
}

fn is_title(s: &str) -> bool {
    let (mut after_cased, mut any) = (false, false);
    for c in s.chars() {
        let begins = c.is_uppercase() || chars::is_title(c);
        if (begins && after_cased) || (c.is_lowercase() && !after_cased) {
            return false;
        }
        after_cased = begins || c.is_lowercase();
        any |= after_cased;
    }
    any
}

fn is_identifier(s: &str) -> bool {
    let start = |c: char| c == '_' || chars::is_alpha(c);
    s.starts_with(start) && s.chars().all(|c| start(c) || regex_syntax::is_word_character(c))
}

/// The bytes that `start` and `end` name, in characters, as Python's slices do; `None` when nothing can be there.
fn bounds(text: &Text, start: Option<Value>, end: Option<Value>) -> Result<Option<Range<usize>>> {
    let bound = |value: Option<Value>| match value {
        None | Some(Value::None) => Ok(None),
        Some(value) => int(&value).map(Some),
    };
    let (start, end) = (bound(start)?, bound(end)?);
    if start.is_none() && end.is_none() {
        return Ok(Some(0..text.len()));
    }
    let count = text.as_str().chars().count() as i128;
    let place = |at: i128| if at < 0 { at.saturating_add(count).max(0) } else { at };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(count)).min(count));
    if start > end {
        return Ok(None);
    }
    let byte = |at: i128| text.as_str().char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Ok(Some(byte(start)..byte(end)))
}

fn starts_or_ends(text: &Text, name: &str, args: Arguments) -> Result<bool> {
    let [affix, start, end] = args.bind(name, ["affix", "start", "end"])?;
    let affixes = match wanted(affix, name)? {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => seq,
        Value::Seq(_) => return fail!("{name} first arg must be str or a tuple of str, not list"),
        other => Value::seq(SeqKind::Tuple, [other])?.iterate()?,
    };
    let range = bounds(text, start, end)?;
    for affix in affixes.items() {
        let affix = string(affix)?.as_str();
        let part = range.clone().map(|range| &text.as_str()[range]);
        if part.is_some_and(|part| if name == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) }) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn search(text: &Text, name: &str, args: Arguments) -> Result<Value> {
    let [part, start, end] = args.bind(name, ["sub", "start", "end"])?;
    let part = wanted(part, name)?;
    let part = string(&part)?.as_str();
    let range = bounds(text, start, end)?;
    let within = range.clone().map_or("", |range| &text.as_str()[range]);
    if name == "count" {
        let count = if range.is_none() { 0 } else { within.matches(part).count() };
        return Ok(Value::Int(count as i128));
    }
    let found = if name.starts_with('r') { within.rfind(part) } else { within.find(part) };
    match range.and_then(|range| found.map(|at| range.start + at)) {
        Some(at) => Ok(Value::Int(text.as_str()[..at].chars().count() as i128)),
        None if name.ends_with("index") => fail!("substring not found"),
        None => Ok(Value::Int(-1)),
    }
}

/// What is left when characters of `set`, or white space, are taken away at the ends.
pub(super) fn strip(s: &str, left: bool, right: bool, set: Option<&str>) -> Range<usize> {
    let goes = |c: char| set.map_or_else(|| chars::is_space(c), |set| set.contains(c));
    let start = if left { s.len() - s.trim_start_matches(goes).len() } else { 0 };
    let end = if right { s[start..].trim_end_matches(goes).len() + start } else { s.len() };
    start..end
}

fn partition(text: &Text, name: &str, args: Arguments) -> Result<Value> {
    let [separator] = args.bind(name, ["sep"])?;
    let separator = wanted(separator, name)?;
    let separator = string(&separator)?.as_str();
    if separator.is_empty() {
        return fail!("empty separator");
    }
    let (s, from_right) = (text.as_str(), name == "rpartition");
    let found = if from_right { s.rfind(separator) } else { s.find(separator) };
    let cuts = match found {
        Some(at) => [0..at, at..at + separator.len(), at + separator.len()..s.len()],
        None if from_right => [0..0, 0..0, 0..s.len()],
        None => [0..s.len(), 0..0, 0..0],
    };
    let mut parts = Seq::new(SeqKind::Tuple);
    for cut in cuts {
        parts.push(text.part(cut)?.into())?;
    }
    Ok(parts.into())
}

fn split(text: &Text, name: &str, args: Arguments) -> Result<Value> {
    let [separator, most] = args.bind(name, ["sep", "maxsplit"])?;
    let most = most.as_ref().map_or(Ok(-1), int)?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let s = text.as_str();
    let mut parts: Vec<Range<usize>> = Vec::new();
    let separator = separator.filter(|separator| !matches!(separator, Value::None));
    match separator.as_ref().map(string).transpose()?.map(|separator| separator.as_str()) {
        Some("") => return fail!("empty separator"),
        Some(separator) if name == "split" => {
            let mut at = 0;
            for (found, _) in s.match_indices(separator).take(most) {
                parts.push(at..found);
                at = found + separator.len();
            }
            parts.push(at..s.len());
        }
        Some(separator) => {
            let mut end = s.len();
            for (found, _) in s.rmatch_indices(separator).take(most) {
                parts.push(found + separator.len()..end);
                end = found;
            }
            parts.push(0..end);
            parts.reverse();
        }
        None if name == "split" => {
            let mut at = strip(s, true, false, None).start;
            while at < s.len() {
                let word = s[at..].find(chars::is_space).map_or(s.len(), |length| at + length);
                if parts.len() == most {
                    parts.push(at..s.len());
                    break;
                }
                parts.push(at..word);
                at = word + strip(&s[word..], true, false, None).start;
            }
        }
        None => {
            let mut end = strip(s, false, true, None).end;
            while end > 0 {
                let start = s[..end].char_indices().rev().find(|(_, c)| chars::is_space(*c));
                let start = start.map_or(0, |(at, c)| at + c.len_utf8());
                if parts.len() == most {
                    parts.push(0..end);
                    break;
                }
                parts.push(start..end);
                end = strip(&s[..start], false, true, None).end;
            }
            parts.reverse();
        }
    }
    let mut list = Seq::new(SeqKind::List);
    for part in parts {
        list.push(text.part(part)?.into())?;
    }
    Ok(list.into())
}

fn split_lines(text: &Text, keep_ends: bool) -> Result<Value> {
    let s = text.as_str();
    let mut lines = Seq::new(SeqKind::List);
    let mut at = 0;
    while at < s.len() {
        let end = s[at..].find(chars::is_line_end).map_or(s.len(), |length| at + length);
        let after = if s[end..].starts_with("\r\n") { 2 } else { s[end..].chars().next().map_or(0, char::len_utf8) };
        lines.push(text.part(at..if keep_ends { end + after } else { end })?.into())?;
        at = end + after;
    }
    Ok(lines.into())
}

/// `text` with at most `count` of `old` replaced; all of them if that is negative.
pub(super) fn replace(text: &Text, old: &Text, new: &Text, count: i128) -> Result<Text> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let mut out = Text::default();
    let mut at = 0;
    for (found, _) in text.as_str().match_indices(old.as_str()).take(most) {
        out.push_part(text, at..found)?;
        out.push_text(new)?;
        at = found + old.len();
    }
    out.push_part(text, at..text.len())?;
    Ok(out)
}

/// The text that a filter works on: what is no string is printed first.
pub(super) fn soft(value: &Value) -> Result<Rc<Text>> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        other => to_text(other).map(Rc::new),
    }
}
