//! Rust source as tokens: as much of the language as finding paths and comments takes.

/// What a token is, as far as anybody here asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// An identifier or a keyword; raw identifiers without their `r#`.
    Ident(String),
    /// `::`.
    PathSeparator,
    /// Any other character of punctuation.
    Punct(char),
    /// A number, a character, a string, a lifetime.
    Other,
}

/// A file in tokens.
#[derive(Debug, Default)]
pub struct Source {
    /// The tokens, each with its line, counted from 1.
    pub tokens: Vec<(Token, usize)>,
    /// The lines on which a comment stands, ascending, each once.
    pub comment_lines: Vec<usize>,
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    source: Source,
}

fn is_ident(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

impl Lexer<'_> {
    /// Goes on by `bytes` of the text and counts the lines that end in them.
    fn skip(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }

    fn push(&mut self, token: Token, bytes: usize) {
        self.source.tokens.push((token, self.line));
        self.skip(bytes);
    }

    /// A comment of `bytes`: its lines are noted.
    fn comment(&mut self, bytes: usize) {
        let first = self.line;
        self.skip(bytes);
        for line in first..=self.line {
            if self.source.comment_lines.last() != Some(&line) {
                self.source.comment_lines.push(line);
            }
        }
    }

    /// The length of the block comment that the text begins with; block comments nest.
    fn block_comment(&self) -> usize {
        let (mut depth, mut at) = (0, 0);
        while at < self.rest.len() {
            let rest = &self.rest[at..];
            if rest.starts_with("/*") {
                (depth, at) = (depth + 1, at + 2);
            } else if rest.starts_with("*/") {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    return at;
                }
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        at
    }

    /// The length of the literal between two `quote`s that the text begins with.
    fn quoted(&self, quote: char) -> usize {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                c if c == quote => return at + c.len_utf8(),
                _ => {}
            }
        }
        self.rest.len()
    }

    /// The length of the raw string whose `#`s begin `hashes_at` bytes into the text, if there is one.
    fn raw_string(&self, hashes_at: usize) -> Option<usize> {
        let text = &self.rest[hashes_at..];
        let hashes = text.len() - text.trim_start_matches('#').len();
        let body = text[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        Some(hashes_at + hashes + 1 + length)
    }

    /// A lifetime or a character.
    fn tick(&self) -> usize {
        let mut chars = self.rest.chars().skip(1);
        let (first, second) = (chars.next(), chars.next());
        if first.is_some_and(|c| c == '_' || c.is_alphabetic()) && second != Some('\'') {
            return 1 + self.rest[1..].find(|c| !is_ident(c)).unwrap_or(self.rest.len() - 1);
        }
        self.quoted('\'')
    }

    fn word(&mut self) {
        let length = self.rest.find(|c| !is_ident(c)).unwrap_or(self.rest.len());
        let (word, after) = (&self.rest[..length], self.rest[length..].chars().next());
        let raw = matches!(word, "r" | "br" | "cr") && matches!(after, Some('"' | '#'));
        if let Some(length) = raw.then(|| self.raw_string(length)).flatten() {
            return self.push(Token::Other, length);
        }
        if word == "r" && after == Some('#') {
            let name = &self.rest[length + 1..];
            let end = name.find(|c| !is_ident(c)).unwrap_or(name.len());
            return self.push(Token::Ident(name[..end].into()), length + 1 + end);
        }
        if matches!(word, "b" | "c") && matches!(after, Some('"' | '\'')) {
            // The prefix of a literal; the literal comes next.
            return self.skip(length);
        }
        let digits = word.starts_with(|c: char| c.is_ascii_digit());
        self.push(if digits { Token::Other } else { Token::Ident(word.into()) }, length);
    }

    fn run(mut self) -> Source {
        while let Some(c) = self.rest.chars().next() {
            match c {
                _ if self.rest.starts_with("//") => self.comment(self.rest.find('\n').unwrap_or(self.rest.len())),
                _ if self.rest.starts_with("/*") => self.comment(self.block_comment()),
                _ if self.rest.starts_with("::") => self.push(Token::PathSeparator, 2),
                '"' => self.push(Token::Other, self.quoted('"')),
                '\'' => self.push(Token::Other, self.tick()),
                c if is_ident(c) => self.word(),
                c if c.is_whitespace() => self.skip(c.len_utf8()),
                c => self.push(Token::Punct(c), c.len_utf8()),
            }
        }
        self.source
    }
}

/// The tokens and comments of `text`.
pub fn lex(text: &str) -> Source {
    Lexer { rest: text, line: 1, source: Source::default() }.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idents(text: &str) -> Vec<String> {
        let ident = |(token, _)| if let Token::Ident(name) = token { Some(name) } else { None };
        lex(text).tokens.into_iter().filter_map(ident).collect()
    }

    #[test]
    fn strings_characters_and_comments_hold_no_identifiers() {
        let text = r###"
            a "b \" c" 'd' '\'' b'\\' b"e" r"f" r#"g " h"# br##"i"# j"## /* k /* l */ m */ n // o
            p<'q> 'r: loop { break 'r } r#type 0x1F s.0 c"t" u
        "###;
        assert_eq!(idents(text), ["a", "n", "p", "loop", "break", "type", "s", "u"]);
    }

    #[test]
    fn lines_are_counted_through_strings_and_comments() {
        let source = lex("a \"\n\n\" b /* \n */ c // d\n//! e\nf");
        let lines: Vec<_> = source.tokens.iter().map(|(_, line)| *line).collect();
        assert_eq!(lines, [1, 1, 3, 4, 6]);
        assert_eq!(source.comment_lines, [3, 4, 5]);
    }
}
