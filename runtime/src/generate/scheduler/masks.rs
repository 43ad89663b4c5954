//! The thread that follows grammars while the model reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use crate::constraint::Ahead;
use crate::host::threads;

/// A thread that works out what may come next in texts, one after the other. It is started when a text has a grammar.
///
/// Whoever draws a token does the work if this thread has not come to it, so no result depends on it, and without a
/// thread everything goes on.
#[derive(Debug, Default)]
pub(super) struct Masks(Option<Thread>);

#[derive(Debug)]
struct Thread {
    /// Taken when it is to end.
    jobs: Option<Sender<Ahead>>,
    thread: Option<JoinHandle<()>>,
}

impl Masks {
    /// Has it worked out what may come next at this place, if that is not known.
    pub(super) fn ask(&mut self, grammar: &Ahead) {
        if !grammar.is_idle() {
            return;
        }
        let thread = self.0.get_or_insert_with(Thread::start);
        if let Some(jobs) = &thread.jobs {
            // It ends only when this does.
            let _ = jobs.send(grammar.handle());
        }
    }
}

impl Thread {
    fn start() -> Thread {
        let (jobs, inbox) = channel::<Ahead>();
        let work = move || {
            for grammar in inbox {
                // Who draws finds out.
                let _ = catch_unwind(AssertUnwindSafe(|| grammar.work()));
            }
        };
        let thread = threads::builder("quipu-masks").and_then(|builder| builder.spawn(work)).ok();
        Thread { jobs: thread.is_some().then_some(jobs), thread }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its panics are caught.
            let _ = thread.join();
        }
    }
}
