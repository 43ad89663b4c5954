//! Strings that know where they come from.

use std::ops::Range;

use super::budget::Bytes;
use super::error::Result;

/// Where characters come from: [`TEMPLATE`], or a number that the caller chose for a text of the conversation.
pub(in crate::chat) type Origin = u32;

/// The template itself, and what it computes (numbers, dates).
pub(in crate::chat) const TEMPLATE: Origin = 0;

/// Some bytes of a text that are not the template's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    start: usize,
    end: usize,
    origin: Origin,
}

/// A string with the origins of its characters. What is compared, measured and searched is the string alone.
#[derive(Debug, Default)]
pub(in crate::chat) struct Text {
    string: String,
    /// In order, apart from each other; neighbours have different origins or a gap between them.
    marks: Vec<Mark>,
    bytes: Bytes,
}

impl Text {
    /// All of one origin.
    pub(super) fn new(string: &str, origin: Origin) -> Result<Text> {
        let mut text = Text::default();
        text.push_str(string, origin)?;
        Ok(text)
    }

    pub(in crate::chat) fn as_str(&self) -> &str {
        &self.string
    }

    pub(super) fn len(&self) -> usize {
        self.string.len()
    }

    /// Appends `string`.
    pub(super) fn push_str(&mut self, string: &str, origin: Origin) -> Result<()> {
        if string.is_empty() {
            return Ok(());
        }
        let start = self.string.len();
        let end = start + string.len();
        let mut more = string.len();
        if origin != TEMPLATE {
            match self.marks.last_mut() {
                Some(last) if last.end == start && last.origin == origin => last.end = end,
                _ => {
                    more += size_of::<Mark>();
                    self.marks.push(Mark { start, end, origin });
                }
            }
        }
        self.bytes.grow(more)?;
        self.string.push_str(string);
        Ok(())
    }

    pub(super) fn push(&mut self, c: char, origin: Origin) -> Result<()> {
        self.push_str(c.encode_utf8(&mut [0; 4]), origin)
    }

    /// Appends `string`, the template's, `count` times.
    pub(super) fn push_repeated(&mut self, string: &str, count: i128) -> Result<()> {
        for _ in 0..count.max(0) {
            self.push_str(string, TEMPLATE)?;
        }
        Ok(())
    }

    /// Appends a part of another text.
    pub(super) fn push_part(&mut self, other: &Text, part: Range<usize>) -> Result<()> {
        for (range, origin) in other.stretches(part) {
            self.push_str(&other.string[range], origin)?;
        }
        Ok(())
    }

    pub(super) fn push_text(&mut self, other: &Text) -> Result<()> {
        self.push_part(other, 0..other.len())
    }

    pub(super) fn part(&self, part: Range<usize>) -> Result<Text> {
        let mut text = Text::default();
        text.push_part(self, part)?;
        Ok(text)
    }

    /// The origin of the character at a byte.
    pub(super) fn origin(&self, at: usize) -> Origin {
        let mark = self.marks.partition_point(|mark| mark.end <= at);
        self.marks.get(mark).filter(|mark| mark.start <= at).map_or(TEMPLATE, |mark| mark.origin)
    }

    /// `part` cut where the origin changes.
    pub(in crate::chat) fn stretches(&self, part: Range<usize>) -> impl Iterator<Item = (Range<usize>, Origin)> {
        let mut mark = self.marks.partition_point(|mark| mark.end <= part.start);
        let mut at = part.start;
        std::iter::from_fn(move || {
            if at >= part.end {
                return None;
            }
            let start = at;
            let (end, origin) = match self.marks.get(mark) {
                Some(m) if m.start <= at => {
                    mark += 1;
                    (m.end, m.origin)
                }
                Some(m) => (m.start, TEMPLATE),
                None => (part.end, TEMPLATE),
            };
            at = end.min(part.end);
            Some((start..at, origin))
        })
    }

    /// The characters, each with the byte where it stands and its origin.
    pub(super) fn chars(&self) -> impl Iterator<Item = (usize, char, Origin)> {
        self.stretches(0..self.len()).flat_map(|(range, origin)| {
            let start = range.start;
            self.string[range].char_indices().map(move |(i, c)| (start + i, c, origin))
        })
    }

    /// Each stretch changed; its characters keep their origin.
    pub(super) fn map(&self, change: impl Fn(&str) -> String) -> Result<Text> {
        let mut out = Text::default();
        for (range, origin) in self.stretches(0..self.len()) {
            out.push_str(&change(&self.string[range]), origin)?;
        }
        Ok(out)
    }
}
