//! Python's `format % values`.

use std::iter::Peekable;
use std::rc::Rc;
use std::str::CharIndices;

use super::error::{Result, fail};
use super::layout::padded;
use super::numbers;
use super::print::{repr, to_text};
use super::text::{TEMPLATE, Text};
use super::value::{SeqKind, Value};

/// What stands between `%` and the letter.
#[derive(Default)]
struct Directive {
    left: bool,
    sign: Option<char>,
    zero: bool,
    alternative: bool,
    width: usize,
    precision: Option<usize>,
}

/// The values, and how many of them are used.
struct Values<'v> {
    all: &'v [Value],
    used: usize,
}

impl Values<'_> {
    fn next(&mut self) -> Result<Value> {
        self.used += 1;
        match self.all.get(self.used - 1) {
            Some(value) => Ok(value.clone()),
            None => fail!("not enough arguments for format string"),
        }
    }
}

/// `format % value`, where a tuple is several values and a dict has them by name.
pub(super) fn format(format: &Text, value: &Value) -> Result<Text> {
    let single = [value.clone()];
    let mut values = match value {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => Values { all: seq.items(), used: 0 },
        _ => Values { all: &single, used: 0 },
    };
    let mut named = false;
    let mut out = Text::default();
    let mut chars = format.as_str().char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '%' {
            out.push(c, format.origin(at))?;
            continue;
        }
        let mut by_name = None;
        if chars.next_if(|(_, c)| *c == '(').is_some() {
            let mut depth = 1;
            let start = at + 2;
            let end = loop {
                match chars.next() {
                    Some((at, ')')) if depth == 1 => break at,
                    Some((_, ')')) => depth -= 1,
                    Some((_, '(')) => depth += 1,
                    Some(_) => {}
                    None => return fail!("incomplete format key"),
                }
            };
            let Value::Dict(dict) = value else { return fail!("format requires a mapping") };
            let key = format.part(start..end)?;
            match dict.get_str(key.as_str()) {
                Some(value) => by_name = Some(value.clone()),
                None => return fail!("no key '{}' for the format", key.as_str()),
            }
            named = true;
        }
        let directive = directive(&mut chars, &mut values)?;
        while chars.next_if(|(_, c)| ['h', 'l', 'L'].contains(c)).is_some() {}
        match chars.next() {
            Some((end, '%')) if end == at + 1 => out.push('%', TEMPLATE)?,
            Some((_, letter)) => {
                let value = by_name.map_or_else(|| values.next(), Ok)?;
                write(&mut out, &directive, letter, &value)?;
            }
            None => return fail!("incomplete format"),
        }
    }
    let is_mapping = matches!(value, Value::Dict(_) | Value::Seq(_) | Value::Undefined(_)) && !is_tuple(value);
    if values.used < values.all.len() && !named && !is_mapping {
        return fail!("not all arguments converted during string formatting");
    }
    Ok(out)
}

fn is_tuple(value: &Value) -> bool {
    matches!(value, Value::Seq(seq) if seq.kind == SeqKind::Tuple)
}

fn directive(chars: &mut Peekable<CharIndices<'_>>, values: &mut Values<'_>) -> Result<Directive> {
    let mut directive = Directive::default();
    while let Some((_, flag)) = chars.next_if(|(_, c)| "-+ 0#".contains(*c)) {
        match flag {
            '-' => directive.left = true,
            '0' => directive.zero = true,
            '#' => directive.alternative = true,
            '+' => directive.sign = Some('+'),
            _ => directive.sign = directive.sign.or(Some(' ')),
        }
    }
    let width = number(chars, values)?.unwrap_or(0);
    directive.left |= width < 0;
    directive.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    if chars.next_if(|(_, c)| *c == '.').is_some() {
        let precision = number(chars, values)?.unwrap_or(0).max(0);
        directive.precision = Some(usize::try_from(precision).unwrap_or(usize::MAX));
    }
    Ok(directive)
}

/// Digits, or `*` for the next value.
fn number(chars: &mut Peekable<CharIndices<'_>>, values: &mut Values<'_>) -> Result<Option<i128>> {
    if chars.next_if(|(_, c)| *c == '*').is_some() {
        return match values.next()?.as_int() {
            Some(i) => Ok(Some(i)),
            None => fail!("* wants int"),
        };
    }
    let mut number = None;
    while let Some((_, c)) = chars.next_if(|(_, c)| c.is_ascii_digit()) {
        let digit = i128::from(c as u32 - '0' as u32);
        number = Some(number.unwrap_or(0i128).saturating_mul(10).saturating_add(digit));
    }
    Ok(number)
}

fn write(out: &mut Text, directive: &Directive, letter: char, value: &Value) -> Result<()> {
    let number = |what: &str| match value.as_f64() {
        Some(number) => Ok(number),
        None => fail!("%{letter} format: {what} is required, not {}", value.type_name()),
    };
    let (sign, body) = match letter {
        's' | 'r' | 'a' => {
            let mut text = Text::default();
            if letter == 's' {
                text.push_text(&to_text(value)?)?
            } else {
                repr(&mut text, value, 0)?
            }
            if letter == 'a' {
                text = ascii(&text)?;
            }
            let end =
                directive.precision.and_then(|p| text.as_str().char_indices().nth(p)).map_or(text.len(), |(at, _)| at);
            ("", text.part(0..end)?)
        }
        'c' => match (value, value.as_int()) {
            (Value::Str(text), _) if text.as_str().chars().count() == 1 => ("", text.part(0..text.len())?),
            (_, Some(code)) => match u32::try_from(code).ok().and_then(char::from_u32) {
                Some(c) => ("", Text::new(&c.to_string(), TEMPLATE)?),
                None => return fail!("%c arg not in range(0x110000)"),
            },
            _ => return fail!("%c requires int or char"),
        },
        'd' | 'i' | 'u' | 'o' | 'x' | 'X' => {
            let value = match (value, letter) {
                (Value::Float(f), 'd' | 'i' | 'u') if f.is_finite() => f.trunc() as i128,
                _ => match value.as_int() {
                    Some(value) => value,
                    None => {
                        return number("a real number").and_then(|_| fail!("%{letter} format: an integer is required"));
                    }
                },
            };
            let (digits, prefix) = numbers::integer(value, letter);
            let prefix = if directive.alternative { prefix } else { "" };
            let mut text = Text::new(prefix, TEMPLATE)?;
            let mut wanted = directive.precision.unwrap_or(0);
            let sign = numbers::sign(value < 0, directive.sign);
            if directive.zero && !directive.left {
                wanted = wanted.max(directive.width.saturating_sub(prefix.len() + sign.len()));
            }
            for _ in digits.len()..wanted {
                text.push('0', TEMPLATE)?;
            }
            text.push_str(&digits, TEMPLATE)?;
            (sign, text)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let value = number("a real number")?;
            let digits = numbers::float(value, letter, numbers::precision(directive.precision)?, directive.alternative);
            let sign = numbers::sign(value.is_sign_negative() && !value.is_nan(), directive.sign);
            let mut text = Text::default();
            if directive.zero && !directive.left {
                for _ in digits.len() + sign.len()..directive.width {
                    text.push('0', TEMPLATE)?;
                }
            }
            text.push_str(&digits, TEMPLATE)?;
            (sign, text)
        }
        other => return fail!("unsupported format character '{other}'"),
    };
    let mut text = Text::new(sign, TEMPLATE)?;
    text.push_text(&body)?;
    let missing = directive.width.saturating_sub(text.as_str().chars().count()) as i128;
    let (left, right) = if directive.left { (0, missing) } else { (missing, 0) };
    out.push_text(&Rc::new(padded(&text, " ", left, right)?))
}

/// Python's `ascii` of what `repr` gave.
pub(super) fn ascii(text: &Text) -> Result<Text> {
    let mut out = Text::default();
    for (_, c, origin) in text.chars() {
        match c as u32 {
            ..0x80 => out.push(c, origin)?,
            code @ ..0x100 => out.push_str(&format!("\\x{code:02x}"), origin)?,
            code @ ..0x1_0000 => out.push_str(&format!("\\u{code:04x}"), origin)?,
            code => out.push_str(&format!("\\U{code:08x}"), origin)?,
        }
    }
    Ok(out)
}
