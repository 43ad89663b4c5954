//! A grammar of llguidance as one of the runtime.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use llguidance::Matcher;
use quipu_runtime::constraint::{Constraint, ConstraintError, Grammar, TokenMask};

/// A grammar, compiled for one vocabulary.
pub struct Compiled {
    /// At the beginning of a text; only ever copied.
    beginning: Mutex<Matcher>,
}

impl Compiled {
    /// A grammar whose matcher stands at the beginning of a text. What may come first is worked out now, and what the
    /// lexer finds out meanwhile is there for every text.
    pub fn new(mut beginning: Matcher) -> Result<Compiled, String> {
        if beginning.is_stopped() && beginning.is_error() {
            return Err(beginning.get_error().unwrap_or_default());
        }
        if !beginning.is_stopped() {
            beginning.compute_mask().map_err(|error| error.to_string())?;
        }
        Ok(Compiled { beginning: Mutex::new(beginning) })
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").finish_non_exhaustive()
    }
}

impl Grammar for Compiled {
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError> {
        // A copy changes nothing, so no panic leaves half of a change behind.
        let beginning = self.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Box::new(Place(beginning.deep_clone())))
    }
}

impl Compiled {
    /// The place after a beginning of a text; none if no text begins like that.
    pub fn after(&self, begun: &[u8]) -> Option<Place> {
        let mut matcher = self.beginning.lock().unwrap_or_else(PoisonError::into_inner).deep_clone();
        // The parser sees bytes, however they are cut into tokens.
        let tokens = matcher.tok_env().ok()?.tokenize_bytes(begun);
        matcher.consume_tokens(&tokens).ok()?;
        Some(Place(matcher))
    }
}

/// A place in a text.
pub struct Place(Matcher);

impl Clone for Place {
    fn clone(&self) -> Place {
        Place(self.0.deep_clone())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.0.stop_reason()).finish()
    }
}

impl Constraint for Place {
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError> {
        if self.0.is_stopped() && self.0.stop_reason().is_ok() {
            // The grammar is at its end.
            return Ok(true);
        }
        let mask = self.0.compute_mask().map_err(|error| self.failure(&error.to_string()))?;
        next.insert_words(mask.as_slice());
        self.0.is_accepting().map_err(|error| self.failure(&error.to_string()))
    }

    fn advance(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.0.consume_token(token).map_err(|error| match error.to_string() {
            error if error.contains("too many") || error.contains("omplex") => self.failure(&error),
            _ => ConstraintError::Refused { token },
        })
    }

    fn copy(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

impl Place {
    /// Whether the text may end here.
    pub fn is_complete(&mut self) -> Result<bool, ConstraintError> {
        if self.0.is_stopped() && self.0.stop_reason().is_ok() {
            return Ok(true);
        }
        self.0.is_accepting().map_err(|error| self.failure(&error.to_string()))
    }

    fn failure(&self, error: &str) -> ConstraintError {
        match first_line(error) {
            "NoExtensionBias" => ConstraintError::DeadEnd,
            reason => ConstraintError::TooCostly { reason: reason.into() },
        }
    }
}

/// What comes after it is no business of whoever reads the message.
pub fn first_line(error: &str) -> &str {
    error.lines().find(|line| !line.trim().is_empty()).unwrap_or(error).trim()
}
