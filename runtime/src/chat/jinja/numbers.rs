//! Numbers as texts, in the forms that `%` and `format` share.

use super::error::{Result, fail};

/// Digits after the point; no double has more that are not zeros.
const MAX_PRECISION: usize = 1100;

/// The precision that is asked for, or the usual one.
pub(super) fn precision(asked: Option<usize>) -> Result<usize> {
    match asked {
        Some(asked) if asked > MAX_PRECISION => fail!("a precision of {asked} is more than {MAX_PRECISION}"),
        asked => Ok(asked.unwrap_or(6)),
    }
}

/// `value` in C's form `e`, `f` or `g` (or in capitals), without a sign.
pub(super) fn float(value: f64, form: char, precision: usize, alternative: bool) -> String {
    let value = value.abs();
    let capitals = form.is_ascii_uppercase();
    let case = |text: String| if capitals { text.to_uppercase() } else { text };
    if value.is_nan() {
        return case("nan".into());
    }
    if value.is_infinite() {
        return case("inf".into());
    }
    let text = match form.to_ascii_lowercase() {
        'f' => point(format!("{value:.precision$}"), alternative && precision == 0),
        'e' => exponent(value, precision, alternative),
        _ => {
            let precision = precision.max(1);
            let scientific = format!("{value:.*e}", precision - 1);
            let exp: i32 = scientific.split_once('e').and_then(|(_, exp)| exp.parse().ok()).unwrap_or(0);
            let text = if exp < -4 || exp >= precision as i32 {
                exponent(value, precision - 1, alternative)
            } else {
                point(format!("{value:.*}", (precision as i32 - 1 - exp).max(0) as usize), alternative)
            };
            if alternative { text } else { without_zeros(&text) }
        }
    };
    case(text)
}

fn point(mut text: String, wanted: bool) -> String {
    if wanted && !text.contains('.') {
        text.push('.');
    }
    text
}

fn exponent(value: f64, precision: usize, alternative: bool) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exp) = text.split_once('e').unwrap_or((&text, "0"));
    let exp: i32 = exp.parse().unwrap_or(0);
    let digits = point(digits.into(), alternative && precision == 0);
    format!("{digits}e{}{:02}", if exp < 0 { '-' } else { '+' }, exp.abs())
}

fn without_zeros(text: &str) -> String {
    let (digits, exp) = text.split_at(text.find('e').unwrap_or(text.len()));
    if !digits.contains('.') {
        return text.into();
    }
    format!("{}{exp}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// The digits of an integer's size in base 2, 8, 10 or 16, and the prefix that `#` puts before them.
pub(super) fn integer(value: i128, form: char) -> (String, &'static str) {
    let size = value.unsigned_abs();
    match form {
        'b' => (format!("{size:b}"), "0b"),
        'o' => (format!("{size:o}"), "0o"),
        'x' => (format!("{size:x}"), "0x"),
        'X' => (format!("{size:X}"), "0X"),
        _ => (size.to_string(), ""),
    }
}

/// The sign of a number, as an option `+` or a space wants it.
pub(super) fn sign(negative: bool, option: Option<char>) -> &'static str {
    match (negative, option) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(' ')) => " ",
        _ => "",
    }
}
