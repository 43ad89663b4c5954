//! Changes to a text before it is cut: what Hugging Face calls normalizers, and the spaces that pre-tokenizers put in
//! front.

use std::borrow::Cow;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::pattern::Pattern;
use crate::tokenizer::vocab::SPACE;

/// One change.
#[derive(Debug)]
pub(in crate::tokenizer) enum Edit {
    /// Unicode's normal forms.
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    /// Every occurrence of one string becomes another.
    Replace {
        from: String,
        to: String,
    },
    /// Every match of a pattern becomes a string.
    ReplaceMatches {
        pattern: Pattern,
        to: String,
    },
    /// Small letters, character by character.
    Lowercase,
    /// No white space at the beginning, at the end.
    Strip {
        left: bool,
        right: bool,
    },
    /// No combining marks.
    StripAccents,
    /// Puts a string in front.
    Prepend(String),
    /// Puts a character in front of a text that does not begin with it; if `only_first`, only where the whole text
    /// begins.
    Lead {
        with: char,
        only_first: bool,
    },
}

impl Edit {
    /// SentencePiece's spaces.
    pub(in crate::tokenizer) fn escape_spaces() -> Edit {
        Edit::Replace { from: " ".into(), to: SPACE.into() }
    }

    /// Whether this puts a space, or SentencePiece's `▁`, before a text.
    pub(in crate::tokenizer) fn adds_space(&self) -> bool {
        match self {
            Edit::Prepend(text) => text.starts_with([' ', SPACE]),
            Edit::Lead { with, .. } => [' ', SPACE].contains(with),
            _ => false,
        }
    }

    /// How many times as long, in bytes, a text of one byte or more may become.
    pub(super) fn growth(&self) -> u64 {
        match self {
            // Unicode's bounds (its FAQ on normalization): 3 for canonical forms, and the 33 bytes of what U+FDFA
            // becomes for its 3.
            Edit::Nfc | Edit::Nfd => 3,
            Edit::Nfkc | Edit::Nfkd => 11,
            Edit::Replace { from, to } if from.is_empty() => 1 + 2 * to.len() as u64,
            Edit::Replace { from, to } => to.len().div_ceil(from.len()).max(1) as u64,
            // Empty matches are left alone.
            Edit::ReplaceMatches { to, .. } => to.len().max(1) as u64,
            // U+0130, two bytes, has three when it is small.
            Edit::Lowercase => 2,
            Edit::Strip { .. } | Edit::StripAccents => 1,
            Edit::Prepend(prefix) => 1 + prefix.len() as u64,
            Edit::Lead { with, .. } => 1 + with.len_utf8() as u64,
        }
    }

    /// Of the first `begins` bytes of `text`, which come of the first character of everything, what comes of them: so
    /// many bytes at the beginning of the changed text.
    ///
    /// As `tokenizers` keeps track of it: what takes the place of several characters comes of the last of them, so that
    /// a text may have lost its beginning, and then no byte comes of it.
    pub(super) fn beginning(&self, text: &str, begins: usize) -> usize {
        let own = &text[..begins];
        // Marks that follow may become one with the last of these characters.
        fn composed(chars: usize, whole: impl Iterator<Item = char>) -> usize {
            whole.take(chars).map(char::len_utf8).sum()
        }
        match self {
            _ if begins == 0 => 0,
            Edit::Nfc => composed(own.nfc().count(), text.nfc()),
            Edit::Nfkc => composed(own.nfkc().count(), text.nfkc()),
            Edit::Nfd | Edit::Nfkd | Edit::Lowercase | Edit::StripAccents => self.apply(own.into(), true).len(),
            Edit::Replace { from, to } => {
                replaced(begins, text.match_indices(from.as_str()).map(|(at, found)| at..at + found.len()), to)
            }
            Edit::ReplaceMatches { pattern, to } => {
                replaced(begins, pattern.find_iter(text).filter(|found| !found.is_empty()), to)
            }
            Edit::Strip { left, right } => {
                let stripped = Edit::stripped(text, *left, *right);
                begins.clamp(stripped.start, stripped.end) - stripped.start
            }
            Edit::Prepend(prefix) => prefix.len() + begins,
            Edit::Lead { with, .. } => begins + if text.starts_with(*with) { 0 } else { with.len_utf8() },
        }
    }

    /// What [`Edit::Strip`] leaves of `text`.
    pub(super) fn stripped(text: &str, left: bool, right: bool) -> Range<usize> {
        let start = if left { text.len() - text.trim_start().len() } else { 0 };
        let end = if right { text.trim_end().len() } else { text.len() };
        start..end.max(start)
    }

    /// The changed text; `first` says whether the text is where everything begins.
    pub(super) fn apply<'t>(&self, text: Cow<'t, str>, first: bool) -> Cow<'t, str> {
        match self {
            // ASCII is its own normal form.
            Edit::Nfc | Edit::Nfd | Edit::Nfkc | Edit::Nfkd if text.is_ascii() => text,
            Edit::Nfc => text.nfc().collect::<String>().into(),
            Edit::Nfd => text.nfd().collect::<String>().into(),
            Edit::Nfkc => text.nfkc().collect::<String>().into(),
            Edit::Nfkd => text.nfkd().collect::<String>().into(),
            Edit::Replace { from, to } if text.contains(from) => text.replace(from, to).into(),
            Edit::ReplaceMatches { pattern, to } => {
                let mut replaced = String::with_capacity(text.len());
                let mut at = 0;
                for found in pattern.find_iter(&text).filter(|found| !found.is_empty()) {
                    replaced.push_str(&text[at..found.start]);
                    replaced.push_str(to);
                    at = found.end;
                }
                replaced.push_str(&text[at..]);
                replaced.into()
            }
            Edit::Lowercase => text.chars().flat_map(char::to_lowercase).collect::<String>().into(),
            Edit::Strip { left, right } => {
                let stripped = Edit::stripped(&text, *left, *right);
                if stripped == (0..text.len()) { text } else { text[stripped].to_string().into() }
            }
            Edit::StripAccents => text.chars().filter(|&c| !is_combining_mark(c)).collect::<String>().into(),
            Edit::Prepend(prefix) if !text.is_empty() => format!("{prefix}{text}").into(),
            Edit::Lead { with, only_first } if !text.starts_with(*with) && (first || !only_first) => {
                format!("{with}{text}").into()
            }
            Edit::Replace { .. } | Edit::Prepend(_) | Edit::Lead { .. } => text,
        }
    }
}

/// [`Edit::beginning`] where `to` takes the place of these matches.
fn replaced(begins: usize, matches: impl Iterator<Item = Range<usize>>, to: &str) -> usize {
    let (mut bytes, mut at) = (0, 0);
    for found in matches.take_while(|found| found.start < begins) {
        bytes += found.start - at + if found.end <= begins { to.len() } else { 0 };
        at = found.end;
    }
    bytes + begins.saturating_sub(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tokenizers` says with `offsets_original` of each character.
    #[test]
    fn beginnings() {
        let replace = |from: &str, to: &str| Edit::Replace { from: from.into(), to: to.into() };
        let matches =
            |pattern, to: &str| Edit::ReplaceMatches { pattern: Pattern::new(pattern).unwrap(), to: to.into() };
        let left = || Edit::Strip { left: true, right: false };
        let cases = [
            (vec![], "ab", 1),
            (vec![left()], " ab", 0),
            (vec![left()], "ab", 1),
            (vec![Edit::StripAccents], "\u{301}ab", 0),
            (vec![Edit::Nfd, Edit::StripAccents], "éb", 1),
            (vec![Edit::Nfc], "e\u{301}b", 2),
            (vec![Edit::Nfkc], "ﬁb", 2),
            (vec![Edit::Nfkc, replace("fi", "x")], "ﬁb", 1),
            (vec![replace("ab", "x")], "abc", 0),
            (vec![replace("a", "xyz")], "aa", 3),
            (vec![replace("a", "")], "aab", 0),
            (vec![matches(r"\s{2,}", " ")], "  a", 0),
            (vec![Edit::Prepend("▁".into())], "ab", 4),
            (vec![Edit::Prepend("▁".into()), replace("▁a", "x")], "ab", 1),
            (vec![left(), Edit::Prepend("▁".into())], " ab", 0),
            (vec![Edit::Lowercase], "İb", 3),
        ];
        for (edits, text, expected) in cases {
            let first = text.chars().next().unwrap().len_utf8();
            let (_, begins) = edits.iter().fold((Cow::Borrowed(text), first), |(text, begins), edit| {
                let still = edit.beginning(&text, begins);
                (edit.apply(text, begins > 0), still)
            });
            assert_eq!(begins, expected, "{edits:?} of {text:?}");
        }
    }

    #[test]
    fn edits() {
        let lead = |only_first| Edit::Lead { with: '▁', only_first };
        let cases = [
            (Edit::Nfc, "e\u{301}", "é", "é"),
            (Edit::Nfd, "é", "e\u{301}", "e\u{301}"),
            (Edit::Nfkc, "ﬁ²", "fi2", "fi2"),
            (Edit::Nfkd, "é²", "e\u{301}2", "e\u{301}2"),
            (Edit::escape_spaces(), " a  b", "▁a▁▁b", "▁a▁▁b"),
            (Edit::Prepend("▁".into()), "▁a", "▁▁a", "▁▁a"),
            (Edit::Lowercase, "AÉİ", "aéi\u{307}", "aéi\u{307}"),
            (Edit::Strip { left: true, right: false }, " \u{3000}a ", "a ", "a "),
            (Edit::Strip { left: true, right: true }, " ", "", ""),
            (Edit::StripAccents, "e\u{301}é", "eé", "eé"),
            (
                Edit::ReplaceMatches { pattern: Pattern::new(r"\s{2,}").unwrap(), to: "_".into() },
                "a   b c",
                "a_b c",
                "a_b c",
            ),
            (lead(false), "a", "▁a", "▁a"),
            (lead(false), "▁a", "▁a", "▁a"),
            (lead(true), "a", "▁a", "a"),
            (Edit::Nfkc, "\u{FDFA}", "صلى الله عليه وسلم", "صلى الله عليه وسلم"),
            (Edit::Nfc, "\u{1D160}", "\u{1D158}\u{1D165}\u{1D16E}", "\u{1D158}\u{1D165}\u{1D16E}"),
            (Edit::Replace { from: String::new(), to: "..".into() }, "a", "..a..", "..a.."),
        ];
        for (edit, text, first, later) in cases {
            assert_eq!(edit.apply(text.into(), true), first, "{edit:?}");
            assert!(first.len() as u64 <= edit.growth() * text.len() as u64, "{edit:?}");
            assert_eq!(edit.apply(text.into(), false), later, "{edit:?}");
        }
    }
}
