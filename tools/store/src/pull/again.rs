//! How often something is tried, and how long it waits before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::error::PullError;
use super::event::Event;

/// Tries that bring nothing before it is given up.
const TRIES: u32 = 6;
/// Before the second try; twice as long before each further one.
const FIRST: Duration = Duration::from_millis(400);
/// The longest wait that a server can ask for.
const LONGEST: Duration = Duration::from_secs(60);

/// What goes on while a model is fetched: who hears of it, and whether it goes on.
pub(super) struct Watch<'a> {
    pub report: &'a mut dyn FnMut(Event<'_>),
    pub stop: &'a AtomicBool,
}

impl Watch<'_> {
    /// Whether it is to go on.
    pub fn check(&self) -> Result<(), PullError> {
        if self.stop.load(Ordering::Relaxed) { Err(PullError::Stopped) } else { Ok(()) }
    }

    fn sleep(&self, time: Duration) -> Result<(), PullError> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// Why something did not come, which may come the next time.
#[derive(Debug)]
pub(super) struct Failed {
    pub why: String,
    /// When the server wants to be asked again.
    pub after: Option<Duration>,
}

/// Counts tries.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Something came: from now on it counts anew.
    pub fn reset(&mut self) {
        self.0 = 0;
    }

    /// Waits before the next try of `url`.
    ///
    /// # Errors
    /// [`PullError::Unreachable`] if there were enough.
    pub fn again(&mut self, url: &str, failed: Failed, watch: &mut Watch<'_>) -> Result<(), PullError> {
        self.0 += 1;
        if self.0 >= TRIES {
            return Err(PullError::Unreachable { url: url.into(), why: failed.why, tries: self.0 });
        }
        let wait = failed.after.unwrap_or(FIRST * 2u32.pow(self.0 - 1)).min(LONGEST);
        (watch.report)(Event::Again { why: &failed.why, wait });
        watch.sleep(wait)
    }
}
