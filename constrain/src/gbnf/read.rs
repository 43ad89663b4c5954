//! From text to rules.

use std::collections::HashMap;

use super::syntax::{Item, Rule, Sequence};
use crate::limits;

/// The rules of a grammar, `root` first.
///
/// # Errors
/// A sentence with the line.
pub fn read(text: &str) -> Result<Vec<Rule>, String> {
    let mut reader =
        Reader { rest: text, line: 1, names: HashMap::new(), rules: Vec::new(), used: Vec::new(), depth: 0 };
    reader.number("root");
    reader.used.clear();
    loop {
        reader.skip(true);
        if reader.rest.is_empty() {
            break;
        }
        reader.rule()?;
    }
    let Reader { rules, used, names, .. } = reader;
    if rules.first().is_none_or(Option::is_none) {
        return Err("there is no rule `root`".into());
    }
    for (number, line) in used {
        if rules.get(number).is_none_or(Option::is_none) {
            let name = names.iter().find(|(_, n)| **n == number).map_or("", |(name, _)| name);
            return Err(format!("line {line}: there is no rule `{name}`"));
        }
    }
    Ok(rules.into_iter().flatten().collect())
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    names: HashMap<String, usize>,
    /// None for one that is named and not read yet.
    rules: Vec<Option<Rule>>,
    /// Where which rules are named.
    used: Vec<(usize, usize)>,
    depth: usize,
}

impl Reader<'_> {
    fn error<T>(&self, problem: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("line {}: {problem}", self.line))
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest.strip_prefix(text);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    /// Passes blanks and comments, and the ends of lines, if they do not end a rule here.
    fn skip(&mut self, lines: bool) {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '#' => self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]),
                '\r' | '\n' if !lines => return,
                c if c.is_ascii_whitespace() => drop(self.next()),
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!name.is_empty()).then(|| name.to_string())
    }

    /// The number of the rule with this name.
    fn number(&mut self, name: &str) -> usize {
        let number = *self.names.entry(name.into()).or_insert(self.rules.len());
        if number == self.rules.len() {
            self.rules.push(None);
        }
        self.used.push((number, self.line));
        number
    }

    fn rule(&mut self) -> Result<(), String> {
        let line = self.line;
        let name = self.name();
        self.skip(false);
        let Some(name) = name.filter(|_| self.take("::=")) else { return self.error("a rule is `name ::= …`") };
        self.skip(true);
        let number = self.number(&name);
        self.used.pop();
        if self.rules[number].is_some() {
            return self.error(format!("there is a rule `{name}` already"));
        }
        if self.rules.len() > limits::RULES {
            return self.error(format!("there are too many rules; at most {} are taken", limits::RULES));
        }
        let body = self.alternatives(false)?;
        match self.rest.chars().next() {
            None | Some('\r' | '\n') => {
                self.rules[number] = Some(Rule { name, line, body });
                Ok(())
            }
            Some(c) => self.error(format!("`{c}` does not belong here")),
        }
    }

    fn alternatives(&mut self, nested: bool) -> Result<Vec<Sequence>, String> {
        let mut all = vec![self.sequence(nested)?];
        while self.take("|") {
            self.skip(true);
            all.push(self.sequence(nested)?);
        }
        Ok(all)
    }

    fn sequence(&mut self, nested: bool) -> Result<Sequence, String> {
        let mut items: Sequence = Vec::new();
        loop {
            let item = match self.rest.chars().next() {
                Some('"') => self.text()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.next();
                    Item::Class("(?s:.)".into())
                }
                Some('(') => self.group()?,
                Some('*' | '+' | '?' | '{') => return self.error("there is nothing to be repeated"),
                Some(c) if c.is_ascii_alphanumeric() => {
                    let name = self.name().unwrap_or_default();
                    Item::Rule(self.number(&name))
                }
                _ => return Ok(items),
            };
            let item = self.repeated(item)?;
            items.push(item);
            self.skip(nested);
        }
    }

    fn group(&mut self) -> Result<Item, String> {
        self.next();
        self.depth += 1;
        if self.depth > limits::GROUPS {
            return self.error(format!("groups are too deep; at most {} levels are taken", limits::GROUPS));
        }
        self.skip(true);
        let body = self.alternatives(true)?;
        self.depth -= 1;
        if self.take(")") { Ok(Item::Group(body)) } else { self.error("a `)` is missing") }
    }

    fn repeated(&mut self, mut item: Item) -> Result<Item, String> {
        loop {
            let (least, most) = match self.rest.chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.bounds()?,
                _ => return Ok(item),
            };
            self.next();
            item = Item::Repeat(Box::new(item), least, most);
        }
    }

    /// `{2}`, `{2,}`, `{2,3}` or `{,3}`, but for the brace at its end.
    fn bounds(&mut self) -> Result<(u32, Option<u32>), String> {
        let problem = "a repetition must be `{N}`, `{N,}` or `{N,M}`";
        let Some((inner, _)) = self.rest[1..].split_once('}') else { return self.error(problem) };
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&n| u64::from(n) <= limits::REPETITIONS);
        let found = match inner.split_once(',') {
            None => number(inner).map(|n| (n, Some(n))),
            Some((least, most)) => {
                let least = if least.trim().is_empty() { Some(0) } else { number(least) };
                let most = if most.trim().is_empty() { Some(None) } else { number(most).map(Some) };
                least.zip(most)
            }
        };
        let Some((least, most)) = found.filter(|&(least, most)| most.is_none_or(|most| most >= least)) else {
            return self.error(problem);
        };
        self.rest = &self.rest[1 + inner.len()..];
        Ok((least, most))
    }

    fn text(&mut self) -> Result<Item, String> {
        self.next();
        let mut text = String::new();
        loop {
            match self.rest.chars().next() {
                Some('"') => break,
                None | Some('\n') => return self.error("the text has no end"),
                Some(_) => text.push(self.character()?),
            }
        }
        self.next();
        Ok(Item::Text(text))
    }

    fn class(&mut self) -> Result<Item, String> {
        self.next();
        let mut regex = if self.take("^") { "[^".to_string() } else { "[".to_string() };
        let one = |c: char| format!("\\x{{{:x}}}", u32::from(c));
        let mut is_empty = true;
        while !self.rest.starts_with(']') {
            if self.rest.is_empty() {
                return self.error("the class has no end");
            }
            let first = self.character()?;
            regex += &one(first);
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                if self.rest.is_empty() {
                    return self.error("the class has no end");
                }
                let last = self.character()?;
                if last < first {
                    return self.error(format!("the range from {first:?} to {last:?} goes backwards"));
                }
                regex += &format!("-{}", one(last));
            }
            is_empty = false;
        }
        self.next();
        match (is_empty, regex.len()) {
            (false, _) => Ok(Item::Class(regex + "]")),
            (true, 2) => Ok(Item::Class("(?s:.)".into())),
            (true, _) => self.error("the class is empty: nothing could be written"),
        }
    }

    fn character(&mut self) -> Result<char, String> {
        let c = self.next();
        if c != Some('\\') {
            return c.map_or_else(|| self.error("something has no end"), Ok);
        }
        let escape = self.next();
        let digits = match escape {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some(c @ ('\\' | '"' | '[' | ']' | '-' | '^')) => return Ok(c),
            Some(c) => return self.error(format!("the escape `\\{c}` is not known")),
            None => return self.error("something has no end"),
        };
        let code = self.rest.get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.rest = &self.rest[digits..];
                Ok(c)
            }
            None => self.error(format!("an escape must have {digits} digits and be a character")),
        }
    }
}
