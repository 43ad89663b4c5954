//! `pattern`: regular expressions of ECMA 262 in the syntax of Rust's `regex`, where both mean the same.

/// Characters that some engine takes for white space (`\s`) and others do not.
const WIDE_SPACE: &str = r"\s\x{1c}-\x{1f}\x{feff}";
/// Control characters that JSON writes by their numbers alone: no string has them here. To take them out of every class
/// is more than thrift: llguidance takes a class with all control characters for one with every escape, `\"` among
/// them.
const UNWRITTEN: &str = r"&&[^\x00-\x07\x0b\x0e-\x1f\x7f]";
/// Characters that all engines take for white space.
const NARROW_SPACE: &str = r" \t\n\r\x{0b}\x{0c}";

/// The same pattern for the engine that masks are made with. Where engines differ, it has what all agree on.
///
/// # Errors
/// What cannot be said there, or is no pattern.
pub fn translate(pattern: &str) -> Result<String, String> {
    let mut reader = Reader { rest: pattern.chars().collect::<Vec<_>>().into_iter().peekable(), out: String::new() };
    reader.pattern()?;
    Ok(reader.out)
}

/// Whether JSON can write it by its number alone.
pub fn is_unwritten(c: char) -> bool {
    c.is_ascii_control() && !matches!(c, '\x08' | '\t' | '\n' | '\x0c' | '\r')
}

struct Reader {
    rest: std::iter::Peekable<std::vec::IntoIter<char>>,
    out: String,
}

impl Reader {
    fn pattern(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape(None)?,
                '[' => self.class()?,
                '(' => self.group()?,
                '.' => self.out.push_str(&format!(r"[[^\n\r\x{{2028}}\x{{2029}}]{UNWRITTEN}]")),
                '{' => self.repetition()?,
                '^' | '$' | '|' | ')' | '*' | '+' | '?' => self.out.push(c),
                c => self.literal(c, false)?,
            }
        }
        Ok(())
    }

    fn literal(&mut self, c: char, in_class: bool) -> Result<(), String> {
        if is_unwritten(c) && !in_class {
            return Err(format!("has the control character U+{:04X}, which is not supported", u32::from(c)));
        }
        if c.is_ascii_control() {
            self.out.push_str(&format!(r"\x{{{:x}}}", u32::from(c)));
        } else {
            self.out.push_str(if c.is_ascii_punctuation() { "\\" } else { "" });
            self.out.push(c);
        }
        Ok(())
    }

    fn group(&mut self) -> Result<(), String> {
        if self.rest.peek() != Some(&'?') {
            self.out.push_str("(?:");
            return Ok(());
        }
        self.rest.next();
        match self.rest.next() {
            Some(':') => {}
            Some('<') if !matches!(self.rest.peek(), Some('=' | '!')) => {
                if !self.rest.by_ref().any(|c| c == '>') {
                    return Err("has a group whose name has no end".into());
                }
            }
            Some('=' | '!' | '<') => return Err("has a look-around, which is not supported".into()),
            _ => return Err("has a group `(?…)` that is not supported".into()),
        }
        self.out.push_str("(?:");
        Ok(())
    }

    /// `{2}`, `{2,}` or `{2,3}`; the brace is read.
    fn repetition(&mut self) -> Result<(), String> {
        let mut inner = String::new();
        while let Some(c) = self.rest.next_if(|&c| c != '}') {
            inner.push(c);
        }
        let is_number = |text: &str| !text.is_empty() && text.len() < 6 && text.bytes().all(|b| b.is_ascii_digit());
        let is_valid = match inner.split_once(',') {
            Some((least, most)) => is_number(least) && (most.is_empty() || is_number(most)),
            None => is_number(&inner),
        };
        if !is_valid || self.rest.next().is_none() {
            return Err(format!("has a `{{` that begins no repetition that is supported: `{{{inner}`"));
        }
        self.out.push_str(&format!("{{{inner}}}"));
        Ok(())
    }

    /// A class; its bracket is read.
    fn class(&mut self) -> Result<(), String> {
        // A `^` would hold for all of the class: hence another one around it.
        self.out.push_str("[[");
        let negated = self.rest.next_if_eq(&'^').is_some();
        if negated {
            self.out.push('^');
        }
        let mut members = 0;
        loop {
            match self.rest.next() {
                None => return Err("has a class without an end".into()),
                Some(']') if members == 0 => return Err("has an empty class, which is not supported".into()),
                Some(']') => break,
                Some('\\') => self.escape(Some(negated))?,
                // A hyphen between two members makes a range.
                Some('-') if members > 0 && self.rest.peek().is_some_and(|&c| c != ']' && c != '-') => {
                    self.out.push('-');
                }
                Some(c) => self.literal(c, true)?,
            }
            members += 1;
        }
        self.out.push(']');
        self.out.push_str(UNWRITTEN);
        self.out.push(']');
        Ok(())
    }

    /// An escape; the backslash is read. `class` says whether it stands in a class, and if that is a negated one.
    fn escape(&mut self, class: Option<bool>) -> Result<(), String> {
        let c = self.rest.next().ok_or("ends with a backslash")?;
        let in_class = class.is_some();
        let set = |members: &str| if in_class { members.to_string() } else { format!("[{members}]") };
        // What is left out of a negated class may be more, never less.
        let negated = class == Some(true);
        let piece = match c {
            'd' => set("0-9"),
            'D' => format!("[[^0-9]{UNWRITTEN}]"),
            'w' => set("0-9A-Za-z_"),
            'W' => format!("[[^0-9A-Za-z_]{UNWRITTEN}]"),
            's' => set(if negated { WIDE_SPACE } else { NARROW_SPACE }),
            'S' => format!("[[^{}]{UNWRITTEN}]", if negated { NARROW_SPACE } else { WIDE_SPACE }),
            'n' => return self.literal('\n', in_class),
            'r' => return self.literal('\r', in_class),
            't' => return self.literal('\t', in_class),
            'f' => return self.literal('\x0c', in_class),
            'v' => return self.literal('\x0b', in_class),
            '0' if !self.rest.peek().is_some_and(char::is_ascii_digit) => return self.literal('\0', in_class),
            'b' if in_class => return self.literal('\x08', true),
            'b' | 'B' => return Err("has a word boundary, which is not supported".into()),
            '0'..='9' | 'k' => return Err("refers back to a group, which is not supported".into()),
            'c' => {
                let letter = self.rest.next().filter(char::is_ascii_alphabetic).ok_or("has `\\c` without a letter")?;
                return self.literal(char::from_u32(u32::from(letter) % 32).unwrap_or_default(), in_class);
            }
            'x' => {
                let code = self.hex(2)?;
                return self.literal(char::from_u32(code).unwrap_or_default(), in_class);
            }
            'u' => {
                let code = self.unicode()?;
                return self.literal(char::from_u32(code).ok_or("has half of a surrogate pair")?, in_class);
            }
            'p' | 'P' => {
                let mut name = String::new();
                if self.rest.next() != Some('{') {
                    return Err(format!("has `\\{c}` without a name in braces"));
                }
                while let Some(letter) = self.rest.next_if(|&c| c.is_ascii_alphanumeric() || c == '_' || c == '=') {
                    name.push(letter);
                }
                if self.rest.next() != Some('}') || name.is_empty() {
                    return Err(format!("has `\\{c}` without a name in braces"));
                }
                format!(r"\{c}{{{name}}}")
            }
            c if c.is_ascii_punctuation() => format!("\\{c}"),
            c => return Err(format!("has the escape `\\{c}`, which is not supported")),
        };
        self.out.push_str(&piece);
        Ok(())
    }

    fn hex(&mut self, digits: usize) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..digits {
            let digit = self.rest.next().and_then(|c| c.to_digit(16)).ok_or("has an escape with too few digits")?;
            code = code * 16 + digit;
        }
        Ok(code)
    }

    /// What follows `\u`: four digits, a pair of surrogates, or digits in braces.
    fn unicode(&mut self) -> Result<u32, String> {
        if self.rest.next_if_eq(&'{').is_some() {
            let mut code: u32 = 0;
            while let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(16)) {
                self.rest.next();
                code = code
                    .checked_mul(16)
                    .and_then(|code| code.checked_add(digit))
                    .ok_or("has a code that is too large")?;
            }
            return self.rest.next_if_eq(&'}').map(|_| code).ok_or("has an escape without an end".into());
        }
        let high = self.hex(4)?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(high);
        }
        let ok = self.rest.next() == Some('\\') && self.rest.next() == Some('u');
        let low = if ok { self.hex(4)? } else { 0 };
        if !(0xdc00..0xe000).contains(&low) {
            return Err("has half of a surrogate pair".into());
        }
        Ok(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_translated_or_refused() {
        let class = |members: &str| format!("[[{members}]{UNWRITTEN}]");
        for (pattern, expected) in [
            (r"^\d+$", "^[0-9]+$".to_string()),
            (r"[\w.-]+@a\.b", class(r"0-9A-Za-z_\.\-") + r"+\@a\.b"),
            (r"(?<year>x){2,3}|(y)", "(?:x){2,3}|(?:y)".into()),
            (r"[^\s]", class(r"^\s\x{1c}-\x{1f}\x{feff}")),
            (r"\S", class(r"^\s\x{1c}-\x{1f}\x{feff}")),
            (r"[[a&&b]\/", class(r"\[a\&\&b") + r"\/"),
            (r"\u00e9\uD83D\uDE00\u{1f600}", "é😀😀".into()),
            ("a.b", format!("a{}b", class(r"^\n\r\x{2028}\x{2029}"))),
            ("[a-z]", class("a-z")),
            ("[-a-]", class(r"\-a\-")),
            (r"\cJ\x41", r"\x{a}A".into()),
        ] {
            assert_eq!(translate(pattern), Ok(expected), "{pattern}");
        }
        for pattern in [
            r"(?=a)", r"(?<!a)b", r"\bword", r"(a)\1", "a{,3}", "[]", "[^]", r"\q", "(?i)a", "[a", "\\", r"\ud800",
            r"a\x00", "\u{1}",
        ] {
            assert!(translate(pattern).is_err(), "{pattern}");
        }
    }
}
