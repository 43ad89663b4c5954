//! What a rendering knows, whatever part of it runs.

use std::rc::Rc;

use super::budget::step;
use super::error::{Result, fail};
use super::value::Namespace;
use crate::chat::date::DateTime;

/// How deep evaluation may be nested, expressions, blocks and macros in each other; the thread's stack is made for it
/// (`stack.rs`).
const MAX_DEPTH: usize = 1000;

/// One rendering.
pub(super) struct Run {
    pub(super) now: DateTime,
    depth: usize,
    /// All that were made, to be emptied at the end: they may hold themselves.
    pub(super) namespaces: Vec<Rc<Namespace>>,
}

impl Run {
    pub(super) fn new(now: DateTime) -> Run {
        Run { now, depth: 0, namespaces: Vec::new() }
    }

    /// Runs `work` one level deeper.
    pub(super) fn deeper<T>(&mut self, work: impl FnOnce(&mut Run) -> Result<T>) -> Result<T> {
        step(1)?;
        if self.depth >= MAX_DEPTH {
            return fail!("its macros, blocks and expressions are nested more than {MAX_DEPTH} levels deep");
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }
}
