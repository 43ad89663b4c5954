//! Rayon's threads, which converting and calibrating use.

use std::error::Error;
use std::sync::OnceLock;

/// The system gives this process no more threads.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the system starts no more threads for this process (its limit on processes, or the container's): {0}")]
pub struct ThreadsError(String);

/// Starts rayon's threads, unless that was done. By itself rayon panics when the system refuses them.
///
/// # Errors
/// When the system refuses them, now or the first time.
pub fn start() -> Result<(), ThreadsError> {
    static STARTED: OnceLock<Result<(), ThreadsError>> = OnceLock::new();
    let start = || match rayon::ThreadPoolBuilder::new().build_global() {
        // Without a cause it is that whoever uses this library has made them.
        Err(error) if error.source().is_some() => Err(ThreadsError(error.to_string())),
        _ => Ok(()),
    };
    STARTED.get_or_init(start).clone()
}
