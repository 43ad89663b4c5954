//! What happens while a model is fetched.

use std::time::Duration;

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It is asked what the model is made of.
    Asking,
    /// So much of a file is there.
    Bytes {
        /// The file, as its store calls it.
        file: &'a str,
        /// The digits of its digest.
        digest: &'a str,
        /// Bytes that are there.
        done: u64,
        /// Bytes of the file.
        total: u64,
    },
    /// Something did not come; it is asked for again after a while.
    Again {
        /// Why.
        why: &'a str,
        /// The while.
        wait: Duration,
    },
    /// Another program fetches the same file.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// All files are there; the model gets its name.
    Naming,
}
