//! A thread with a stack that is known to be enough.

use std::io;

use crate::host::threads;

/// Bytes of stack, most of which are never touched: `state.rs` bounds how deep evaluation goes, `parser.rs` how deep
/// parsing does, and both need less than this.
const STACK: usize = 32 << 20;

/// What `work` returns, run on a thread of its own.
///
/// # Errors
/// When the system refuses the thread.
pub(super) fn on_own_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = threads::builder_with_stack("chat template", STACK)?.spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
