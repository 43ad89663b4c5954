//! Jinja's filters for single values; those for sequences are in `sequences.rs`.

use super::args::{Arguments, int, string, wanted};
use super::containers::dict_method;
use super::error::{Result, fail};
use super::print::{repr, to_text};
use super::state::Run;
use super::strings::{change_case, replace, soft, strip};
use super::text::{TEMPLATE, Text};
use super::value::{Dict, SeqKind, Value};
use super::{access, chars, json, layout, percent, sequences};

impl Run {
    /// `value | name(args)`.
    pub(super) fn filter(&mut self, name: &str, value: Value, args: Arguments) -> Result<Value> {
        filter(self, name, value, args)
    }
}

fn filter(run: &mut Run, name: &str, value: Value, args: Arguments) -> Result<Value> {
    if let ("int" | "float", Value::Undefined(message)) = (name, &value) {
        return fail!("{message}");
    }
    match name {
        "default" | "d" => {
            let [default, boolean] = args.bind(name, ["default_value", "boolean"])?;
            let replaced = value.is_undefined() || (boolean.is_some_and(|b| b.is_true()) && !value.is_true());
            if !replaced { Ok(value) } else { default.map_or_else(|| Value::string(""), Ok) }
        }
        "tojson" => json::tojson(&value, args),
        "length" | "count" => args.none(name).and_then(|()| Ok(Value::Int(value.length()? as i128))),
        "string" => args.none(name).and_then(|()| Ok(Value::Str(soft(&value)?))),
        "safe" => args.none(name).map(|()| value),
        "upper" | "lower" | "capitalize" => {
            args.none(name)?;
            change_case(&*soft(&value)?, name).map(Value::from)
        }
        "title" => args.none(name).and_then(|()| title(&*soft(&value)?)).map(Value::from),
        "trim" => {
            let [set] = args.bind(name, ["chars"])?;
            let text = soft(&value)?;
            let set = set.filter(|set| !matches!(set, Value::None));
            let set = set.as_ref().map(string).transpose()?;
            text.part(strip(text.as_str(), true, true, set.map(|set| set.as_str()))).map(Value::from)
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["old", "new", "count"])?;
            let count = count.filter(|count| !matches!(count, Value::None));
            let count = count.as_ref().map_or(Ok(-1), int)?;
            let (old, new) = (soft(&wanted(old, name)?)?, soft(&wanted(new, name)?)?);
            replace(&*soft(&value)?, &old, &new, count).map(Value::from)
        }
        "format" => {
            let text = soft(&value)?;
            if args.named.is_empty() {
                return percent::format(&text, &Value::seq(SeqKind::Tuple, args.positional)?).map(Value::from);
            }
            if !args.positional.is_empty() {
                return fail!("can't handle positional and keyword arguments at the same time");
            }
            let mut named = Dict::default();
            for (name, value) in args.named {
                named.insert(Value::string(&name)?, value)?;
            }
            percent::format(&text, &named.into()).map(Value::from)
        }
        "indent" => {
            let [width, first, blank] = args.bind(name, ["width", "first", "blank"])?;
            let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
            indent(string(&value)?, width, is_true(first), is_true(blank)).map(Value::from)
        }
        "center" => {
            let [width] = args.bind(name, ["width"])?;
            let width = width.unwrap_or(Value::Int(80));
            let args = Arguments { positional: vec![width], named: Vec::new() };
            layout::call(&*soft(&value)?, name, args).map(Value::from)
        }
        "truncate" => truncate(&value, args),
        "e" | "escape" | "forceescape" => args.none(name).and_then(|()| escape(&*soft(&value)?)).map(Value::from),
        "urlencode" => args.none(name).and_then(|()| url_encode(&value)).map(Value::from),
        "wordcount" => {
            args.none(name)?;
            let text = soft(&value)?;
            let words = text.as_str().split(|c: char| !regex_syntax::is_word_character(c));
            Ok(Value::Int(words.filter(|word| !word.is_empty()).count() as i128))
        }
        "pprint" => {
            args.none(name)?;
            let mut text = Text::default();
            repr(&mut text, &value, 0)?;
            Ok(text.into())
        }
        "int" => {
            let [default, base] = args.bind(name, ["default", "base"])?;
            let base = base.as_ref().map_or(Ok(10), int)?;
            Ok(to_int(&value, base).unwrap_or_else(|| default.unwrap_or(Value::Int(0))))
        }
        "float" => {
            let [default] = args.bind(name, ["default"])?;
            Ok(to_float(&value).map_or_else(|| default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        "abs" => {
            args.none(name)?;
            match (&value, value.as_int()) {
                (Value::Float(f), _) => Ok(Value::Float(f.abs())),
                (_, Some(i)) => Ok(Value::Int(i.saturating_abs())),
                (Value::Undefined(message), _) => fail!("{message}"),
                _ => fail!("bad operand type for abs(): '{}'", value.type_name()),
            }
        }
        "round" => round(&value, args),
        "attr" => {
            let [attribute] = args.bind(name, ["name"])?;
            let attribute = wanted(attribute, name)?;
            let attribute = string(&attribute)?.as_str();
            // The attribute alone, never an item.
            match &value {
                Value::Dict(_) if access::attribute(&Dict::default().into(), attribute)?.is_undefined() => {
                    Ok(Value::Undefined(format!("'dict object' has no attribute '{attribute}'").into()))
                }
                value => access::attribute(value, attribute),
            }
        }
        _ => sequences::filter(run, name, value, args),
    }
}

/// Jinja's `title`: a word begins after white space, a dash or a bracket, and not after an apostrophe.
fn title(text: &Text) -> Result<Text> {
    let mut out = Text::default();
    let mut begins = true;
    for (_, c, origin) in text.chars() {
        let separates = chars::is_space(c) || "-({[<".contains(c);
        match (separates, begins) {
            (true, _) => out.push(c, origin)?,
            (false, true) => out.push_str(&c.to_uppercase().to_string(), origin)?,
            (false, false) => out.push_str(&c.to_lowercase().to_string(), origin)?,
        }
        begins = separates;
    }
    Ok(out)
}

fn indent(text: &Text, width: Option<Value>, first: bool, blank: bool) -> Result<Text> {
    let mut space = Text::default();
    match width {
        Some(Value::Str(with)) => space.push_text(&with)?,
        Some(width) => space.push_repeated(" ", int(&width)?)?,
        None => space.push_repeated(" ", 4)?,
    }
    let mut out = Text::default();
    // What jinja2 adds, so that a newline at the end counts as a line.
    let s = text.as_str();
    let mut at = 0;
    let mut number = 0;
    loop {
        let end = s[at..].find(chars::is_line_end).map_or(s.len(), |length| at + length);
        if if number == 0 { first } else { blank || end > at } {
            out.push_text(&space)?;
        }
        out.push_part(text, at..end)?;
        number += 1;
        let after = if s[end..].starts_with("\r\n") { 2 } else { s[end..].chars().next().map_or(0, char::len_utf8) };
        if after == 0 {
            return Ok(out);
        }
        out.push('\n', TEMPLATE)?;
        at = end + after;
    }
}

fn truncate(value: &Value, args: Arguments) -> Result<Value> {
    let [length, kill, end, leeway] = args.bind("truncate", ["length", "killwords", "end", "leeway"])?;
    let length = length.as_ref().map_or(Ok(255), int)?;
    let leeway = leeway.as_ref().map_or(Ok(5), int)?;
    let end = end.map_or_else(|| Value::string("..."), Ok)?;
    let end = string(&end)?;
    let count = |s: &str| s.chars().count() as i128;
    if length < count(end.as_str()) || leeway < 0 {
        return fail!("truncate: a length of {length} and a leeway of {leeway} leave no room");
    }
    if value.length()? as i128 <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let text = string(value)?;
    let kept = (length - count(end.as_str())) as usize;
    let cut = text.as_str().char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
    let cut =
        if kill.is_some_and(|kill| kill.is_true()) { cut } else { text.as_str()[..cut].rfind(' ').unwrap_or(cut) };
    let mut out = text.part(0..cut)?;
    out.push_text(end)?;
    Ok(out.into())
}

fn escape(text: &Text) -> Result<Text> {
    let mut out = Text::default();
    for (_, c, origin) in text.chars() {
        match c {
            '&' => out.push_str("&amp;", origin)?,
            '<' => out.push_str("&lt;", origin)?,
            '>' => out.push_str("&gt;", origin)?,
            '\'' => out.push_str("&#39;", origin)?,
            '"' => out.push_str("&#34;", origin)?,
            c => out.push(c, origin)?,
        }
    }
    Ok(out)
}

fn url_encode(value: &Value) -> Result<Text> {
    let quote = |out: &mut Text, text: &Text, safe: &[u8]| {
        for (_, c, origin) in text.chars() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) || safe.contains(&byte) {
                    out.push(byte.into(), origin)?;
                } else if byte == b' ' && safe.is_empty() {
                    out.push('+', origin)?;
                } else {
                    out.push_str(&format!("%{byte:02X}"), origin)?;
                }
            }
        }
        Ok(())
    };
    let mut out = Text::default();
    match value {
        Value::Dict(_) | Value::Seq(_) => {
            let items = match value {
                Value::Dict(dict) => dict_method(dict, "items", Arguments::default())?.iterate()?,
                other => other.iterate()?,
            };
            for (i, pair) in items.items().iter().enumerate() {
                let pair = pair.iterate()?;
                let [key, value] = pair.items() else { return fail!("urlencode wants pairs") };
                if i > 0 {
                    out.push('&', TEMPLATE)?;
                }
                quote(&mut out, &to_text(key)?, b"")?;
                out.push('=', TEMPLATE)?;
                quote(&mut out, &to_text(value)?, b"")?;
            }
        }
        other => quote(&mut out, &to_text(other)?, b"/")?,
    }
    Ok(out)
}

/// Python's `int`, for what a template has.
fn to_int(value: &Value, base: i128) -> Option<Value> {
    if let Value::Str(text) = value {
        let s = text.as_str().trim_matches(chars::is_space).replace('_', "");
        let (negative, digits) = match s.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, s.strip_prefix('+').unwrap_or(&s)),
        };
        let prefix = match base {
            16 => "0x",
            8 => "0o",
            2 => "0b",
            _ => "",
        };
        let lower = digits.to_lowercase();
        let digits = lower.strip_prefix(prefix).unwrap_or(&lower);
        let plain = !digits.is_empty() && digits.chars().all(char::is_alphanumeric);
        let radix = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
        if let Some(i) = i128::from_str_radix(digits, radix).ok().filter(|_| plain) {
            return Some(Value::Int(if negative { -i } else { i }));
        }
    }
    if let Some(i) = value.as_int() {
        return Some(Value::Int(i));
    }
    // jinja2 tries a float next: `'42.7' | int` is 42.
    to_float(value).filter(|f| f.is_finite() && f.abs() < 1e38).map(|f| Value::Int(f.trunc() as i128))
}

fn to_float(value: &Value) -> Option<f64> {
    match value {
        Value::Str(text) => {
            let s = text.as_str().trim_matches(chars::is_space);
            // Rust takes what Python takes, and `_` between digits is Python's alone.
            if s.starts_with('_') || s.ends_with('_') { None } else { s.replace('_', "").parse().ok() }
        }
        other => other.as_f64(),
    }
}

fn round(value: &Value, args: Arguments) -> Result<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let precision = precision.as_ref().map_or(Ok(0), int)?.clamp(-400, 400) as i32;
    let method = method.map_or_else(|| Value::string("common"), Ok)?;
    if let Value::Undefined(message) = value {
        return fail!("{message}");
    }
    let Some(f) = value.as_f64() else { return fail!("type {} doesn't define round", value.type_name()) };
    let factor = 10f64.powi(precision);
    let rounded = match string(&method)?.as_str() {
        "common" => {
            if let Some(i) = value.as_int()
                && precision >= 0
            {
                return Ok(Value::Int(i));
            }
            // Exactly, and halves to even, as Python does.
            let rounded = match usize::try_from(precision) {
                Ok(digits) => format!("{f:.digits$}").parse().unwrap_or(f),
                Err(_) => (f * factor).round_ties_even() / factor,
            };
            if value.as_int().is_some() {
                return Ok(Value::Int(rounded as i128));
            }
            rounded
        }
        "ceil" => (f * factor).ceil() / factor,
        "floor" => (f * factor).floor() / factor,
        _ => return fail!("method must be common, ceil or floor"),
    };
    Ok(Value::Float(rounded))
}
