//! Ctrl-C and the other requests to end: SIGTERM (`kill`, a service manager, a shutdown), SIGHUP (a closed terminal),
//! SIGQUIT (Ctrl-\), SIGXCPU (a limit). On Windows the console says as much: Ctrl-C, Ctrl-Break for SIGQUIT, a closed
//! window for SIGHUP, the end of the session or of the system for SIGTERM.
//!
//! Most commands end at once. One that has something to finish or to show listens instead and ends in its own way; a
//! second signal ends even that. However it ends, no temporary file stays.

use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quipu_formats::output::unfinished;
use quipu_runtime::Cancel;

/// No signal has come; the numbers of signals are above this.
const NONE: i32 = 0;
/// The number of Ctrl-C's signal, on every system.
const CTRL_C: i32 = 2;

static SIGNAL: AtomicI32 = AtomicI32::new(NONE);
static LISTENER: Mutex<Option<Listener>> = Mutex::new(None);

/// A command that ends in its own way.
struct Listener {
    only_ctrl_c: bool,
    cancel: Cancel,
    /// What is woken.
    wake: Option<Box<dyn Fn() + Send>>,
}

fn listener() -> MutexGuard<'static, Option<Listener>> {
    LISTENER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The user pressed Ctrl-C, or somebody wants this process to end.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The shell's convention: 128 and the number of the signal, 130 for Ctrl-C and 143 for SIGTERM. It means that a
/// signal came, and not that the work failed.
pub fn exit_code() -> u8 {
    let signal = match SIGNAL.load(Ordering::SeqCst) {
        NONE => CTRL_C,
        signal => signal,
    };
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// A signal came.
fn heard(signal: i32) {
    SIGNAL.store(signal, Ordering::SeqCst);
    match &*listener() {
        Some(l) if (signal == CTRL_C || !l.only_ctrl_c) && !l.cancel.cancelled() => {
            l.cancel.cancel();
            l.wake.iter().for_each(|wake| wake());
        }
        _ => end(),
    }
}

/// Ends the process because of a signal, from any thread and in the middle of anything.
pub fn end() -> ! {
    unfinished::remove_all();
    std::process::exit(exit_code().into())
}

/// Installs the handlers: a thread that waits for signals. A signal that whoever started this process had it ignore
/// (`nohup`, a job in the background of a script) stays ignored.
///
/// # Errors
/// When the system gives no thread.
#[cfg(unix)]
pub fn set_up() -> std::io::Result<()> {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    let signals = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, libc::SIGXCPU];
    let mut signals = signal_hook::iterator::Signals::new(signals.into_iter().filter(|&s| !crate::fatal::ignored(s)))?;
    // Too large a file is an error of the one who writes it, as any other.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    let wait = move || signals.forever().for_each(heard);
    quipu_runtime::host::threads::builder("quipu-signals")?.spawn(wait).map(|_| ())
}

/// Installs the handler.
///
/// # Errors
/// When the system refuses.
#[cfg(windows)]
pub fn set_up() -> std::io::Result<()> {
    crate::console::hear(heard)
}

/// Other systems send no signals.
///
/// # Errors
/// None.
#[cfg(not(any(unix, windows)))]
pub fn set_up() -> std::io::Result<()> {
    Ok(())
}

/// While the returned value lives, the signals only set a flag.
pub fn listen() -> Listening {
    begin(false, None)
}

/// As [`listen`], and the first signal calls `wake`.
pub fn listen_and_wake(wake: impl Fn() + Send + 'static) -> Listening {
    begin(false, Some(Box::new(wake)))
}

/// While the returned value lives, Ctrl-C only sets a flag. The other signals still end the process at once.
pub fn listen_to_ctrl_c() -> Listening {
    begin(true, None)
}

fn begin(only_ctrl_c: bool, wake: Option<Box<dyn Fn() + Send>>) -> Listening {
    let cancel = Cancel::new();
    *listener() = Some(Listener { only_ctrl_c, cancel: cancel.clone(), wake });
    Listening(cancel)
}

/// See [`listen`].
pub struct Listening(Cancel);

impl Listening {
    /// Whether a signal has come.
    pub fn requested(&self) -> bool {
        self.0.cancelled()
    }

    /// The flag that a signal raises.
    pub fn cancel(&self) -> &Cancel {
        &self.0
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        *listener() = None;
    }
}
