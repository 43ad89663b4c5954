//! The temporary files that there are at the moment, so that a process that is about to end can remove them.
//!
//! This library handles no signals. A program that does calls [`remove_all`] before it exits; a handler of a signal,
//! which may do next to nothing, unlinks each of [`names`].

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::shared_text::SharedText;

/// The longest path that Linux takes, with the zero at its end.
const LONGEST: usize = 4096;

/// Outputs that are known at the same time: one as a rule, or the parts of a model. More than these are written as
/// well, but a signal may leave them.
const SLOTS: usize = 256;

static FILES: [Slot; SLOTS] = [const { Slot { taken: AtomicBool::new(false), path: SharedText::new() } }; SLOTS];

/// Held while a temporary file is made, and for ever once all were removed.
static MAKING: Mutex<()> = Mutex::new(());

struct Slot {
    taken: AtomicBool,
    path: SharedText<LONGEST>,
}

/// A temporary file that is known, until this is dropped.
#[derive(Debug)]
pub(super) struct Known(Option<usize>);

/// From now on `path` is removed by [`remove_all`].
pub(super) fn know(path: &Path) -> Known {
    let free = |slot: &Slot| slot.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let slot = FILES.iter().position(free);
    if let Some(slot) = slot {
        FILES[slot].path.set(path.as_os_str().as_encoded_bytes());
    }
    Known(slot)
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            FILES[slot].path.clear();
            FILES[slot].taken.store(false, Ordering::Release);
        }
    }
}

/// While this lives, no temporary file is made and none was left between its making and its being known.
pub(super) fn making() -> MutexGuard<'static, ()> {
    MAKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The paths of all temporary files, each with a zero at its end. Nothing is allocated and nothing waits.
pub fn names() -> impl Iterator<Item = &'static SharedText<LONGEST>> {
    FILES.iter().map(|slot| &slot.path).filter(|path| path.is_set())
}

/// Removes all temporary files. From then on none can be made: whoever tries waits for ever, so the process has to end.
pub fn remove_all() {
    std::mem::forget(making());
    for name in names() {
        let path = name.bytes();
        #[cfg(unix)]
        let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&path[..]);
        #[cfg(not(unix))]
        let path = &*String::from_utf8_lossy(&path);
        let _ = std::fs::remove_file(path);
    }
}
