//! Why there is no bundle.

use std::io;
use std::path::PathBuf;

use crate::gguf::GgufError;

/// Why a bundle can't be written, or read by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The program can't be read.
    #[error("{}: cannot read the program: {source}", .path.display())]
    Read {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program does not know where it lies.
    #[error("the file of this program is not to be found, and the model is in it: {source}")]
    Lost {
        /// What the system said.
        source: io::Error,
    },
    /// What should become a bundle is no program.
    #[error("{}: this is no program for Linux or Windows, expected `quipu` for one of them", .path.display())]
    NotProgram {
        /// The file.
        path: PathBuf,
    },
    /// A program for macOS.
    #[error(
        "{}: a program for macOS is signed as a whole, and this would break its signature; bundles are made for Linux \
         and Windows, and on macOS `quipu pack` makes a file that starts as fast",
        .path.display()
    )]
    MachO {
        /// The program.
        path: PathBuf,
    },
    /// A program without a place.
    #[error("{}: this program can carry no model: another one than `quipu`, or an older version", .path.display())]
    NoPlace {
        /// The program.
        path: PathBuf,
    },
    /// A program that has a model already.
    #[error("{}: is a bundle already; expected `quipu` without a model in it", .path.display())]
    Bundle {
        /// The program.
        path: PathBuf,
    },
    /// More than Windows starts.
    #[error(
        "{}: a program for Windows can have 4 GiB, and with this model it would have {bytes} bytes; take a smaller \
         type, or give the model beside the program",
        .path.display()
    )]
    TooLarge {
        /// The program.
        path: PathBuf,
        /// The bytes that the bundle would have.
        bytes: u64,
    },
    /// The end of the program's file is missing.
    #[error(
        "{}: the model in this program is not whole: the file has {found} bytes, and the model begins at {expected} \
         (an incomplete download, or `strip`?)",
        .path.display()
    )]
    Cut {
        /// The program.
        path: PathBuf,
        /// Where the model begins.
        expected: u64,
        /// The bytes of the file.
        found: u64,
    },
    /// The notes are none.
    #[error("{}: the notes in this program cannot be read: {reason}", .path.display())]
    Notes {
        /// The program.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The model in it.
    #[error(transparent)]
    Gguf(#[from] GgufError),
}
