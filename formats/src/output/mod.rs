//! Outputs: files that appear under their names only when they are complete, and that are never what is being read.
//!
//! - [`OutputFile`]: a file under construction. [`check`]: whether there could be one, before hours of work.
//! - [`Inputs`]: what is read meanwhile. No output replaces it or writes to it, under whatever name: the path itself, a
//!   link of either kind, the blob behind a snapshot's link, a descriptor (`/proc/self/fd/3`, `/dev/stdout`).
//! - [`unfinished`]: the temporary files that there are at the moment, for a process that is about to be ended.

mod error;
mod file;
mod inputs;
mod leftover;
mod target;
pub mod unfinished;

pub use error::OutputError;
pub use file::{OutputFile, check, is_stream};
pub use inputs::Inputs;
