//! Python's `str` and `repr`.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, ClassUnicode, HirKind};

use super::budget::step;
use super::error::{Result, fail};
use super::text::{TEMPLATE, Text};
use super::value::{SeqKind, Value};

/// How deep what is printed may be nested: a namespace may hold itself.
const MAX_DEPTH: usize = 300;

/// Appends `str(value)`.
pub(super) fn print(out: &mut Text, value: &Value) -> Result<()> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Str(text) => out.push_text(text),
        other => repr(out, other, 0),
    }
}

/// `str(value)`.
pub(super) fn to_text(value: &Value) -> Result<Text> {
    let mut text = Text::default();
    print(&mut text, value)?;
    Ok(text)
}

/// Appends `repr(value)`.
pub(super) fn repr(out: &mut Text, value: &Value, depth: usize) -> Result<()> {
    step(1)?;
    if depth > MAX_DEPTH {
        return fail!("a value that is nested more than {MAX_DEPTH} levels deep cannot be printed");
    }
    let plain = |out: &mut Text, string: &str| out.push_str(string, TEMPLATE);
    let list = |out: &mut Text, open: &str, items: &[Value], close: &str| {
        plain(out, open)?;
        for (i, item) in items.iter().enumerate() {
            plain(out, if i > 0 { ", " } else { "" })?;
            repr(out, item, depth + 1)?;
        }
        plain(out, close)
    };
    match value {
        Value::Undefined(_) => plain(out, "Undefined"),
        Value::None => plain(out, "None"),
        Value::Bool(b) => plain(out, if *b { "True" } else { "False" }),
        Value::Int(i) => plain(out, &i.to_string()),
        Value::Float(f) => plain(out, &float(*f)),
        Value::Str(text) => quoted(out, text),
        Value::Seq(seq) => match seq.kind {
            SeqKind::List => list(out, "[", seq.items(), "]"),
            SeqKind::Tuple | SeqKind::Group => {
                list(out, "(", seq.items(), if seq.items().len() == 1 { ",)" } else { ")" })
            }
            SeqKind::Keys => list(out, "dict_keys([", seq.items(), "])"),
            SeqKind::Values => list(out, "dict_values([", seq.items(), "])"),
            SeqKind::Items => list(out, "dict_items([", seq.items(), "])"),
            SeqKind::Range => {
                let at = |i: usize| seq.items().get(i).and_then(Value::as_int).unwrap_or(0);
                let step = if seq.items().len() > 1 { at(1) - at(0) } else { 1 };
                let end = at(0) + step * seq.items().len() as i128;
                let step = if step == 1 { String::new() } else { format!(", {step}") };
                plain(out, &format!("range({}, {end}{step})", at(0)))
            }
            SeqKind::Generator => plain(out, "<generator object>"),
        },
        Value::Dict(dict) => {
            plain(out, "{")?;
            for (i, (key, value)) in dict.pairs().iter().enumerate() {
                plain(out, if i > 0 { ", " } else { "" })?;
                repr(out, key, depth + 1)?;
                plain(out, ": ")?;
                repr(out, value, depth + 1)?;
            }
            plain(out, "}")
        }
        Value::Namespace(namespace) => {
            plain(out, "<Namespace {")?;
            for (i, (key, value)) in namespace.0.borrow().iter().enumerate() {
                plain(out, &format!("{}'{key}': ", if i > 0 { ", " } else { "" }))?;
                repr(out, value, depth + 1)?;
            }
            plain(out, "}>")
        }
        Value::Loop(context) => {
            plain(out, &format!("<LoopContext {}/{}>", context.index.get() + 1, context.items.items().len()))
        }
        Value::Callable(_) => plain(out, "<function>"),
    }
}

/// Python's `repr` of a string.
fn quoted(out: &mut Text, text: &Text) -> Result<()> {
    let quote = if text.as_str().contains('\'') && !text.as_str().contains('"') { '"' } else { '\'' };
    out.push(quote, TEMPLATE)?;
    for (_, c, origin) in text.chars() {
        match c {
            '\n' => out.push_str("\\n", origin)?,
            '\r' => out.push_str("\\r", origin)?,
            '\t' => out.push_str("\\t", origin)?,
            '\\' => out.push_str("\\\\", origin)?,
            c if c == quote => {
                out.push('\\', origin)?;
                out.push(c, origin)?;
            }
            c if is_printable(c) => out.push(c, origin)?,
            c => {
                let code = match c as u32 {
                    code @ ..0x100 => format!("\\x{code:02x}"),
                    code @ 0x100..0x1_0000 => format!("\\u{code:04x}"),
                    code => format!("\\U{code:08x}"),
                };
                out.push_str(&code, origin)?;
            }
        }
    }
    out.push(quote, TEMPLATE)
}

/// Python's `repr` of a float: the shortest digits that read back as the same number, in scientific notation when the
/// exponent is below -4 or above 15.
pub(super) fn float(v: f64) -> String {
    if v.is_nan() {
        return "nan".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = format!("{v:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if v != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = v.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

/// Python's `str.isprintable` for one character.
pub(super) fn is_printable(c: char) -> bool {
    static OTHERS: OnceLock<ClassUnicode> = OnceLock::new();
    c == ' ' || (c.is_ascii() && !c.is_ascii_control()) || (!c.is_ascii() && !contains(&OTHERS, r"[\p{C}\p{Z}]", c))
}

/// Whether `c` is in a class of regular expressions, which is kept in `class`.
pub(super) fn contains(class: &'static OnceLock<ClassUnicode>, pattern: &str, c: char) -> bool {
    let class = class.get_or_init(|| {
        let hir = regex_syntax::parse(pattern).expect("a constant pattern");
        let HirKind::Class(Class::Unicode(class)) = hir.into_kind() else { unreachable!("a Unicode class") };
        class
    });
    let at = class.ranges().partition_point(|range| range.end() < c);
    class.ranges().get(at).is_some_and(|range| range.start() <= c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `python3 -c 'print(repr(x))'` prints.
    #[test]
    fn floats_read_as_in_python() {
        for (v, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (9999999999999998.0, "9999999999999998.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(float(v), text);
        }
    }
}
