//! Texts in which calls may come.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use quipu_runtime::chat::answer::{AnswerReader, Stage};
use quipu_runtime::constraint::{Constraint, ConstraintError, Grammar, TokenMask};
use quipu_runtime::tokenizer::Tokenizer;

use super::trigger::{Found, Triggers};
use crate::parser::{Compiled, Place as CallPlace};

/// Masks of free text that are kept: one for each beginning of a mark, and for some beginnings of objects.
const KEPT_MASKS: usize = 64;

/// Free text and calls. Whoever asks for it again gets the masks that were worked out before.
pub(crate) struct Offered {
    tokenizer: Arc<Tokenizer>,
    triggers: Triggers,
    /// What a call has to be from the trigger on.
    call: Arc<Compiled>,
    /// Whether there may be one call only.
    single: bool,
    /// By what the text ends with, as far as that matters.
    masks: Mutex<HashMap<Text, Arc<TokenMask>>>,
}

/// What matters of a text for what may begin in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Text {
    /// Its end, which may be the beginning of a call.
    end: Vec<u8>,
    /// Whether an object may begin a call.
    first: bool,
}

/// The beginning of an answer, and the place after a call.
const NOTHING: Text = Text { end: Vec::new(), first: true };

impl Offered {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, triggers: Triggers, call: Arc<Compiled>, single: bool) -> Offered {
        let offered = Offered { tokenizer, triggers, call, single, masks: Mutex::default() };
        // What may come first is worked out now.
        offered.mask(&NOTHING);
        offered
    }

    /// What becomes of a text with this token, which is one of text.
    fn extended(&self, text: &Text, token: u32) -> (Vec<u8>, Found) {
        let whole = [&text.end, self.tokenizer.token_bytes(token, true)].concat();
        let found = self.triggers.find(&whole, text.first);
        (whole, found)
    }

    /// The tokens that may come after `text`: all but those that begin a call and go on with it as no call does.
    fn mask(&self, text: &Text) -> Arc<TokenMask> {
        let kept = |masks: &HashMap<_, Arc<_>>| masks.get(text).cloned();
        if let Some(mask) = kept(&self.masks.lock().unwrap_or_else(PoisonError::into_inner)) {
            return mask;
        }
        let mut mask = TokenMask::full(self.tokenizer.vocab_size());
        let mut known: HashMap<Vec<u8>, bool> = HashMap::new();
        for token in 0..self.tokenizer.vocab_size() as u32 {
            if self.tokenizer.is_control(token) {
                continue;
            }
            if let (whole, Found::Call(begin)) = self.extended(text, token) {
                let begun = &whole[begin..];
                let is = known.entry(begun.to_vec()).or_insert_with(|| self.call.after(begun).is_some());
                if !*is {
                    mask.remove(token);
                }
            }
        }
        let mask = Arc::new(mask);
        let mut masks = self.masks.lock().unwrap_or_else(PoisonError::into_inner);
        if masks.len() >= KEPT_MASKS {
            masks.retain(|text, _| *text == NOTHING || !text.first);
        }
        if masks.len() < KEPT_MASKS {
            masks.insert(text.clone(), mask.clone());
        }
        mask
    }
}

impl fmt::Debug for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offered").field("triggers", &self.triggers).finish_non_exhaustive()
    }
}

/// The grammar of an answer that may have calls in it.
#[derive(Debug)]
pub(crate) struct TextWithCalls {
    pub(crate) offered: Arc<Offered>,
    /// Tells thoughts apart, from the end of the prompt on.
    pub(crate) thoughts: AnswerReader,
}

impl Grammar for TextWithCalls {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        let (offered, thoughts) = (self.offered.clone(), Some(self.thoughts.clone()));
        Ok(Box::new(Place { offered, thoughts, state: State::Text(NOTHING) }))
    }
}

/// A place in such a text.
#[derive(Debug)]
struct Place {
    offered: Arc<Offered>,
    /// As long as the answer may not have begun yet.
    thoughts: Option<AnswerReader>,
    state: State,
}

#[derive(Debug)]
enum State {
    Text(Text),
    Call(Box<CallPlace>),
    /// After the only call.
    Called,
}

impl Place {
    fn is_thinking(&self) -> bool {
        self.thoughts.as_ref().is_some_and(|reader| reader.stage() == Stage::Thinking)
    }

    /// Whether `token` is no part of the answer: one of the thoughts, or the one that ends them.
    fn is_thought(&mut self, token: u32) -> bool {
        let before = self.is_thinking();
        let Some(reader) = &mut self.thoughts else { return false };
        let text = String::from_utf8_lossy(self.offered.tokenizer.token_bytes(token, true)).into_owned();
        reader.push(&text);
        let stage = reader.stage();
        if stage == Stage::Answering {
            self.thoughts = None;
        }
        before || stage == Stage::Thinking
    }

    /// The beginning of a call with these bytes of it.
    fn call(&self, token: u32, begun: &[u8]) -> Result<State, ConstraintError> {
        self.offered
            .call
            .after(begun)
            .map(|place| State::Call(Box::new(place)))
            .ok_or(ConstraintError::Refused { token })
    }
}

impl Constraint for Place {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        if self.is_thinking() {
            *next = TokenMask::full(next.vocabulary());
            return Ok(true);
        }
        match &mut self.state {
            State::Text(text) => {
                next.clone_from(&self.offered.mask(text));
                Ok(true)
            }
            State::Call(place) => place.allow(next),
            State::Called => Ok(true),
        }
    }

    fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
        if self.is_thought(token) {
            self.state = State::Text(NOTHING);
            return Ok(());
        }
        self.state = match &mut self.state {
            State::Text(_) if self.offered.triggers.tokens.contains(&token) => self.call(token, &[])?,
            State::Text(_) if self.offered.tokenizer.is_control(token) => {
                State::Text(Text { end: Vec::new(), first: false })
            }
            State::Text(text) => match self.offered.extended(text, token) {
                (whole, Found::Call(begin)) => self.call(token, &whole[begin..])?,
                (whole, Found::Text { keep, first }) => State::Text(Text { end: whole[keep..].to_vec(), first }),
            },
            State::Call(place) => {
                place.advance(token)?;
                match place.is_complete()? {
                    false => return Ok(()),
                    true if self.offered.single => State::Called,
                    true => State::Text(NOTHING),
                }
            }
            State::Called => return Err(ConstraintError::Refused { token }),
        };
        Ok(())
    }

    fn copy(&self) -> Box<dyn Constraint> {
        let state = match &self.state {
            State::Text(text) => State::Text(text.clone()),
            State::Call(place) => State::Call(place.clone()),
            State::Called => State::Called,
        };
        Box::new(Place { offered: self.offered.clone(), thoughts: self.thoughts.clone(), state })
    }
}
