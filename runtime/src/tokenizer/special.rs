//! Tokens that are found in the text before anything else: marks such as `<|eot_id|>`, and user-defined tokens.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind, StartKind};

use super::error::TokenizerError;
use super::vocab::{TokenKind, Vocab};

/// A stretch of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span<'t> {
    /// To be tokenised; never empty.
    Text(&'t str),
    /// One token.
    Token(u32),
}

/// Finds tokens of some kinds, the leftmost first, the longest of those that begin together.
#[derive(Debug)]
pub(super) struct SpecialTokens(Option<(AhoCorasick, Vec<u32>)>);

impl SpecialTokens {
    /// The user-defined tokens and, if `marks`, control and unknown tokens.
    pub(super) fn new(vocab: &Vocab, marks: bool) -> Result<SpecialTokens, TokenizerError> {
        let wanted = |id: &u32| match vocab.kind(*id) {
            TokenKind::UserDefined => true,
            TokenKind::Control | TokenKind::Unknown => marks,
            TokenKind::Normal | TokenKind::Unused | TokenKind::Byte => false,
        };
        let ids: Vec<u32> = vocab.ids().filter(wanted).filter(|id| !vocab.piece(*id).is_empty()).collect();
        if ids.is_empty() {
            return Ok(SpecialTokens(None));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Unanchored)
            .build(ids.iter().map(|id| vocab.piece(*id)))
            .map_err(|e| TokenizerError::SpecialTokens { count: ids.len(), reason: e.to_string() })?;
        Ok(SpecialTokens(Some((automaton, ids))))
    }

    /// Calls `span` with the stretches of `text`, in order.
    pub(super) fn partition<'t>(&self, text: &'t str, mut span: impl FnMut(Span<'t>)) {
        let mut at = 0;
        if let Some((automaton, ids)) = &self.0 {
            for found in automaton.find_iter(text) {
                if at < found.start() {
                    span(Span::Text(&text[at..found.start()]));
                }
                span(Span::Token(ids[found.pattern().as_usize()]));
                at = found.end();
            }
        }
        if at < text.len() {
            span(Span::Text(&text[at..]));
        }
    }
}

/// A token found in a text.
type Found = (Range<usize>, u32);

impl SpecialTokens {
    /// The first token within a part of `text`.
    fn find(&self, text: &str, part: Range<usize>) -> Option<Found> {
        let (automaton, ids) = self.0.as_ref()?;
        let found = automaton.find(Input::new(text).range(part))?;
        Some((found.range(), ids[found.pattern().as_usize()]))
    }

    /// Whether `text` begins with one of the tokens.
    pub(super) fn begins(&self, text: &str) -> bool {
        self.find(text, 0..text.len()).is_some_and(|(found, _)| found.start == 0)
    }
}

/// Calls `span` with the stretches of `text`, in order: tokens of `marks` count only where all of one lies within a
/// `trusted` part, those of `everywhere` wherever they stand. `trusted` parts are in order and apart from each other.
pub(super) fn partition_trusted<'t>(
    (marks, everywhere): (&SpecialTokens, &SpecialTokens),
    text: &'t str,
    trusted: &[Range<usize>],
    mut span: impl FnMut(Span<'t>),
) {
    let mut at = 0;
    let mut parts = trusted.iter().peekable();
    let (mut mark, mut other): (Option<Found>, Option<Found>) = (None, everywhere.find(text, 0..text.len()));
    loop {
        if other.as_ref().is_some_and(|(found, _)| found.start < at) {
            other = everywhere.find(text, at..text.len());
        }
        if mark.as_ref().is_none_or(|(found, _)| found.start < at) {
            mark = None;
            while let Some(part) = parts.peek() {
                mark = marks.find(text, part.start.max(at)..part.end.max(at));
                if mark.is_some() {
                    break;
                }
                parts.next();
            }
        }
        // The leftmost, the longer of two that begin together.
        let next = match (&mark, &other) {
            (Some(m), Some(o)) if (o.0.start, m.0.end) < (m.0.start, o.0.end) => &other,
            (Some(_), _) => &mark,
            (None, _) => &other,
        };
        let Some((found, id)) = next.clone() else { break };
        if at < found.start {
            span(Span::Text(&text[at..found.start]));
        }
        span(Span::Token(id));
        at = found.end;
    }
    if at < text.len() {
        span(Span::Text(&text[at..]));
    }
}
