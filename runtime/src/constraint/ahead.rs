//! What may come next in a text, worked out before it is asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ConstraintError;
use super::grammar::{Constraint, Grammar};
use super::mask::TokenMask;

/// How many forced tokens go through the model as one piece at most.
const PIECE: usize = 64;

/// Where a text stands in its grammar, and what may come next.
///
/// Handles are shared: whoever comes first works, the thread of the scheduler or the one that draws, and the other
/// waits or finds it done. So nobody depends on how fast anybody is.
#[derive(Debug)]
pub(crate) struct Ahead(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Behind the forced tokens.
    constraint: Box<dyn Constraint>,
    /// Tokens that come next because no others may.
    forced: VecDeque<u32>,
    /// What may come after them.
    next: Option<Result<Options, ConstraintError>>,
    vocabulary: usize,
    /// Tokens that end a text.
    ends: Arc<[u32]>,
}

#[derive(Clone, Debug)]
struct Options {
    mask: TokenMask,
    may_end: bool,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    /// This token and no other.
    Forced(u32),
    /// Any token.
    Any,
    /// One of these; those that end a text are among them if it may end.
    Among(&'a TokenMask),
    /// Nothing, and the vocabulary has no token that says so.
    End,
}

impl Ahead {
    /// The beginning of a text in `grammar`. `ends` are the tokens that end it, in a vocabulary of so many.
    pub(crate) fn new(grammar: &dyn Grammar, vocabulary: usize, ends: Arc<[u32]>) -> Result<Ahead, ConstraintError> {
        let constraint = grammar.begin()?;
        let state = State { constraint, forced: VecDeque::new(), next: None, vocabulary, ends };
        Ok(Ahead(Arc::new(Mutex::new(state))))
    }

    /// Another handle to the same place.
    pub(crate) fn handle(&self) -> Ahead {
        Ahead(self.0.clone())
    }

    /// Whether there is something left to be worked out, and nobody is at it.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.try_lock().is_ok_and(|state| state.next.is_none())
    }

    /// Works out what may come next, unless that is known.
    pub(crate) fn work(&self) {
        // A panic in a grammar leaves the lock poisoned, and who draws then says so.
        if let Ok(mut state) = self.0.lock() {
            state.work();
        }
    }

    /// Calls `choose` with what may come next. Nothing changes until [`Ahead::advance`].
    pub(crate) fn choose<T, E: From<ConstraintError>>(
        &self,
        choose: impl FnOnce(Next<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.lock()?;
        state.work();
        if let Some(&token) = state.forced.front() {
            return choose(Next::Forced(token));
        }
        match state.next.as_ref() {
            Some(Ok(Options { mask, may_end: false })) if mask.is_empty() => Err(ConstraintError::DeadEnd.into()),
            Some(Ok(Options { mask, .. })) if mask.is_empty() => choose(Next::End),
            Some(Ok(Options { mask, .. })) if mask.is_full() => choose(Next::Any),
            Some(Ok(Options { mask, .. })) => choose(Next::Among(mask)),
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(ConstraintError::Panicked.into()),
        }
    }

    /// Goes on with a token that was chosen, one that does not end the text.
    pub(crate) fn advance(&self, token: u32) -> Result<(), ConstraintError> {
        let mut state = self.lock()?;
        if state.forced.front() == Some(&token) {
            state.forced.pop_front();
            return Ok(());
        }
        state.constraint.advance(token)?;
        state.next = None;
        Ok(())
    }

    /// The token that comes next, if it is known that no other may.
    pub(crate) fn forced(&self) -> Option<u32> {
        self.lock().ok()?.forced.front().copied()
    }

    /// The tokens that come next, up to so many, as far as it is known that no others may.
    pub(crate) fn all_forced(&self, most: usize) -> Vec<u32> {
        // Who works out more holds the lock: then nothing is known yet.
        self.0.try_lock().map_or_else(|_| Vec::new(), |state| state.forced.iter().take(most).copied().collect())
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>, ConstraintError> {
        self.0.lock().map_err(|_| ConstraintError::Panicked)
    }
}

/// The same place, from which both go on by themselves.
impl Clone for Ahead {
    fn clone(&self) -> Ahead {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (constraint, forced, next) = (state.constraint.copy(), state.forced.clone(), state.next.clone());
        let state = State { constraint, forced, next, vocabulary: state.vocabulary, ends: state.ends.clone() };
        Ahead(Arc::new(Mutex::new(state)))
    }
}

impl State {
    fn work(&mut self) {
        while self.next.is_none() {
            match self.options() {
                Ok(Options { mask, may_end: false })
                    if self.forced.len() < PIECE
                        && let Some(token) = mask.only() =>
                {
                    match self.constraint.advance(token) {
                        Ok(()) => self.forced.push_back(token),
                        Err(error) => self.next = Some(Err(error)),
                    }
                }
                options => self.next = Some(options),
            }
        }
    }

    fn options(&mut self) -> Result<Options, ConstraintError> {
        let mut mask = TokenMask::new(self.vocabulary);
        let may_end = self.constraint.allow(&mut mask)?;
        for &end in &*self.ends {
            if may_end { mask.insert(end) } else { mask.remove(end) }
        }
        Ok(Options { mask, may_end })
    }
}
