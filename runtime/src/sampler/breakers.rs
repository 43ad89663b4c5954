//! Texts over which no repetition reaches.

use std::sync::Arc;

use crate::tokenizer::Tokenizer;

/// DRY's sequence breakers, looked for in the text of tokens: within one, or across several, however the text is cut
/// into tokens. Control tokens count as they are spelled.
#[derive(Debug)]
pub(super) struct Breakers {
    tokenizer: Arc<Tokenizer>,
    texts: Vec<Vec<u8>>,
    /// Bytes of the longest.
    longest: usize,
}

impl Breakers {
    /// Empty ones break nothing.
    pub(super) fn new(tokenizer: Arc<Tokenizer>, texts: &[String]) -> Breakers {
        let texts: Vec<Vec<u8>> =
            texts.iter().filter(|text| !text.is_empty()).map(|text| text.as_bytes().to_vec()).collect();
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        Breakers { tokenizer, texts, longest }
    }

    /// Whether one of them is in the token's text.
    pub(super) fn are_in(&self, token: u32) -> bool {
        let text = self.bytes(token);
        self.texts.iter().any(|breaker| text.windows(breaker.len()).any(|part| part == breaker))
    }

    /// How many of the last tokens come after the last breaker that is in their text; all if there is none.
    pub(super) fn tokens_since(&self, tokens: &[u32]) -> usize {
        let mut text = Vec::new();
        for start in (0..tokens.len()).rev() {
            // The breakers that begin in this token, and where the last one ends.
            text.clear();
            let own = self.bytes(tokens[start]).len();
            if own == 0 {
                continue;
            }
            for &token in &tokens[start..] {
                if text.len() + 1 >= own + self.longest {
                    break;
                }
                text.extend_from_slice(self.bytes(token));
            }
            let last_end = |breaker: &Vec<u8>| {
                (0..own).rev().find(|&at| text[at..].starts_with(breaker)).map(|at| at + breaker.len())
            };
            if let Some(end) = self.texts.iter().filter_map(last_end).max() {
                let mut bytes = 0;
                let reached = tokens[start..].iter().take_while(|&&token| {
                    let before = bytes;
                    bytes += self.bytes(token).len();
                    before < end
                });
                return tokens.len() - start - reached.count();
            }
        }
        tokens.len()
    }

    fn bytes(&self, token: u32) -> &[u8] {
        self.tokenizer.token_bytes(token, true)
    }
}
