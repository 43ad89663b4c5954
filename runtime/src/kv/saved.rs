//! A sequence as a file has it, and back.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::file::{Fault, Head, page_checksum};
use super::page::Page;
use super::sequence::Sequence;
use super::types::PAGE;
use crate::host::threads;

/// More threads than this wait for memory.
const MOST_THREADS: usize = 8;

impl Sequence {
    /// Calls `f` with each part of each page, in order.
    pub(crate) fn each_page(&self, mut f: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        (0..self.len().div_ceil(PAGE))
            .try_for_each(|page| self.page_set(page).1.iter().try_for_each(|part| f(part.bytes())))
    }

    /// The head of a file that has all of its pages, and `text`, which begins with what it has read.
    pub(crate) fn head(&self, text: &[u32], identity: String, state: Vec<u8>) -> Head {
        let sum = |page| page_checksum(self.page_set(page).1.iter().map(|part| part.bytes()));
        let sums: Vec<u64> = (0..self.len().div_ceil(PAGE)).map(sum).collect();
        let (groups, page_bytes) = self.page_sizes();
        Head { identity, state, text: text.to_vec(), filled: self.len(), first: 0, groups, page_bytes, sums }
    }

    /// Groups of layers, and bytes of a page of all of them.
    fn page_sizes(&self) -> (usize, usize) {
        let parts = self.new_pages();
        (parts.len(), parts.iter().map(|part| part.bytes().len()).sum())
    }

    /// Fills this sequence, an empty one, with what such a head and the pages after it have, by up to `threads`
    /// threads.
    pub(crate) fn restore(&mut self, head: &Head, pages: &[u8], threads: usize) -> Result<(), Fault> {
        let (groups, page_bytes) = self.page_sizes();
        if head.first != 0 || (head.groups, head.page_bytes) != (groups, page_bytes) {
            return Err(Fault::Numbers);
        }
        let mut own: Vec<Vec<Page>> = head.sums.iter().map(|_| self.new_pages()).collect();
        let all = own.iter_mut().zip(pages.chunks_exact(page_bytes)).zip(&head.sums);
        let (queue, is_good) = (Mutex::new(all), AtomicBool::new(true));
        let work = || {
            let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            while let Some(((parts, bytes), &sum)) = next() {
                if !fill(parts, bytes, sum) {
                    is_good.store(false, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads.min(MOST_THREADS).min(head.sums.len()) {
                // Where there is no thread to be had, the others do it all.
                let _ = threads::builder("quipu-session").and_then(|builder| builder.spawn_scoped(scope, work));
            }
            work();
        });
        if !is_good.into_inner() {
            return Err(Fault::Checksum);
        }
        for (parts, tokens) in own.into_iter().zip(head.text[..head.filled].chunks(PAGE)) {
            let parts: Vec<Arc<Page>> = parts.into_iter().map(Arc::new).collect();
            self.append(tokens, &parts);
        }
        Ok(())
    }
}

/// Copies a page's parts from `bytes`. Returns whether their checksum is `sum`.
pub(super) fn fill(parts: &mut [Page], bytes: &[u8], sum: u64) -> bool {
    let mut rest = bytes;
    for part in &mut *parts {
        let (own, others) = rest.split_at(part.bytes().len());
        part.bytes_mut().copy_from_slice(own);
        rest = others;
    }
    page_checksum(parts.iter().map(|part| part.bytes())) == sum
}
