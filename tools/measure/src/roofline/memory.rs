//! Memory to read from: far more than the caches hold, far less than there is.

use memmap2::MmapMut;
use quipu_runtime::host::cpu::{self, Cache};
use quipu_runtime::host::memory;
use quipu_runtime::pool::Pool;

/// Bytes read at a time by a thread.
const STRIDE: usize = 1 << 20;

/// The size of pages that is asked for; a system that has no others gives those that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pages {
    Large,
    Small,
}

/// Memory that was written to.
pub(super) struct Memory(MmapMut);

impl Memory {
    /// As much as should be read by the threads of `pool`, which each write what will be their share: the system puts
    /// it near them.
    pub(super) fn new(pages: Pages, pool: &mut Pool) -> std::io::Result<Memory> {
        let mut memory = MmapMut::map_anon(bytes_to_read(pool.threads()))?;
        #[cfg(target_os = "linux")]
        {
            use memmap2::Advice;
            let _ = memory.advise(if pages == Pages::Large { Advice::HugePage } else { Advice::NoHugePage });
        }
        #[cfg(not(target_os = "linux"))]
        let _ = pages;
        // Pages come into being when they are written to; those that are only read would all be the same page of zeros.
        let mut nothing = vec![(); pool.threads()];
        pool.for_items(&mut nothing, &mut memory.chunks_mut(STRIDE).collect::<Vec<_>>(), |_, _, part| part.fill(1));
        Ok(Memory(memory))
    }

    /// All of it.
    pub(super) fn parts(&self) -> &[[u8; STRIDE]] {
        self.0.as_chunks().0
    }
}

/// Bytes of the caches next to memory that so many threads can use.
pub(crate) fn caches(threads: usize) -> u64 {
    let last = cpu::caches().last().copied().unwrap_or(Cache { level: 3, bytes: 32 << 20, shared_by: threads });
    of(last, threads)
}

/// Each of these caches serves some of the threads.
fn of(last: Cache, threads: usize) -> u64 {
    last.bytes.saturating_mul(threads.div_ceil(last.shared_by.max(1)) as u64)
}

/// Bytes that so many threads should read: far more than their caches hold, and no more than a quarter of what is
/// available.
pub(super) fn bytes_to_read(threads: usize) -> usize {
    const LEAST: u64 = 64 << 20;
    let quarter = memory::Memory::here().map_or(1 << 30, |m| m.available / 4);
    let bytes = beyond(caches(threads)).min(quarter).max(LEAST);
    (bytes as usize).next_multiple_of(STRIDE)
}

/// Sixteen times as much, within bounds.
fn beyond(caches: u64) -> u64 {
    caches.saturating_mul(16).clamp(512 << 20, 2 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_more_to_read_than_caches_hold_and_less_than_memory() {
        let bytes = bytes_to_read(1);
        assert!(bytes.is_multiple_of(STRIDE) && bytes <= 2 << 30);
        let cache = |bytes, shared_by| Cache { level: 3, bytes, shared_by };
        assert_eq!(of(cache(32 << 20, 2), 2), 32 << 20);
        // Each thread may bring a cache of its own into play.
        assert_eq!(of(cache(32 << 20, 1), 3), 96 << 20);
        assert_eq!(of(cache(32 << 20, 2), 3), 64 << 20);
        assert_eq!([16 << 20, 64 << 20, 260 << 20].map(beyond), [512 << 20, 1 << 30, 2 << 30]);
    }
}
