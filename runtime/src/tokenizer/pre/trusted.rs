//! Normalising a text of which parts are trusted: what comes of these parts, and of them alone, is trusted, too.
//!
//! A rendered chat is such a text. Control tokens that stand in normalised text are looked for in what the template
//! wrote, so nothing that comes of a user's characters may count as the template's.

use std::borrow::Cow;
use std::ops::Range;

use super::edit::Edit;

/// A text and its trusted parts: in order, apart from each other, none empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::tokenizer) struct Trusted {
    pub(in crate::tokenizer) text: String,
    pub(in crate::tokenizer) parts: Vec<Range<usize>>,
}

impl Trusted {
    /// The part `whole` of `text`, of which the parts `trusted` are.
    pub(in crate::tokenizer) fn within(text: &str, whole: Range<usize>, trusted: &[Range<usize>]) -> Trusted {
        let mut within = Trusted::default();
        within.copy(text, trusted, whole);
        within
    }

    fn push(&mut self, text: &str, is_trusted: bool) {
        let start = self.text.len();
        self.text.push_str(text);
        let end = self.text.len();
        match self.parts.last_mut() {
            _ if !is_trusted || text.is_empty() => {}
            Some(last) if last.end == start => last.end = end,
            _ => self.parts.push(start..end),
        }
    }

    fn copy(&mut self, text: &str, trusted: &[Range<usize>], part: Range<usize>) {
        for (run, is_trusted) in runs(trusted, part) {
            self.push(&text[run], is_trusted);
        }
    }

    /// What `edits` make of it. Each takes the place of a stretch by another one, which is trusted where all of that
    /// stretch is; normal forms are of every stretch for itself, so that nobody's accent changes a letter of another.
    pub(super) fn edited(self, edits: &[Edit]) -> Trusted {
        edits.iter().fold(self, Trusted::edit)
    }

    fn edit(self, edit: &Edit) -> Trusted {
        let Trusted { text, parts } = &self;
        let mut edited = Trusted::default();
        let is_trusted = |part: Range<usize>| runs(parts, part).all(|(_, is_trusted)| is_trusted);
        let mut replace = |matches: &mut dyn Iterator<Item = Range<usize>>, to: &str| {
            let mut at = 0;
            for found in matches {
                edited.copy(text, parts, at..found.start);
                // What is put between two characters is of both.
                let neighbours = found.start.saturating_sub(1)..(found.end + 1).min(text.len());
                edited.push(to, is_trusted(if found.is_empty() { neighbours } else { found.clone() }));
                at = found.end;
            }
            edited.copy(text, parts, at..text.len());
        };
        match edit {
            Edit::Nfc | Edit::Nfd | Edit::Nfkc | Edit::Nfkd | Edit::Lowercase | Edit::StripAccents => {
                for (run, is_trusted) in runs(parts, 0..text.len()) {
                    edited.push(&edit.apply(Cow::Borrowed(&text[run]), false), is_trusted);
                }
            }
            Edit::Replace { from, to } => {
                replace(&mut text.match_indices(from.as_str()).map(|(at, found)| at..at + found.len()), to);
            }
            Edit::ReplaceMatches { pattern, to } => {
                replace(&mut pattern.find_iter(text).filter(|found| !found.is_empty()), to);
            }
            Edit::Strip { left, right } => edited.copy(text, parts, Edit::stripped(text, *left, *right)),
            Edit::Prepend(_) | Edit::Lead { .. } => {
                let longer = edit.apply(Cow::Borrowed(text), true);
                edited.push(&longer[..longer.len() - text.len()], !text.is_empty() && is_trusted(0..1));
                edited.copy(text, parts, 0..text.len());
            }
        }
        edited
    }
}

/// The runs of `part`, by turns trusted and not; none is empty.
fn runs(trusted: &[Range<usize>], part: Range<usize>) -> impl Iterator<Item = (Range<usize>, bool)> {
    let first = trusted.partition_point(|t| t.end <= part.start);
    let (mut later, mut at) = (trusted[first..].iter().peekable(), part.start);
    std::iter::from_fn(move || {
        if at >= part.end {
            return None;
        }
        let start = at;
        let is_trusted = later.peek().is_some_and(|t| t.start <= start);
        at = match later.peek() {
            Some(t) if is_trusted => t.end.min(part.end),
            Some(t) => t.start.min(part.end),
            None => part.end,
        };
        if is_trusted {
            later.next();
        }
        Some((start..at, is_trusted))
    })
}

#[cfg(test)]
mod tests {
    use super::super::pattern::Pattern;
    use super::*;

    /// What `edits` make of a text in which the template's parts stand in brackets, in the same form.
    fn edited(edits: &[Edit], text: &str) -> String {
        let mut trusted = Trusted::default();
        for (i, run) in text.split(['[', ']']).enumerate() {
            trusted.push(run, i % 2 == 1);
        }
        let Trusted { text, parts } = trusted.edited(edits);
        let shown = runs(&parts, 0..text.len())
            .map(|(run, is_trusted)| if is_trusted { format!("[{}]", &text[run]) } else { text[run].to_string() });
        shown.collect()
    }

    #[test]
    fn what_comes_of_others_is_not_trusted() {
        let replace = |from: &str, to: &str| Edit::Replace { from: from.into(), to: to.into() };
        let matches =
            |pattern, to: &str| Edit::ReplaceMatches { pattern: Pattern::new(pattern).unwrap(), to: to.into() };
        let prepend = || Edit::Prepend("▁".into());
        let cases = [
            (Edit::Lowercase, "A[BÉ]İ", "a[bé]i\u{307}"),
            (Edit::StripAccents, "[<x]\u{301}[>]e\u{301}", "[<x>]e"),
            // Neither letter nor accent changes the other one's text.
            (Edit::Nfc, "[e]\u{301}e\u{301}[e\u{301}>]\u{338}", "[e]\u{301}é[é>]\u{338}"),
            (Edit::Nfkd, "[ﬁ]ﬁ", "[fi]fi"),
            (replace("<", "[|"), "[a]<", "[a][|"),
            (replace("ab", "<x>"), "[ab]ab[a]b[abab]", "[<x>]<x><x>[<x><x>]"),
            (replace("", "-"), "[a]b", "[-a]-b-"),
            (replace("a", ""), "[<a]a[a>]", "[<>]"),
            (matches(r"\s{2,}", "<x>"), "[  ]  [a  ]", "<x>[a<x>]"),
            (Edit::Strip { left: true, right: true }, " [ a ]b ", "[a ]b"),
            (Edit::Strip { left: true, right: false }, "  ", ""),
            (prepend(), "[a]b", "[▁a]b"),
            (prepend(), "a[b]", "▁a[b]"),
            (prepend(), "", ""),
            (Edit::Lead { with: '▁', only_first: false }, "▁[b]", "▁[b]"),
        ];
        for (edit, text, expected) in cases {
            assert_eq!(edited(std::slice::from_ref(&edit), text), expected, "{edit:?} of {text}");
        }
        assert_eq!(edited(&[Edit::Lowercase, prepend(), replace("▁<", "<")], "[<X]>[<X>]"), "[<x]>[<x>]");
    }
}
