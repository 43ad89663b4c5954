//! Tokens that are found in the text before anything else: marks such as `<|eot_id|>`, and user-defined tokens.

use aho_corasick::{AhoCorasick, MatchKind, StartKind};

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
