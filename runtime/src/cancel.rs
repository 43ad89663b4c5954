//! How work is cancelled.

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

    /// Raises the flag.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is raised.
    pub fn cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The flag without this type, which the crates that this one is built on do not know.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }
}
