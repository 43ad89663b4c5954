//! `tojson`, which writes as Python's `json.dumps` does, letter for letter.

use super::args::{Arguments, int};
use super::error::{Error, Result, fail};
use super::print;
use super::text::{TEMPLATE, Text};
use super::value::{SeqKind, Value};

/// The keyword arguments that Hugging Face's `tojson` passes on to `json.dumps`.
struct Style {
    ascii: bool,
    sort_keys: bool,
    /// What stands for one level of indentation; `None` writes everything on one line.
    indent: Option<Value>,
    item_separator: Text,
    key_separator: Text,
}

/// The filter `tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
///
/// # Errors
/// For what has no JSON form: undefined values, keys that are containers.
pub(super) fn tojson(value: &Value, args: Arguments) -> Result<Value> {
    let [ascii, indent, separators, sort_keys] =
        args.bind("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let indent = indent.filter(|indent| !matches!(indent, Value::None));
    let (item_separator, key_separator) = match separators.filter(|separators| !matches!(separators, Value::None)) {
        Some(pair) => match pair.iterate()?.items() {
            [item, key] => (print::to_text(item)?, print::to_text(key)?),
            _ => return fail!("tojson: separators are a pair"),
        },
        None => {
            let item = if indent.is_some() { "," } else { ", " };
            (Text::new(item, TEMPLATE)?, Text::new(": ", TEMPLATE)?)
        }
    };
    let style = Style { ascii: is_true(ascii), sort_keys: is_true(sort_keys), indent, item_separator, key_separator };
    let mut out = Text::default();
    style.write(&mut out, value, 0)?;
    Ok(out.into())
}

impl Style {
    fn new_line(&self, out: &mut Text, depth: usize) -> Result<()> {
        match &self.indent {
            None => Ok(()),
            Some(Value::Str(indent)) => {
                out.push('\n', TEMPLATE)?;
                (0..depth).try_for_each(|_| out.push_text(indent))
            }
            Some(width) => {
                out.push('\n', TEMPLATE)?;
                out.push_repeated(" ", int(width)?.max(0).saturating_mul(depth as i128))
            }
        }
    }

    fn write(&self, out: &mut Text, value: &Value, depth: usize) -> Result<()> {
        match value {
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => out.push_str(&scalar(value)?, TEMPLATE),
            Value::Str(text) => self.write_string(out, text),
            Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Group) => {
                let items = seq.items();
                out.push('[', TEMPLATE)?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_text(&self.item_separator)?;
                    }
                    self.new_line(out, depth + 1)?;
                    self.write(out, item, depth + 1)?;
                }
                if !items.is_empty() {
                    self.new_line(out, depth)?;
                }
                out.push(']', TEMPLATE)
            }
            Value::Dict(dict) => {
                let mut pairs: Vec<_> = dict.pairs().iter().collect();
                if self.sort_keys {
                    let mut failed = Ok(());
                    // Keys of a JSON object are strings; others have an order, or the error is told.
                    for pair in pairs.windows(2) {
                        failed = failed.and(pair[0].0.order(&pair[1].0, "<").map(drop));
                    }
                    failed?;
                    pairs.sort_by_cached_key(|(key, _)| print::to_text(key).map(|t| t.as_str().to_string()).ok());
                }
                out.push('{', TEMPLATE)?;
                for (i, (key, item)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.push_text(&self.item_separator)?;
                    }
                    self.new_line(out, depth + 1)?;
                    match key {
                        Value::Str(key) => self.write_string(out, key)?,
                        other => self.write_string(out, &Text::new(&scalar(other)?, TEMPLATE)?)?,
                    }
                    out.push_text(&self.key_separator)?;
                    self.write(out, item, depth + 1)?;
                }
                if !pairs.is_empty() {
                    self.new_line(out, depth)?;
                }
                out.push('}', TEMPLATE)
            }
            other => fail!("Object of type {} is not JSON serializable", other.type_name()),
        }
    }

    fn write_string(&self, out: &mut Text, text: &Text) -> Result<()> {
        out.push('"', TEMPLATE)?;
        for (_, c, origin) in text.chars() {
            match c {
                '"' => out.push_str("\\\"", origin)?,
                '\\' => out.push_str("\\\\", origin)?,
                '\n' => out.push_str("\\n", origin)?,
                '\r' => out.push_str("\\r", origin)?,
                '\t' => out.push_str("\\t", origin)?,
                '\u{8}' => out.push_str("\\b", origin)?,
                '\u{c}' => out.push_str("\\f", origin)?,
                c if c < ' ' || (self.ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"), origin)?;
                    }
                }
                c => out.push(c, origin)?,
            }
        }
        out.push('"', TEMPLATE)
    }
}

/// None, a bool or a number, as a JSON value and as a key.
fn scalar(value: &Value) -> Result<String> {
    match value {
        Value::None => Ok("null".into()),
        Value::Bool(b) => Ok(if *b { "true" } else { "false" }.into()),
        Value::Int(i) => Ok(i.to_string()),
        Value::Float(f) if f.is_nan() => Ok("NaN".into()),
        Value::Float(f) if f.is_infinite() => Ok(if *f > 0.0 { "Infinity" } else { "-Infinity" }.into()),
        Value::Float(f) => Ok(print::float(*f)),
        other => Err(Error::new(format!("keys must be str, int, float, bool or None, not {}", other.type_name()))),
    }
}
