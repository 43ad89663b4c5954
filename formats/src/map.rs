//! Mapping a file into memory: the one place of this crate where the compiler has to trust us.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use crate::lock::lock;
use crate::mapped::{self, Known};

/// Why a file could not be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The file is missing, or may not be read.
    #[error("{}: cannot open: {source}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, a pipe, a device: nothing with a length that stays.
    #[error("{}: is {what}, expected a regular file", .path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// The file has no bytes.
    #[error("{}: the file is empty (a failed download?)", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file does not fit the address space of this machine.
    #[error("{}: {bytes} bytes are more than this machine can address", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The system refused the mapping.
    #[error("{}: cannot map into memory: {source}", .path.display())]
    Map {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What the system should expect of a range of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It will be read from front to back: read well ahead.
    Sequential,
    /// It will be read soon: start now.
    WillNeed,
    /// It will not be read again soon: its pages may leave this process.
    DontNeed,
}

/// A file mapped read-only, from some byte to its end. It dereferences to its bytes.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    // Dropped before the map: an address is known only as long as it is the file's.
    _known: Known,
    map: Mmap,
}

impl MappedFile {
    /// Maps the regular file at `path`.
    pub fn open(path: impl Into<PathBuf>) -> Result<MappedFile, MapError> {
        MappedFile::open_from(path, 0)
    }

    /// The same without its first `start` bytes, a multiple of the page's size: a hint is about pages of the file.
    pub fn open_from(path: impl Into<PathBuf>, start: u64) -> Result<MappedFile, MapError> {
        let path = path.into();
        // Asked before opening, since opening a pipe waits for a writer.
        match std::fs::metadata(&path) {
            Ok(meta) => {
                if let Some(what) = irregular(&meta) {
                    return Err(MapError::NotRegular { path, what });
                }
            }
            Err(source) => return Err(MapError::Open { path, source }),
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(source) => return Err(MapError::Open { path, source }),
        };
        // Asked again of what was opened, which may no longer be what the first question was about.
        let bytes = match file.metadata() {
            Ok(meta) => match irregular(&meta) {
                Some(what) => return Err(MapError::NotRegular { path, what }),
                None => meta.len().saturating_sub(start),
            },
            Err(source) => return Err(MapError::Open { path, source }),
        };
        if bytes == 0 {
            return Err(MapError::Empty { path });
        }
        if isize::try_from(bytes).is_err() {
            return Err(MapError::TooLarge { path, bytes });
        }
        match map_read_only(&file, start) {
            Ok(map) => Ok(MappedFile { _known: mapped::know(&path, &map), path, map }),
            Err(source) => Err(MapError::Map { path, source }),
        }
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Advises the system about the bytes in `range`. A hint: where the system knows no such hint, or refuses it,
    /// nothing happens.
    ///
    /// Only whole pages inside `range` are given up by [`Advice::DontNeed`], so neighbours keep theirs.
    ///
    /// # Panics
    /// When `range` is not inside the file.
    pub fn advise(&self, range: Range<usize>, advice: Advice) {
        assert!(
            range.start <= range.end && range.end <= self.map.len(),
            "advice about {range:?} of {}",
            self.map.len()
        );
        advise(&self.map, range, advice);
    }

    /// Reads the whole file into memory and keeps it there.
    ///
    /// # Errors
    /// See [`lock`].
    pub fn lock(&self) -> io::Result<()> {
        lock(&self.map)
    }
}

/// What a file is when it is not a regular one.
pub(crate) fn irregular(meta: &std::fs::Metadata) -> Option<&'static str> {
    let kind = meta.file_type();
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    Some("a special file")
}

#[allow(unsafe_code)]
fn map_read_only(file: &File, start: u64) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only, so this process never changes the bytes behind a `&[u8]`. Another
    // process that rewrites or shortens the file while we read it can; no file mapping can prevent that. What that
    // could do here is bounded: the header is copied out and checked once, and no bit pattern of tensor data is an
    // invalid value. What lies behind the end of a file that became shorter is SIGBUS: see `mapped`.
    unsafe { MmapOptions::new().offset(start).map(file) }
}

/// The whole pages in `range`: a multiple of every page size in use (4, 16 and 64 KiB), so that rounding inward always
/// meets page borders.
#[cfg(any(unix, windows))]
fn whole_pages(range: Range<usize>) -> Range<usize> {
    const PAGE: usize = 64 << 10;
    range.start.next_multiple_of(PAGE)..range.end / PAGE * PAGE
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn advise(map: &Mmap, range: Range<usize>, advice: Advice) {
    // Hints may fail (an old kernel, a network file system); then the pages stay as they are, and that is right too.
    let _ = match advice {
        Advice::Sequential => map.advise_range(memmap2::Advice::Sequential, range.start, range.len()),
        Advice::WillNeed => map.advise_range(memmap2::Advice::WillNeed, range.start, range.len()),
        Advice::DontNeed => {
            let pages = whole_pages(range);
            if pages.is_empty() {
                return;
            }
            // SAFETY: the pages belong to a read-only mapping of a file and are never dirty: the next access finds the
            // same bytes in the file again.
            unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, pages.start, pages.len()) }
        }
    };
}

#[cfg(windows)]
#[allow(unsafe_code)]
fn advise(map: &Mmap, range: Range<usize>, advice: Advice) {
    use windows_sys::Win32::System::Memory::{PrefetchVirtualMemory, VirtualUnlock, WIN32_MEMORY_RANGE_ENTRY};
    use windows_sys::Win32::System::Threading::GetCurrentProcess;

    let pages = whole_pages(range.clone());
    match advice {
        // It reads ahead by itself.
        Advice::Sequential => {}
        Advice::WillNeed if !range.is_empty() => {
            let bytes = &map[range];
            let entry = WIN32_MEMORY_RANGE_ENTRY {
                VirtualAddress: bytes.as_ptr().cast_mut().cast(),
                NumberOfBytes: bytes.len(),
            };
            // SAFETY: one entry, whose bytes are there; they are read.
            unsafe { PrefetchVirtualMemory(GetCurrentProcess(), 1, &entry, 0) };
        }
        Advice::DontNeed if !pages.is_empty() => {
            let bytes = &map[pages];
            // SAFETY: the bytes are there. To unlock what is not locked takes it out of the working set; the next
            // access finds the same bytes in the file again.
            unsafe { VirtualUnlock(bytes.as_ptr().cast(), bytes.len()) };
        }
        _ => {}
    }
}

#[cfg(not(any(unix, windows)))]
fn advise(_: &Mmap, _: Range<usize>, _: Advice) {}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_every_advice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i * 31 % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = MappedFile::open(&path).unwrap();
        for advice in [Advice::WillNeed, Advice::Sequential, Advice::DontNeed] {
            map.advise(0..bytes.len(), advice);
            map.advise(1..70_001, advice);
            map.advise(5..5, advice);
            assert!(*map == bytes, "{advice:?} changed what is read");
        }
    }

    #[test]
    fn only_regular_files_with_bytes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(MappedFile::open(dir.path().join("none")), Err(MapError::Open { .. })));
        assert!(matches!(MappedFile::open(dir.path()), Err(MapError::NotRegular { what: "a directory", .. })));
        let empty = dir.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(MappedFile::open(empty), Err(MapError::Empty { .. })));
        #[cfg(unix)]
        assert!(matches!(MappedFile::open("/dev/null"), Err(MapError::NotRegular { what: "a device", .. })));
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        match std::process::Command::new("mkfifo").arg(&pipe).status() {
            Ok(status) if status.success() => {}
            _ => return eprintln!("SKIPPED: no mkfifo here, the pipe case is not tested"),
        }
        assert!(matches!(MappedFile::open(pipe), Err(MapError::NotRegular { what: "a pipe", .. })));
    }
}
