//! Strings that a text must not contain.
//!
//! The model is not steered away from them: it writes as if there were none, and when one is complete, the text goes
//! back to the token in which it begins, and another token is drawn there. So nothing before it changes. Tokens that
//! may turn out to be its beginning are held back until that is settled.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use super::token::Token;
use crate::sampler::SamplerError;
use crate::tokenizer::Tokenizer;

/// How often a text goes back before another token is certain. After that it goes on another way: the tokens that would
/// complete a string are left out. So a token costs so many steps at most, times the tokens of a string.
const MOST_RETURNS: usize = 64;

/// The strings, and the tokens that they are in.
#[derive(Debug)]
struct Strings {
    tokenizer: Arc<Tokenizer>,
    texts: Vec<Vec<u8>>,
    /// The tokens that have one of them in their own text. Few texts ever need to know.
    within: OnceLock<Vec<u32>>,
}

impl Strings {
    /// Where in `text` the string begins that is complete first; of those that end together, the longest.
    fn find(&self, text: &[u8]) -> Option<usize> {
        let ends = self.texts.iter().filter_map(|string| {
            let start = text.windows(string.len()).position(|part| part == string)?;
            Some((start + string.len(), start))
        });
        ends.min().map(|(_, start)| start)
    }

    /// The length of the longest end of `text` that is a beginning of a string, but not the whole.
    fn begun(&self, text: &[u8]) -> usize {
        let begun = |string: &Vec<u8>| {
            let longest = (string.len() - 1).min(text.len());
            (1..=longest).rev().find(|&n| text.ends_with(&string[..n])).unwrap_or(0)
        };
        self.texts.iter().map(begun).max().unwrap_or(0)
    }

    fn within(&self) -> &[u32] {
        self.within.get_or_init(|| {
            let ids = 0..self.tokenizer.vocab_size() as u32;
            ids.filter(|&id| self.find(self.tokenizer.token_bytes(id, false)).is_some()).collect()
        })
    }

    /// The tokens that would complete a string after `text`, which has none.
    fn completing(&self, text: &[u8]) -> Vec<u32> {
        let completes = |id: u32| {
            let token = self.tokenizer.token_bytes(id, false);
            self.texts.iter().any(|string| {
                let begun = (1..string.len().min(text.len() + 1)).filter(|&n| text.ends_with(&string[..n]));
                begun.into_iter().any(|n| token.starts_with(&string[n..]))
            })
        };
        let ids = 0..self.tokenizer.vocab_size() as u32;
        ids.filter(|&id| completes(id)).chain(self.within().iter().copied()).collect()
    }
}

/// A token that is written, but held back.
#[derive(Clone, Debug)]
struct Held<S> {
    token: Token,
    /// Bytes of its text.
    length: usize,
    /// The state in which it was drawn, and what was excluded there.
    before: S,
    excluded: HashMap<u32, ()>,
}

/// What is to be done with a token that was drawn.
#[derive(Debug)]
pub(super) enum Verdict<S> {
    /// It is written, and with it everything is certain.
    Certain,
    /// It is written, but held back.
    Open,
    /// Another one is drawn in its place.
    Again,
    /// The text loses its last so many tokens, and goes on from the state before them.
    Back(usize, S),
}

/// The strings that one text must not contain, and the tokens of it that are held back; `S` is the writer's state.
#[derive(Clone, Debug)]
pub(super) struct Bans<S> {
    strings: Arc<Strings>,
    held: Vec<Held<S>>,
    /// The text of the tokens held.
    text: Vec<u8>,
    /// Tokens that are certain, and that nobody has heard of yet.
    certain: VecDeque<Token>,
    /// The tokens that must not be drawn next.
    excluded: HashMap<u32, ()>,
    /// How often the text has gone back since a token became certain.
    returns: usize,
}

impl<S> Bans<S> {
    /// `None` when there is no string.
    pub(super) fn new(strings: &[String], tokenizer: &Arc<Tokenizer>) -> Result<Option<Bans<S>>, SamplerError> {
        if strings.iter().any(String::is_empty) {
            return Err(SamplerError::EmptyBan);
        }
        if strings.is_empty() {
            return Ok(None);
        }
        let texts = strings.iter().map(|text| text.as_bytes().to_vec()).collect();
        let strings = Arc::new(Strings { tokenizer: tokenizer.clone(), texts, within: OnceLock::new() });
        let (held, text, certain, excluded) = Default::default();
        Ok(Some(Bans { strings, held, text, certain, excluded, returns: 0 }))
    }

    /// The tokens that must not be drawn next.
    pub(super) fn excluded(&self) -> &HashMap<u32, ()> {
        &self.excluded
    }

    /// Judges a token that was drawn.
    pub(super) fn judge(&mut self, id: u32) -> Verdict<S> {
        let held = self.text.len();
        self.text.extend_from_slice(self.strings.tokenizer.token_bytes(id, false));
        let (found, begun) = (self.strings.find(&self.text), self.strings.begun(&self.text));
        self.text.truncate(held);
        match found {
            None if begun == 0 => Verdict::Certain,
            None => Verdict::Open,
            Some(start) if start < held && self.returns < MOST_RETURNS => self.go_back(start),
            Some(start) => {
                let tokens =
                    if start < held { self.strings.completing(&self.text) } else { self.strings.within().into() };
                self.excluded.extend(tokens.into_iter().map(|id| (id, ())));
                Verdict::Again
            }
        }
    }

    /// Goes back to the token that has byte `start` of the text held, which must not be drawn there again.
    fn go_back(&mut self, start: usize) -> Verdict<S> {
        let mut end = 0;
        let kept = self.held.iter().take_while(|held| {
            end += held.length;
            end <= start
        });
        let kept = kept.count();
        let mut lost = self.held.drain(kept..);
        let Some(Held { token, before, mut excluded, .. }) = lost.next() else { return Verdict::Certain };
        let count = 1 + lost.count();
        self.text.truncate(self.held.iter().map(|held| held.length).sum());
        excluded.insert(token.id, ());
        self.excluded = excluded;
        self.returns += 1;
        Verdict::Back(count, before)
    }

    /// Takes a token that was written: with the state `before` it, if it is held back.
    pub(super) fn push(&mut self, token: Token, before: Option<S>) {
        let excluded = std::mem::take(&mut self.excluded);
        let Some(before) = before else {
            self.release();
            self.certain.push_back(token);
            self.returns = 0;
            return;
        };
        let bytes = self.strings.tokenizer.token_bytes(token.id, false);
        self.text.extend_from_slice(bytes);
        self.held.push(Held { token, length: bytes.len(), before, excluded });
        self.tell(self.settled());
    }

    /// How many of the tokens held are certain: those before the one in which a string may have begun. Another one may
    /// take its place, so what may have begun right before it counts as well.
    fn settled(&self) -> usize {
        let (mut tokens, mut end) = (self.held.len(), self.text.len());
        loop {
            let begun = self.strings.begun(&self.text[..end]);
            if begun == 0 {
                return tokens;
            }
            let start = end - begun;
            while end > start {
                tokens -= 1;
                end -= self.held[tokens].length;
            }
        }
    }

    /// Holds nothing back any more: the text has ended.
    pub(super) fn release(&mut self) {
        self.tell(self.held.len());
    }

    /// The next token that is certain.
    pub(super) fn certain(&mut self) -> Option<Token> {
        self.certain.pop_front()
    }

    /// The text of all tokens that nobody has heard of yet.
    pub(super) fn into_text(mut self) -> String {
        self.release();
        self.certain.into_iter().map(|token| token.text).collect()
    }

    fn tell(&mut self, n: usize) {
        for held in self.held.drain(..n) {
            self.text.drain(..held.length);
            self.certain.push_back(held.token);
            self.returns = 0;
        }
    }
}
