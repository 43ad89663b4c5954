//! Temporary files of processes that were killed: nothing can remove a file when its process gets SIGKILL, or the
//! machine loses its power. Whoever writes to the same target next does.
//!
//! A temporary file is locked as long as it is written, and a lock ends with its process. So a file that bears the name
//! of one, is not locked, and has not changed for a while is nobody's any more. Where a file system has no locks, such
//! files stay.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// The end of the name of a temporary file: no other program has such names.
pub(super) const SUFFIX: &str = ".quipu-tmp";

/// A file is made before it is locked.
const AGE: Duration = Duration::from_secs(60);

/// The beginning of the names of temporary files for `target`: part of its name, for somebody who wonders what they
/// are; as a whole it may leave no room for the rest.
pub(super) fn prefix(target: &Path) -> String {
    let name: String = target.file_name().unwrap_or_default().to_string_lossy().chars().take(16).collect();
    format!(".{name}.")
}

/// Locks a temporary file that was just made, if the file system can.
pub(super) fn hold(file: &File) {
    let _ = file.try_lock();
}

/// Removes from `dir` what begins with `prefix` and was left there.
pub(super) fn remove(dir: &Path, prefix: &str) {
    for entry in dir.read_dir().into_iter().flatten().flatten() {
        if is_one(&entry.file_name(), prefix)
            && entry.file_type().is_ok_and(|ty| ty.is_file())
            && is_left(&entry.path())
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn is_one(name: &OsStr, prefix: &str) -> bool {
    let random = |name: &str| Some(name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?.to_owned());
    name.to_str().and_then(random).is_some_and(|random| !random.contains('.'))
}

fn is_left(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let age = file.metadata().and_then(|meta| meta.modified()).ok().and_then(|changed| changed.elapsed().ok());
    age.is_some_and(|age| age > AGE) && file.try_lock().is_ok()
}
