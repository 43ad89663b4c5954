//! Where the fixtures are, and where bytes become files.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The directory of all tests' data.
pub(crate) const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data");

thread_local! {
    static SCRATCH: RefCell<Option<TempDir>> = const { RefCell::new(None) };
}

/// A directory of this thread.
pub(crate) fn scratch() -> PathBuf {
    SCRATCH.with_borrow_mut(|scratch| {
        let dir = scratch.get_or_insert_with(|| {
            // In memory where there is such a place: a disk would take most of the time.
            let dir = TempDir::new_in("/dev/shm").or_else(|_| tempfile::tempdir());
            dir.expect("a directory for temporary files")
        });
        dir.path().to_owned()
    })
}

/// The bytes as a file of that name in [`scratch`].
pub(crate) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    std::fs::write(&path, bytes).expect("room for a temporary file");
    path
}

/// What `write` writes to a path.
pub(crate) fn written(write: impl FnOnce(&Path)) -> Vec<u8> {
    let path = scratch().join("written");
    write(&path);
    let bytes = std::fs::read(&path).expect("what was just written");
    std::fs::remove_file(path).expect("what was just read");
    bytes
}
