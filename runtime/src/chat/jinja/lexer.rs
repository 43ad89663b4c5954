//! A template's source as tokens, with Jinja's rules for white space: `trim_blocks` and `lstrip_blocks`, as Hugging
//! Face sets them, and `-` and `+` in tags.

use super::error::{Error, Result, fail};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Between tags.
    Text(String),
    /// `{{` and `}}`, `{%` and `%}`.
    PrintStart,
    PrintEnd,
    BlockStart,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

/// Longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

/// The tokens of `source`, each with its line.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, usize)>> {
    // Newlines are those of Unix in a template, and the last one does not count.
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, at: 0, line: 1, tokens: Vec::new() };
    lexer.run().map_err(|error| error.at(lexer.line))?;
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: usize,
    tokens: Vec<(Token, usize)>,
}

/// What Python's `\s` and `str.strip` take for white space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn skip(&mut self, bytes: usize) {
        self.line += self.source[self.at..self.at + bytes].matches('\n').count();
        self.at += bytes;
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    fn run(&mut self) -> Result<()> {
        // Whether a line begins where the text begins: then white space before a tag may go.
        let mut line_starts = true;
        loop {
            let rest = self.rest();
            let mut from = 0;
            let start = loop {
                match rest[from..].find('{') {
                    Some(i) if rest[from + i + 1..].starts_with(['{', '%', '#']) => break Some(from + i),
                    Some(i) => from += i + 1,
                    None => break None,
                }
            };
            let Some(start) = start else {
                self.text(rest, false, false, line_starts);
                self.skip(rest.len());
                self.push(Token::End);
                return Ok(());
            };
            let tag = &rest[start..];
            let sign = tag[2..].chars().next().filter(|c| ['-', '+'].contains(c));
            // `{{+1}}` prints a number.
            let sign = sign.filter(|c| *c == '-' || !tag.starts_with("{{"));
            self.text(&rest[..start], sign == Some('-'), sign.is_none() && !tag.starts_with("{{"), line_starts);
            self.skip(start + 2 + sign.map_or(0, char::len_utf8));
            if tag.starts_with("{#") {
                let Some(end) = self.rest().find("#}") else { return fail!("a comment has no end") };
                let sign = self.rest()[..end].chars().next_back().filter(|c| ['-', '+'].contains(c));
                self.skip(end + 2);
                self.after_block(sign);
            } else if tag.starts_with("{{") {
                self.push(Token::PrintStart);
                let sign = self.expression("}}")?;
                self.push(Token::PrintEnd);
                if sign == Some('-') {
                    self.skip_spaces();
                }
            } else if let Some(length) = raw_tag(self.rest(), "raw") {
                let begin = self.rest()[..length].ends_with("-%}");
                self.skip(length);
                if begin {
                    self.skip_spaces();
                }
                self.raw()?;
            } else {
                self.push(Token::BlockStart);
                let sign = self.expression("%}")?;
                self.push(Token::BlockEnd);
                self.after_block(sign);
            }
            line_starts = self.source[..self.at].ends_with('\n');
        }
    }

    /// Text before a tag: `stripped` of white space at its end, or of the indentation of the tag.
    fn text(&mut self, text: &str, stripped: bool, unindented: bool, line_starts: bool) {
        let mut kept = text;
        if stripped {
            kept = text.trim_end_matches(is_space);
        } else if unindented {
            let line = text.rfind('\n').map_or(0, |i| i + 1);
            if (line > 0 || line_starts) && text[line..].chars().all(is_space) {
                kept = &text[..line];
            }
        }
        if !kept.is_empty() {
            self.push(Token::Text(kept.to_string()));
        }
    }

    /// After `%}` one newline goes, after `-%}` all white space, after `+%}` nothing.
    fn after_block(&mut self, sign: Option<char>) {
        match sign {
            Some('-') => self.skip_spaces(),
            None if self.rest().starts_with('\n') => self.skip(1),
            _ => {}
        }
    }

    fn skip_spaces(&mut self) {
        self.skip(self.rest().len() - self.rest().trim_start_matches(is_space).len());
    }

    /// From the end of `{% raw %}` on to the end of `{% endraw %}`.
    fn raw(&mut self) -> Result<()> {
        let rest = self.rest();
        let mut from = 0;
        while let Some(i) = rest[from..].find("{%") {
            let (start, tag) = (from + i, &rest[from + i + 2..]);
            let sign = tag.chars().next().filter(|c| ['-', '+'].contains(c));
            let inner = &tag[sign.map_or(0, char::len_utf8)..];
            if let Some(length) = raw_tag(inner, "endraw") {
                self.text(&rest[..start], sign == Some('-'), sign.is_none(), false);
                let end = inner[..length].trim_end_matches("%}").chars().next_back();
                self.skip(rest.len() - inner.len() + length);
                self.after_block(end.filter(|c| ['-', '+'].contains(c)));
                return Ok(());
            }
            from = start + 2;
        }
        fail!("`raw` has no end")
    }

    /// The tokens up to `end`, and the sign before it.
    fn expression(&mut self, end: &str) -> Result<Option<char>> {
        let mut open = Vec::new();
        loop {
            self.skip_spaces();
            let rest = self.rest();
            if open.is_empty() {
                for sign in ['-', '+'] {
                    if rest.strip_prefix(sign).is_some_and(|rest| rest.starts_with(end)) && (sign == '-' || end == "%}")
                    {
                        self.skip(1 + end.len());
                        return Ok(Some(sign));
                    }
                }
                if rest.starts_with(end) {
                    self.skip(end.len());
                    return Ok(None);
                }
            }
            let Some(c) = rest.chars().next() else { return fail!("a tag has no end") };
            if c.is_ascii_digit() {
                self.number()?;
            } else if c == '\'' || c == '"' {
                self.string(c)?;
            } else if c == '_' || c.is_alphabetic() {
                let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                self.push(Token::Name(rest[..length].to_string()));
                self.skip(length);
            } else if let Some(operator) = OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
                match *operator {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" if open.pop() != Some(*operator) => return fail!("unexpected `{operator}`"),
                    _ => {}
                }
                self.push(Token::Operator(operator));
                self.skip(operator.len());
            } else {
                return fail!("unexpected character {c:?}");
            }
        }
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_').len();
        for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
            if rest.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
                let length = rest[2..].find(|c: char| c != '_' && !c.is_digit(radix)).unwrap_or(rest.len() - 2);
                let number = i128::from_str_radix(&rest[2..2 + length].replace('_', ""), radix);
                self.push(Token::Int(number.map_err(|_| Error::new("a number that cannot be read"))?));
                self.skip(2 + length);
                return Ok(());
            }
        }
        let mut length = digits(rest);
        let mut is_float = false;
        // `messages.0.role` has no float in it.
        let after_dot = matches!(self.tokens.last(), Some((Token::Operator("."), _)));
        if !after_dot && rest[length..].starts_with('.') && rest[length + 1..].starts_with(|c: char| c.is_ascii_digit())
        {
            length += 1 + digits(&rest[length + 1..]);
            is_float = true;
        }
        if !after_dot && let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let count = digits(&exponent[sign..]);
            if count > 0 {
                length += 1 + sign + count;
                is_float = true;
            }
        }
        let text = rest[..length].replace('_', "");
        self.push(if is_float {
            Token::Float(text.parse().map_err(|_| Error::new("a number that cannot be read"))?)
        } else {
            Token::Int(text.parse().map_err(|_| Error::new("a number that is too large"))?)
        });
        self.skip(length);
        Ok(())
    }

    /// A string, with Python's escapes.
    fn string(&mut self, quote: char) -> Result<()> {
        let rest = self.rest();
        let mut out = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.push(Token::Str(out));
                self.skip(i + 1);
                return Ok(());
            }
            if c != '\\' {
                out.push(c);
                continue;
            }
            let Some((at, escape)) = chars.next() else { break };
            let mut hex = None;
            match escape {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'b' => out.push('\x08'),
                'f' => out.push('\x0c'),
                'v' => out.push('\x0b'),
                'a' => out.push('\x07'),
                '\n' => {}
                '\\' | '\'' | '"' => out.push(escape),
                'x' => hex = Some(2),
                'u' => hex = Some(4),
                'U' => hex = Some(8),
                '0'..='7' => {
                    let octal = |c: &char| ('0'..='7').contains(c);
                    let digits = rest[at..].chars().take(3).take_while(octal).count();
                    let code = u32::from_str_radix(&rest[at..at + digits], 8).unwrap_or(0);
                    out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    (1..digits).for_each(|_| _ = chars.next());
                }
                other => out.extend(['\\', other]),
            }
            if let Some(digits) = hex {
                let code = rest.get(at + 1..at + 1 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                let Some(code) = code else { return fail!("`\\{escape}` wants {digits} hexadecimal digits") };
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                (0..digits).for_each(|_| _ = chars.next());
            }
        }
        fail!("a string has no end")
    }
}

/// The length of `raw %}` at the beginning of `tag`, if it is that.
fn raw_tag(tag: &str, name: &str) -> Option<usize> {
    let rest = tag.trim_start_matches(is_space).strip_prefix(name)?.trim_start_matches(is_space);
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).strip_prefix("%}")?;
    Some(tag.len() - rest.len())
}
