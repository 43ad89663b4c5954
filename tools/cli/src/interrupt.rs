//! Ctrl-C.
//!
//! Most commands end at once, with exit code 130. One that has something to clean up or to show listens instead and ends in its own
//! way; a second Ctrl-C ends even that.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

/// The shell's convention for SIGINT: 128 + 2.
pub const EXIT_CODE: u8 = 130;

static LISTENING: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// The user pressed Ctrl-C.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Installs the handler.
pub fn set_up() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if !LISTENING.load(Ordering::SeqCst) || REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT_CODE));
        }
    })
}

/// While the returned value lives, Ctrl-C only sets a flag.
pub fn listen() -> Listening {
    REQUESTED.store(false, Ordering::SeqCst);
    LISTENING.store(true, Ordering::SeqCst);
    Listening
}

/// See [`listen`].
pub struct Listening;

impl Listening {
    /// Whether Ctrl-C was pressed.
    pub fn requested(&self) -> bool {
        REQUESTED.load(Ordering::SeqCst)
    }

    /// The flag itself, for what polls one.
    pub fn flag(&self) -> &'static AtomicBool {
        &REQUESTED
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENING.store(false, Ordering::SeqCst);
    }
}
