//! What is to be known of a grammar.

use std::fmt;

use super::error::ConstraintError;
use super::mask::TokenMask;

/// What texts may be; each text begins it anew.
pub trait Grammar: fmt::Debug + Send + Sync {
    /// A text of which nothing is written yet.
    ///
    /// # Errors
    /// When the grammar cannot be followed.
    fn begin(&self) -> Result<Box<dyn Constraint>, ConstraintError>;
}

/// How far a text has come in its grammar.
///
/// Tokens that end a text are none of its business: it says whether the text may end, and the sampler draws such a
/// token or does not.
pub trait Constraint: fmt::Debug + Send {
    /// Inserts into `next`, which is empty, the tokens that may come next. Returns whether the text may end here. The
    /// same answer as long as the text does not go on.
    ///
    /// This may take milliseconds. A scheduler has a thread that does it while the model reads.
    ///
    /// # Errors
    /// When nobody can tell; then the text fails.
    fn allow(&mut self, next: &mut TokenMask) -> Result<bool, ConstraintError>;

    /// Goes on with `token`, one of those that [`Constraint::allow`] inserted.
    ///
    /// # Errors
    /// When that is not so.
    fn advance(&mut self, token: u32) -> Result<(), ConstraintError>;

    /// A copy that goes on by itself, to come back to this place.
    fn copy(&self) -> Box<dyn Constraint>;
}
