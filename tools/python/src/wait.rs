//! How a Python thread waits: without the GIL, so that others go on, and with an eye on signals, so that Ctrl-C is
//! heard.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use pyo3::prelude::*;
use quipu_runtime::Cancel;

use crate::failure::Error;

/// How long a signal may go unheard.
pub const GLANCE: Duration = Duration::from_millis(50);

/// Waits for what `from` brings. When Python's handler of a signal raises an exception, `cancel` is raised.
///
/// # Errors
/// That exception, and one when nothing comes any more.
pub fn receive<T: Send>(py: Python<'_>, from: &mut Receiver<T>, cancel: &Cancel) -> PyResult<T> {
    loop {
        // It is one thread's at a time, so the closure takes it along.
        let alone = &mut *from;
        match py.detach(move || alone.recv_timeout(GLANCE)) {
            Ok(found) => return Ok(found),
            Err(RecvTimeoutError::Timeout) => py.check_signals().inspect_err(|_| cancel.cancel())?,
            Err(RecvTimeoutError::Disconnected) => return Err(gone()),
        }
    }
}

/// Does `work` on a thread of its own, and waits for it as [`receive`] does.
///
/// # Errors
/// Those of [`receive`], and when there is no thread to be had.
pub fn apart<T: Send + 'static>(
    py: Python<'_>,
    cancel: &Cancel,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (to, mut from) = channel();
    let spawned = std::thread::Builder::new().name("quipu-work".into()).spawn(move || drop(to.send(work())));
    let thread = spawned.map_err(|error| Error::new_err(format!("the system gives no thread: {error}")))?;
    let found = receive(py, &mut from, cancel);
    // Work that was cancelled has something to put away.
    let _ = py.detach(|| thread.join());
    found
}

/// The exception when a model's thread has ended.
pub fn gone() -> PyErr {
    Error::new_err("the model is closed")
}
