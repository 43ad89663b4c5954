//! Tokens that are found in the text before anything else: marks such as `<|eot_id|>`, and user-defined tokens.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind, StartKind};

use super::error::TokenizerError;
use super::vocab::{TokenKind, Vocab};

/// A stretch of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// To be tokenised; never empty.
    Text(Range<usize>),
    /// One token.
    Token(u32),
}

/// Bytes of a token from which on no table of all transitions is made: that takes time by the square of the length.
/// Real ones have some dozens.
const LONG: usize = 256;

/// Finds tokens of some kinds, the leftmost first, the longest of those that begin together.
#[derive(Debug)]
pub(super) struct SpecialTokens(Option<(AhoCorasick, Vec<Mark>)>);

/// A token, and what it takes with it or asks for: see Hugging Face's `AddedToken`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) id: u32,
    /// It is no text: whoever may not write it writes its letters.
    pub(super) special: bool,
    /// It is one only between characters that are not of words.
    pub(super) single_word: bool,
    /// It takes the white space before it.
    pub(super) lstrip: bool,
    /// It takes the white space after it.
    pub(super) rstrip: bool,
}

/// How far a text is cut.
#[derive(Default)]
struct Taken {
    /// What lies before this belongs to tokens, or was given out as text.
    end: usize,
    /// White space that was found behind a token, so that nothing is looked at twice however many tokens stand in it.
    spaces: Range<usize>,
}

impl Mark {
    /// Whether the token is one where its text stands, in a text that may have `special` ones or not.
    fn stands(self, text: &str, at: &Range<usize>, special: bool) -> bool {
        let is_word = |c: Option<char>| c.is_some_and(regex_syntax::is_word_character);
        let in_word = || is_word(text[..at.start].chars().next_back()) || is_word(text[at.end..].chars().next());
        (special || !self.special) && !(self.single_word && in_word())
    }

    /// Gives out the token, whose text stands at `at`, and the text before it. As in `tokenizers`, one that stands in
    /// the white space which the token before took is a token still, unless it takes white space before it itself.
    fn take(self, text: &str, at: Range<usize>, taken: &mut Taken, span: &mut impl FnMut(Span)) {
        let mut start = at.start;
        if self.lstrip {
            // There is nothing left of it.
            if taken.end >= at.end {
                return;
            }
            let free = taken.end.min(start);
            start = free + text[free..start].trim_end().len();
        }
        if taken.end < start {
            span(Span::Text(taken.end..start));
        }
        span(Span::Token(self.id));
        taken.end = at.end;
        if self.rstrip {
            if !(taken.spaces.start..=taken.spaces.end).contains(&at.end) {
                taken.spaces = at.end..text.len() - text[at.end..].trim_start().len();
            }
            taken.end = taken.spaces.end;
        }
    }
}

impl SpecialTokens {
    /// The user-defined tokens, and control and unknown tokens, which are special.
    pub(super) fn new(vocab: &Vocab) -> Result<SpecialTokens, TokenizerError> {
        let token = |id: u32| {
            let special = match vocab.kind(id) {
                TokenKind::UserDefined => false,
                TokenKind::Control | TokenKind::Unknown => true,
                TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => return None,
            };
            Some((vocab.piece(id), Mark { id, special, single_word: false, lstrip: false, rstrip: false }))
        };
        SpecialTokens::of(vocab.ids().filter_map(token))
    }

    /// None at all.
    pub(super) fn none() -> SpecialTokens {
        SpecialTokens(None)
    }

    /// Whether there are special ones among them.
    pub(super) fn has_special(&self) -> bool {
        self.0.as_ref().is_some_and(|(_, marks)| marks.iter().any(|mark| mark.special))
    }

    /// These, by their texts; none is found by an empty one.
    pub(super) fn of<T: AsRef<str>>(tokens: impl Iterator<Item = (T, Mark)>) -> Result<SpecialTokens, TokenizerError> {
        let (texts, marks): (Vec<T>, Vec<Mark>) = tokens.filter(|(text, _)| !text.as_ref().is_empty()).unzip();
        if texts.is_empty() {
            return Ok(SpecialTokens(None));
        }
        let is_long = texts.iter().any(|text| text.as_ref().len() > LONG);
        let automaton = AhoCorasick::builder()
            .kind(is_long.then_some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Unanchored)
            .build(texts.iter().map(|text| text.as_ref()))
            .map_err(|e| TokenizerError::SpecialTokens { count: texts.len(), reason: e.to_string() })?;
        Ok(SpecialTokens(Some((automaton, marks))))
    }

    /// Calls `span` with the stretches of `text`, in order. Unless `special`, special tokens are text; as in
    /// `tokenizers`, no other token is found within that text.
    pub(super) fn partition(&self, text: &str, special: bool, mut span: impl FnMut(Span)) {
        let mut taken = Taken::default();
        if let Some((automaton, marks)) = &self.0 {
            for found in automaton.find_iter(text) {
                let mark = marks[found.pattern().as_usize()];
                if mark.stands(text, &found.range(), special) {
                    mark.take(text, found.range(), &mut taken, &mut span);
                }
            }
        }
        if taken.end < text.len() {
            span(Span::Text(taken.end..text.len()));
        }
    }

    /// The first token within a part of `text`, and where its text stands.
    fn find(&self, text: &str, mut part: Range<usize>, special: bool) -> Option<(Mark, Range<usize>)> {
        let (automaton, marks) = self.0.as_ref()?;
        loop {
            let found = automaton.find(Input::new(text).range(part.clone()))?;
            let mark = marks[found.pattern().as_usize()];
            if mark.stands(text, &found.range(), special) {
                return Some((mark, found.range()));
            }
            part.start = found.end();
        }
    }

    /// Whether `text` begins with one of the tokens.
    pub(super) fn begins(&self, text: &str) -> bool {
        self.find(text, 0..text.len(), true).is_some_and(|(_, at)| at.start == 0)
    }

    /// [`SpecialTokens::partition`] of a text in which special tokens count only where all of one lies within a
    /// `trusted` part. These parts are in order and apart from each other.
    pub(super) fn partition_trusted(&self, text: &str, trusted: &[Range<usize>], mut span: impl FnMut(Span)) {
        // Tokens begin at `from` or later, and text may be left from before.
        let (mut from, mut taken) = (0, Taken::default());
        let mut parts = trusted.iter().peekable();
        let (mut mark, mut other) = (None, self.find(text, 0..text.len(), false));
        loop {
            if other.as_ref().is_some_and(|(_, at)| at.start < from) {
                other = self.find(text, from..text.len(), false);
            }
            if mark.as_ref().is_none_or(|(_, at): &(Mark, Range<usize>)| at.start < from) {
                mark = None;
                while let Some(part) = parts.peek() {
                    mark = self.find(text, part.start.max(from)..part.end.max(from), true);
                    if mark.is_some() {
                        break;
                    }
                    parts.next();
                }
            }
            // The leftmost, the longer of two that begin together.
            let next = match (&mark, &other) {
                (Some((_, m)), Some((_, o))) if (o.start, m.end) < (m.start, o.end) => &other,
                (Some(_), _) => &mark,
                (None, _) => &other,
            };
            let Some((token, at)) = next.clone() else { break };
            from = at.end;
            token.take(text, at, &mut taken, &mut span);
        }
        if taken.end < text.len() {
            span(Span::Text(taken.end..text.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(tokens: &[(&str, Mark)], text: &str, special: bool) -> Vec<Span> {
        let (mut whole, mut trusted) = (Vec::new(), Vec::new());
        let tokens = SpecialTokens::of(tokens.iter().copied()).unwrap();
        tokens.partition(text, special, |span| whole.push(span));
        let parts = if special { std::slice::from_ref(&(0..text.len())).to_vec() } else { Vec::new() };
        tokens.partition_trusted(text, &parts, |span| trusted.push(span));
        assert_eq!(whole, trusted, "{text:?}");
        whole
    }

    /// What `tokenizers` gives, version 0.23.
    #[test]
    fn white_space_and_words() {
        let mark = |id| Mark { id, special: false, single_word: false, lstrip: false, rstrip: false };
        let (text, token) = (Span::Text, Span::Token);
        let left = ("<l>", Mark { lstrip: true, ..mark(1) });
        let right = ("<r>", Mark { rstrip: true, ..mark(2) });
        let word = ("<w>", Mark { single_word: true, ..mark(3) });
        let line = ("\n", mark(4));
        let hidden = ("<r>\n", Mark { special: true, ..mark(5) });
        assert_eq!(
            spans(&[left, right], "a <l> <r> b", false),
            [text(0..1), token(1), text(5..6), token(2), text(10..11)]
        );
        assert_eq!(spans(&[word], "<w>a <w>", false), [text(0..5), token(3)]);
        // In white space that is taken already: a token, and what stands behind it is text again.
        assert_eq!(spans(&[right, line], "<r> \n b", false), [token(2), token(4), text(5..7)]);
        assert_eq!(spans(&[right, ("\n", Mark { lstrip: true, ..line.1 })], "<r> \n b", false), [token(2), text(6..7)]);
        // A special token that is text hides what is in it.
        assert_eq!(spans(&[right, hidden], "<r>\n<r>", false), [text(0..4), token(2)]);
        assert_eq!(spans(&[right, hidden], "<r>\n<r>", true), [token(5), token(2)]);
    }

    /// A token of a million bytes takes no time by the square of its length, neither to prepare nor to find.
    #[test]
    fn long_tokens_are_found() {
        let (long, mark) =
            ("x".repeat(1 << 20), Mark { id: 1, special: false, single_word: false, lstrip: false, rstrip: false });
        let text = "x".repeat((1 << 20) - 1) + " " + &long + "x";
        let end = text.len();
        assert_eq!(
            spans(&[(&long, mark)], &text, false),
            [Span::Text(0..1 << 20), Span::Token(1), Span::Text(end - 1..end)]
        );
    }

    /// 300,000 tokens in white space, each of which takes what is around it, are no matter of minutes.
    #[test]
    fn white_space_is_looked_at_once() {
        let blank = Mark { id: 1, special: false, single_word: false, lstrip: true, rstrip: true };
        let text = " ".repeat(300_000) + "a";
        for (lstrip, rstrip) in [(false, true), (true, false), (true, true)] {
            let found = spans(&[(" ", Mark { lstrip, rstrip, ..blank })], &text, false);
            assert_eq!(found.last(), Some(&Span::Text(300_000..300_001)), "{lstrip} {rstrip}");
        }
    }
}
