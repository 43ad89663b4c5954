//! Changes to a text before it is cut: what Hugging Face calls normalizers, and the spaces that pre-tokenizers put in
//! front.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use crate::tokenizer::vocab::SPACE;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
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
            Edit::Prepend(prefix) => 1 + prefix.len() as u64,
            Edit::Lead { with, .. } => 1 + with.len_utf8() as u64,
        }
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
            Edit::Prepend(prefix) => format!("{prefix}{text}").into(),
            Edit::Lead { with, only_first } if !text.starts_with(*with) && (first || !only_first) => {
                format!("{with}{text}").into()
            }
            Edit::Replace { .. } | Edit::Lead { .. } => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
