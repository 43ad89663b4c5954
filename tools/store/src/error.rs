//! Why something could not be done with a store.

use std::io;
use std::path::PathBuf;

use quipu_formats::stores;

/// Why something could not be done with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The name, or what the store has of it.
    #[error(transparent)]
    Stored(#[from] stores::StoreError),
    /// A name of no store.
    #[error("{name}: this is no model of a store; expected `hf:ORG/REPO[:TYPE]` or `ollama:NAME[:TAG]`")]
    NoStore {
        /// The name.
        name: String,
    },
    /// No home directory is known, and no variable says where the store is.
    #[error("{name}: no directory is known for this store; {variable} can name one")]
    NoDirectory {
        /// The name.
        name: String,
        /// What would tell where it is.
        variable: &'static str,
    },
    /// A file can't be read or removed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
