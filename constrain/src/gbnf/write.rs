//! From rules to Lark.

use std::fmt::Write;

use super::syntax::{Item, Rule, Sequence};
use crate::limits;

/// The grammar in Lark.
///
/// # Errors
/// A sentence about a rule that never comes to an end, or is too large.
pub fn write(rules: &[Rule]) -> Result<String, String> {
    let recursive = recursive(rules);
    check_ends(rules)?;
    check_sizes(rules, &recursive)?;
    let mut writer = Writer { recursive: &recursive, out: String::new(), terminals: 0 };
    let start = if recursive[0] { "r0".to_string() } else { "R0".to_string() };
    let _ = writeln!(writer.out, "start: {start}");
    for (i, rule) in rules.iter().enumerate() {
        let (name, body) = match recursive[i] {
            true => (format!("r{i}"), writer.rule(&rule.body)),
            false => (format!("R{i}"), writer.terminal(&rule.body)),
        };
        let _ = writeln!(writer.out, "{name}: {body}");
    }
    Ok(writer.out)
}

/// Calls `see` with each rule that is named in `body`.
fn named(body: &[Sequence], see: &mut dyn FnMut(usize)) {
    fn item(one: &Item, see: &mut dyn FnMut(usize)) {
        match one {
            Item::Rule(rule) => see(*rule),
            Item::Group(body) => named(body, see),
            Item::Repeat(inner, ..) => item(inner, see),
            Item::Text(_) | Item::Class(_) => {}
        }
    }
    body.iter().flatten().for_each(|one| item(one, see));
}

/// Which rules lead to one that leads back to itself: all that are left when those are taken away, again and again,
/// that name only rules which are taken away already.
fn recursive(rules: &[Rule]) -> Vec<bool> {
    let mut recursive = vec![true; rules.len()];
    loop {
        let mut changed = false;
        for (i, rule) in rules.iter().enumerate() {
            let mut leads = false;
            named(&rule.body, &mut |other| leads |= recursive[other]);
            if recursive[i] && !leads {
                recursive[i] = false;
                changed = true;
            }
        }
        if !changed {
            return recursive;
        }
    }
}

/// Refuses rules that no text ever fulfils.
fn check_ends(rules: &[Rule]) -> Result<(), String> {
    fn ends(item: &Item, known: &[bool]) -> bool {
        match item {
            Item::Text(_) | Item::Class(_) | Item::Repeat(_, 0, _) => true,
            Item::Rule(rule) => known[*rule],
            Item::Group(body) => body.iter().any(|sequence| sequence.iter().all(|item| ends(item, known))),
            Item::Repeat(inner, ..) => ends(inner, known),
        }
    }
    let mut known = vec![false; rules.len()];
    loop {
        let mut changed = false;
        for (i, rule) in rules.iter().enumerate() {
            if !known[i] && rule.body.iter().any(|sequence| sequence.iter().all(|item| ends(item, &known))) {
                known[i] = true;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    match known.iter().position(|known| !known) {
        Some(i) => Err(format!("line {}: the rule `{}` never comes to an end", rules[i].line, rules[i].name)),
        None => Ok(()),
    }
}

/// Refuses terminals that would be too large with all repetitions written out.
fn check_sizes(rules: &[Rule], recursive: &[bool]) -> Result<(), String> {
    fn size(item: &Item, known: &[u64]) -> u64 {
        match item {
            Item::Text(text) => text.len() as u64,
            Item::Class(_) => 1,
            Item::Rule(rule) => known[*rule],
            Item::Group(body) => of(body, known),
            Item::Repeat(inner, least, most) => {
                size(inner, known).saturating_mul(u64::from(most.unwrap_or(*least).max(1)))
            }
        }
    }
    fn of(body: &[Sequence], known: &[u64]) -> u64 {
        body.iter().flatten().fold(1, |sum, item| size(item, known).saturating_add(sum))
    }
    // A rule that leads back to itself is a name where it is used.
    let mut known = vec![1; rules.len()];
    // From the rules that name no others on: as many rounds as they are deep.
    loop {
        let next: Vec<u64> =
            (0..rules.len()).map(|i| if recursive[i] { 1 } else { of(&rules[i].body, &known) }).collect();
        if let Some(i) = next.iter().position(|&size| size > limits::REPETITIONS) {
            let Rule { name, line, .. } = &rules[i];
            return Err(format!("line {line}: the rule `{name}` has too many repetitions of repetitions"));
        }
        if next == known {
            break;
        }
        known = next;
    }
    for (i, rule) in rules.iter().enumerate() {
        if recursive[i] && of(&rule.body, &known) > limits::REPETITIONS {
            return Err(format!(
                "line {}: the rule `{}` has too many repetitions of repetitions",
                rule.line, rule.name
            ));
        }
    }
    Ok(())
}

struct Writer<'a> {
    recursive: &'a [bool],
    out: String,
    terminals: usize,
}

impl Writer<'_> {
    fn is_regular(&self, item: &Item) -> bool {
        match item {
            Item::Text(_) | Item::Class(_) => true,
            Item::Rule(rule) => !self.recursive[*rule],
            Item::Group(body) => body.iter().flatten().all(|item| self.is_regular(item)),
            Item::Repeat(inner, ..) => self.is_regular(inner),
        }
    }

    /// Alternatives as the body of a rule. What is regular in a sequence becomes a terminal.
    fn rule(&mut self, body: &[Sequence]) -> String {
        let mut alternatives = Vec::new();
        for sequence in body {
            let mut parts = Vec::new();
            let mut rest = sequence.as_slice();
            while !rest.is_empty() {
                let regular = rest.iter().take_while(|item| self.is_regular(item)).count();
                if regular > 0 {
                    parts.push(self.new_terminal(&rest[..regular]));
                } else {
                    parts.push(self.item(&rest[0]));
                }
                rest = &rest[regular.max(1)..];
            }
            alternatives.push(if parts.is_empty() { "\"\"".into() } else { parts.join(" ") });
        }
        alternatives.join(" | ")
    }

    /// An item that is not regular.
    fn item(&mut self, item: &Item) -> String {
        match item {
            Item::Rule(rule) => format!("r{rule}"),
            Item::Group(body) => format!("({})", self.rule(body)),
            Item::Repeat(inner, least, most) => {
                let inner = self.item(inner);
                format!("({inner}){}", bounds(*least, *most))
            }
            Item::Text(_) | Item::Class(_) => self.new_terminal(std::slice::from_ref(item)),
        }
    }

    fn new_terminal(&mut self, items: &[Item]) -> String {
        let body = self.sequence(items);
        let name = format!("T{}", self.terminals);
        self.terminals += 1;
        let _ = writeln!(self.out, "{name}: {body}");
        name
    }

    /// Alternatives as the body of a terminal.
    fn terminal(&self, body: &[Sequence]) -> String {
        body.iter().map(|sequence| self.sequence(sequence)).collect::<Vec<_>>().join(" | ")
    }

    fn sequence(&self, items: &[Item]) -> String {
        if items.is_empty() {
            return "\"\"".into();
        }
        items.iter().map(|item| self.part(item)).collect::<Vec<_>>().join(" ")
    }

    /// A part of a terminal.
    fn part(&self, item: &Item) -> String {
        match item {
            Item::Text(text) => quoted(text),
            Item::Class(regex) => format!("/{regex}/"),
            Item::Rule(rule) => format!("R{rule}"),
            Item::Group(body) => format!("({})", self.terminal(body)),
            Item::Repeat(inner, least, most) => format!("({}){}", self.part(inner), bounds(*least, *most)),
        }
    }
}

fn bounds(least: u32, most: Option<u32>) -> String {
    match (least, most) {
        (0, None) => "*".into(),
        (1, None) => "+".into(),
        (0, Some(1)) => "?".into(),
        (least, None) => format!("{{{least},}}"),
        (least, Some(most)) => format!("{{{least},{most}}}"),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\x7f', "\\u007f")
}
