//! Why a model of a store can't be had.

use std::fmt::Write;
use std::path::PathBuf;

use crate::hf::FileError;

/// Why a model of a store can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No such name can be.
    #[error("{name}: this is no name of a model; expected {expected}")]
    Name {
        /// The name.
        name: String,
        /// What names look like.
        expected: &'static str,
    },
    /// It is not there.
    #[error("{name}: there is no such model in {}{}", paths(.looked), listed(.there))]
    NotThere {
        /// The name.
        name: String,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
        /// The names that there are.
        there: Vec<String>,
    },
    /// More than one file could be meant.
    #[error("{name}: there are several; say which, as the end of the name: {}", .there.join(", "))]
    Several {
        /// The name.
        name: String,
        /// The ends that there are.
        there: Vec<String>,
    },
    /// A file of the store can't be read.
    #[error("{name}: {error}")]
    File {
        /// The name.
        name: String,
        /// Which and why.
        #[source]
        error: FileError,
    },
    /// A file of the store is not what such a file is.
    #[error("{name}: {}: {fault}", .path.display())]
    Broken {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: StoreFault,
    },
}

/// What can be wrong in a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFault {
    /// A manifest without a model.
    #[error("this manifest names no GGUF (a model of another kind, or one that runs elsewhere)")]
    NoModel,
    /// A digest that is none.
    #[error("the digest {0:?} is none: expected sha256: and 64 digits")]
    Digest(String),
    /// A blob that is not there.
    #[error("its file is not there: {0} (an incomplete download?)")]
    NoBlob(String),
    /// A blob of another size.
    #[error("its file has {found} bytes instead of {expected}: {blob} (an incomplete download?)")]
    Size {
        /// The file.
        blob: String,
        /// What the manifest says.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// An adapter on top of the model.
    #[error("there is an adapter (LoRA) to the model, which is not read; without it, this would be another model")]
    Adapter,
    /// What should be a snapshot's name is none.
    #[error("{0:?} is no snapshot's name")]
    Snapshot(String),
    /// Nothing says which of several snapshots is meant.
    #[error(
        "there are several snapshots, and no refs/main says which is meant; give its directory instead of the name"
    )]
    Snapshots,
    /// A snapshot without a model.
    #[error("there is neither a GGUF nor a checkpoint in it (an incomplete download?)")]
    EmptySnapshot,
}

/// Names that a message shows at most.
const SHOWN: usize = 12;

fn paths(paths: &[PathBuf]) -> String {
    match paths {
        [] => "any store: no home directory is known".into(),
        paths => paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or "),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return ", and no other".into();
    }
    let mut text = format!("; there are {}", names[..names.len().min(SHOWN)].join(", "));
    if names.len() > SHOWN {
        // A string takes everything.
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}
