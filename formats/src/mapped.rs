//! The files that are mapped at the moment, so that a process can tell what an address belonged to.
//!
//! When a mapped file becomes shorter, or its disk fails, the system sends SIGBUS to whoever touches what is gone. This
//! library handles no signals: a program that does asks [`file_at`] what was lost, and ends with a sentence.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::shared_text::SharedText;

/// Files that are known at the same time; the largest checkpoints come in some 200. What is mapped besides has no name.
const SLOTS: usize = 512;

/// The longest name of a file, with a zero behind it.
const LONGEST: usize = 256;

static FILES: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];

struct Slot {
    /// The first address; 0 where there is no file, 1 while one comes or goes.
    start: AtomicUsize,
    end: AtomicUsize,
    name: SharedText<LONGEST>,
}

impl Slot {
    const fn new() -> Slot {
        Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), name: SharedText::new() }
    }
}

/// A file that is known, until this is dropped.
#[derive(Debug)]
pub(crate) struct Known(Option<usize>);

/// From now on [`file_at`] knows these bytes of the file at `path`.
pub(crate) fn know(path: &Path, bytes: &[u8]) -> Known {
    let free = |slot: &Slot| slot.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    let slot = FILES.iter().position(free);
    if let Some(slot) = slot.map(|slot| &FILES[slot]) {
        let range = bytes.as_ptr_range();
        slot.name.set(path.file_name().unwrap_or_default().as_encoded_bytes());
        slot.end.store(range.end as usize, Ordering::Release);
        slot.start.store(range.start as usize, Ordering::Release);
    }
    Known(slot)
}

impl Drop for Known {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            FILES[slot].start.store(0, Ordering::Release);
        }
    }
}

/// The name, without directories, of the file that is mapped at `address`. Nothing is allocated and nothing waits.
pub fn file_at(address: usize) -> Option<&'static SharedText<LONGEST>> {
    let here = |slot: &&Slot| {
        let start = slot.start.load(Ordering::Acquire);
        start > 1 && (start..slot.end.load(Ordering::Acquire)).contains(&address)
    };
    FILES.iter().find(here).map(|slot| &slot.name)
}

#[cfg(test)]
mod tests {
    use crate::map::MappedFile;

    #[test]
    fn an_address_leads_to_the_file_as_long_as_it_is_mapped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a file");
        std::fs::write(&path, [1; 100]).unwrap();
        let map = MappedFile::open(&path).unwrap();
        let address = map.as_ptr() as usize + 99;
        assert_eq!(super::file_at(address).map(|name| name.bytes()).as_deref(), Some(&b"a file"[..]));
        drop(map);
        // Another test may have mapped something there by now.
        assert_ne!(super::file_at(address).map(|name| name.bytes()).as_deref(), Some(&b"a file"[..]));
    }
}
