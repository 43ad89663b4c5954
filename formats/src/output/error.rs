//! Why an output file could not be made.

use std::io;
use std::path::PathBuf;

/// Why an output file could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The directory of the output is not there.
    #[error("{}: the directory {} does not exist", .path.display(), .dir.display())]
    NoDirectory {
        /// The output.
        path: PathBuf,
        /// Its directory.
        dir: PathBuf,
    },
    /// The output is a directory.
    #[error("{}: is a directory, expected the name of a file to write", .path.display())]
    IsDirectory {
        /// The output.
        path: PathBuf,
    },
    /// The output is something that is being read.
    #[error("{}: output and input are the same file; choose another name", .path.display())]
    SameAsInput {
        /// The output.
        path: PathBuf,
    },
    /// The output could not be created.
    #[error("{}: cannot create: {source}", .path.display())]
    Create {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing stopped, on a full disk for example.
    #[error("{}: cannot write: {source}", .path.display())]
    Write {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was to be written could not be read where it is mapped.
    #[error("{}: cannot write: what is read for it became shorter meanwhile, or cannot be read", .path.display())]
    InputLost {
        /// The output.
        path: PathBuf,
    },
    /// Everything was written, but could not be put in its place.
    #[error("{}: cannot put the finished file in place: {source}", .path.display())]
    Place {
        /// The output.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
