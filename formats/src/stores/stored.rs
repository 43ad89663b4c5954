//! What is found in a store.

use std::path::PathBuf;

use crate::oddity::Oddity;

/// A model in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// A GGUF (the first part of one in several files), or a directory.
    pub path: PathBuf,
    /// The text of its licence, if the store has one of its own.
    pub licence: Option<PathBuf>,
    /// What the store has of it besides and is not used.
    pub oddities: Vec<Oddity>,
}
