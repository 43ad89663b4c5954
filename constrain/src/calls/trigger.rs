//! Where in a text a call begins.

/// What begins calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Triggers {
    /// Marks that are text.
    pub(super) marks: Vec<&'static str>,
    /// Marks that are tokens.
    pub(super) tokens: Vec<u32>,
    /// The names of tools of which one begins a call as the `name` of an object, where an answer begins or after
    /// another call.
    pub(super) names: Vec<String>,
}

/// What was found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A call, which is what stands from here on.
    Call(usize),
    /// No call as yet. What stands from `keep` on may become the beginning of one; `first` says that an object may.
    Text { keep: usize, first: bool },
}

impl Triggers {
    /// What begins in `text`. `first` says that nothing but a call's object may have begun before.
    pub(super) fn find(&self, text: &[u8], first: bool) -> Found {
        let after = |mark: &&str| Some(position(text, mark.as_bytes())? + mark.len());
        if let Some(after) = self.marks.iter().filter_map(after).min() {
            return Found::Call(after);
        }
        if first && !self.names.is_empty() {
            match self.object(text) {
                Ok(begin) => return Found::Call(begin),
                Err(Stop::More) => return Found::Text { keep: 0, first: true },
                Err(Stop::No) => {}
            }
        }
        let begun = |mark: &&str| (1..mark.len()).rev().find(|&n| text.ends_with(&mark.as_bytes()[..n])).unwrap_or(0);
        let keep = text.len() - self.marks.iter().map(begun).max().unwrap_or(0);
        Found::Text { keep, first: false }
    }

    /// Where an object begins whose first member, `name`, is that of a tool.
    fn object(&self, text: &[u8]) -> Result<usize, Stop> {
        let begin = space(text, 0, b" \t\r\n;,");
        let mut at = begin;
        for part in ["{", "\"name\"", ":"] {
            at = space(text, eat(text, at, part.as_bytes())?, b" \t\r\n");
        }
        let mut stop = Stop::No;
        for name in &self.names {
            match eat(text, at, format!("\"{name}\"").as_bytes()) {
                Ok(_) => return Ok(begin),
                Err(Stop::More) => stop = Stop::More,
                Err(Stop::No) => {}
            }
        }
        Err(stop)
    }
}

enum Stop {
    /// It is something else.
    No,
    /// It may be.
    More,
}

/// Behind `part`, if that is what stands at `at`.
fn eat(text: &[u8], at: usize, part: &[u8]) -> Result<usize, Stop> {
    let rest = &text[at..];
    match () {
        () if rest.starts_with(part) => Ok(at + part.len()),
        () if part.starts_with(rest) => Err(Stop::More),
        () => Err(Stop::No),
    }
}

/// Behind the white space at `at`.
fn space(text: &[u8], at: usize, white: &[u8]) -> usize {
    text[at..].iter().position(|byte| !white.contains(byte)).map_or(text.len(), |n| at + n)
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_calls_begin() {
        let tags = Triggers { marks: vec!["<tool_call>"], tokens: Vec::new(), names: Vec::new() };
        let text = |keep| Found::Text { keep, first: false };
        for (given, found) in [
            ("", text(0)),
            ("well", text(4)),
            ("a < b <tool", text(6)),
            ("<tool_call", text(0)),
            ("a <tool_call>{", Found::Call(13)),
            ("{\"name\": \"now\"", text(14)),
        ] {
            assert_eq!(tags.find(given.as_bytes(), true), found, "{given}");
        }
        let plain = Triggers { marks: Vec::new(), tokens: Vec::new(), names: vec!["now".into(), "no".into()] };
        let first = Found::Text { keep: 0, first: true };
        for (given, found) in [
            ("", first),
            (" ;\n{ \"na", first),
            ("{\"name\": \"no", first),
            ("{\"name\": \"no\"", Found::Call(0)),
            ("; {\"name\" :\"now\",", Found::Call(2)),
            ("{\"name\": \"not\"", text(14)),
            ("{\"age\"", text(6)),
            ("Well: {\"name\": \"now\"", text(20)),
        ] {
            assert_eq!(plain.find(given.as_bytes(), true), found, "{given}");
        }
        assert_eq!(plain.find(b"{\"name\": \"no\"", false), text(13));
    }
}
