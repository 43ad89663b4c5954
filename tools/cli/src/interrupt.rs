//! Ctrl-C and the request to terminate (SIGTERM: `kill`, a service manager, a shutdown).
//!
//! Most commands end at once. One that has something to clean up or to show listens instead and ends in its own way; a
//! second signal ends even that.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Signals have numbers above this; it means that none has come.
const NONE: i32 = 0;
/// The number of Ctrl-C's signal, on every system.
const CTRL_C: i32 = 2;

static LISTENING: AtomicBool = AtomicBool::new(false);
static ONLY_CTRL_C: AtomicBool = AtomicBool::new(false);
static REQUESTED: AtomicBool = AtomicBool::new(false);
static SIGNAL: AtomicI32 = AtomicI32::new(NONE);

/// The user pressed Ctrl-C, or somebody wants this process to end.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The shell's convention: 128 and the number of the signal, 130 for Ctrl-C and 143 for SIGTERM.
pub fn exit_code() -> u8 {
    let signal = match SIGNAL.load(Ordering::SeqCst) {
        NONE => CTRL_C,
        signal => signal,
    };
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

fn heard(signal: i32) {
    SIGNAL.store(signal, Ordering::SeqCst);
    let listening = LISTENING.load(Ordering::SeqCst) && (signal == CTRL_C || !ONLY_CTRL_C.load(Ordering::SeqCst));
    if !listening || REQUESTED.swap(true, Ordering::SeqCst) {
        std::process::exit(exit_code().into());
    }
}

/// Installs the handlers: a thread that waits for signals.
#[cfg(unix)]
pub fn set_up() -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let wait = move || signals.forever().for_each(heard);
    std::thread::Builder::new().name("quipu-signals".to_string()).spawn(wait).map(|_| ())
}

/// Installs the handler.
#[cfg(not(unix))]
pub fn set_up() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| heard(CTRL_C))
}

/// While the returned value lives, the signals only set a flag.
pub fn listen() -> Listening {
    begin(false)
}

/// While the returned value lives, Ctrl-C only sets a flag. To terminate still means to end at once.
pub fn listen_to_ctrl_c() -> Listening {
    begin(true)
}

fn begin(only_ctrl_c: bool) -> Listening {
    REQUESTED.store(false, Ordering::SeqCst);
    ONLY_CTRL_C.store(only_ctrl_c, Ordering::SeqCst);
    LISTENING.store(true, Ordering::SeqCst);
    Listening
}

/// See [`listen`].
pub struct Listening;

impl Listening {
    /// Whether a signal has come.
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
