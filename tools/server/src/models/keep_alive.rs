//! How long a model stays loaded when nobody uses it.

use std::time::Duration;

use serde_json::Value as Json;

/// How long a model stays loaded when nobody uses it. It may have to go earlier where another needs the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long; not at all with zero.
    For(Duration),
    /// For ever.
    Forever,
}

/// What is longer is for ever, too.
const LONGEST: f64 = 1e9;

impl KeepAlive {
    /// What a text says: seconds (`300`), or numbers with units (`5m`, `1h30m`, `0.5s`); what is negative is for ever.
    /// These are the texts that ollama takes.
    ///
    /// # Errors
    /// A sentence that goes on after the text's name.
    pub fn parse(text: &str) -> Result<KeepAlive, String> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let seconds = rest.parse::<u64>().map(|seconds| seconds as f64).ok().or_else(|| units(rest));
        let seconds = seconds.ok_or("must be a time such as `5m`, `1h30m` or `300` (seconds), or `-1` for ever")?;
        Ok(KeepAlive::of_seconds(if negative && seconds > 0.0 { -1.0 } else { seconds }))
    }

    /// What ollama's field `keep_alive` says: a number of seconds, or such a text.
    ///
    /// # Errors
    /// See [`KeepAlive::parse`].
    pub fn of_json(value: &Json) -> Result<KeepAlive, String> {
        match value {
            Json::String(text) => KeepAlive::parse(text),
            value => match value.as_f64() {
                Some(seconds) => Ok(KeepAlive::of_seconds(seconds)),
                None => Err("must be a number of seconds, or a text such as `5m`".into()),
            },
        }
    }

    fn of_seconds(seconds: f64) -> KeepAlive {
        match seconds {
            0.0..=LONGEST => KeepAlive::For(Duration::from_secs_f64(seconds)),
            _ => KeepAlive::Forever,
        }
    }
}

/// The seconds of `1h30m`; `None` for anything else.
fn units(mut text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..digits].parse().ok()?;
        let rest = &text[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        text = &rest[end..];
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_as_ollama_has_them() {
        let of = |seconds| Ok(KeepAlive::For(Duration::from_secs_f64(seconds)));
        for (text, seconds) in
            [("0", 0.0), ("300", 300.0), ("5m", 300.0), ("1h30m", 5400.0), ("0.5s", 0.5), ("250ms", 0.25), ("-0", 0.0)]
        {
            assert_eq!(KeepAlive::parse(text), of(seconds), "{text}");
        }
        for text in ["-1", "-5m", "-1h30m", "99999999999999", "9999999h"] {
            assert_eq!(KeepAlive::parse(text), Ok(KeepAlive::Forever), "{text}");
        }
        for text in ["", "-", "m", "5 m", "5x", "5m3", "1.2.3s", "forever", "--1", "1e3", "inf", "NaN", "५m"] {
            assert!(KeepAlive::parse(text).is_err(), "{text}");
        }
        for (value, expected) in [
            (json!(0), of(0.0)),
            (json!(-1), Ok(KeepAlive::Forever)),
            (json!(2.5), of(2.5)),
            (json!(1e300), Ok(KeepAlive::Forever)),
            (json!("10m"), of(600.0)),
        ] {
            assert_eq!(KeepAlive::of_json(&value), expected, "{value}");
        }
        for value in [json!(true), json!([]), json!({}), json!("soon")] {
            assert!(KeepAlive::of_json(&value).is_err(), "{value}");
        }
    }
}
