//! Fetching a model that a request names: what does it is given to the server, and tells how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::offer::Offer;

/// How far a model is.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// What is being done, in ollama's words.
    Status(&'a str),
    /// So much of a file is there.
    Bytes {
        /// The digits of its SHA-256, or of what else it is called by.
        digest: &'a str,
        /// Bytes that are there.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
}

/// Fetches the model that clients call so, tells how far it is, and stops within a moment when the flag becomes true.
/// Returns the model that is there now, or a sentence that says why there is none.
pub type Pull = Arc<dyn Fn(&str, &mut dyn FnMut(Step<'_>), &AtomicBool) -> Result<Offer, String> + Send + Sync>;

/// Lines as they come; whoever drops this stops the work.
#[derive(Debug)]
pub struct Progress {
    lines: UnboundedReceiver<String>,
    stop: Arc<AtomicBool>,
    /// Whether all lines are wanted, or the last alone.
    pub is_stream: bool,
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Progress {
    /// Of work that has not begun: where its lines go, and what tells it to stop.
    pub fn new(is_stream: bool) -> (Progress, UnboundedSender<String>, Arc<AtomicBool>) {
        let (sender, lines) = unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        (Progress { lines, stop: stop.clone(), is_stream }, sender, stop)
    }

    /// The next line; nothing after the last.
    pub async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// The same for who asks again when `context` is woken.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<String>> {
        self.lines.poll_recv(context)
    }
}
