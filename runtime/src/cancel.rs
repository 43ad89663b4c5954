//! The wish that work should end before it is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that says "stop", shared by whoever wants to stop and whoever works: all clones are the same flag. Any thread
/// may raise it at any time; the worker looks at it between two pieces of its work. It is never lowered again.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not raised yet.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody has asked for the end.
    pub fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag itself, for the crates below this one, which know only that.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }
}
