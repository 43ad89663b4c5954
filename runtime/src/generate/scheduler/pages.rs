//! The memory of keys and values: who may take pages, and what is kept of texts that were read.

use std::sync::Arc;

use crate::adapters::Adapters;
use crate::generate::error::GenerateError;
use crate::kv::{Found, PAGE, PrefixCache, Sequence, Store};

/// The memory of keys and values.
pub(super) struct Pages {
    /// Bytes that there may be; `None` for no limit.
    budget: Option<u64>,
    page_bytes: u64,
    /// Bytes that count for nobody: those of texts that become vectors, of which one is read at a time.
    pub(super) aside: u64,
    /// What is kept on disk; dropped before the pages that it is to write.
    pub(super) store: Option<Store>,
    /// What is kept for later requests; only where there is a limit.
    cache: Option<PrefixCache>,
    /// Pages that were given up.
    pub(super) evicted: u64,
    /// What the writer of files does just before it is asked for its pages.
    #[cfg(test)]
    pub(super) meanwhile: Option<Box<dyn FnOnce() + Send>>,
}

impl Pages {
    pub(super) fn new(budget: Option<u64>, page_bytes: u64, keep: bool) -> Pages {
        let cache = (keep && budget.is_some()).then(PrefixCache::default);
        Pages {
            budget,
            page_bytes,
            aside: 0,
            cache,
            store: None,
            evicted: 0,
            #[cfg(test)]
            meanwhile: None,
        }
    }

    /// Sets the budget anew, and frees what is kept beyond it; `used` says how many bytes are taken.
    pub(super) fn set_budget(&mut self, budget: Option<u64>, keep: bool, used: impl Fn() -> u64) {
        self.budget = budget;
        if self.cache.is_none() {
            self.cache = (keep && budget.is_some()).then(PrefixCache::default);
        }
        while self.lack(used()) && self.evict() {}
    }

    /// The error of a text of so many tokens that can't be held, where `elsewhere` is what is not to be had.
    pub(super) fn too_large(&self, tokens: usize, elsewhere: u64) -> GenerateError {
        let needed = (tokens.div_ceil(PAGE) as u64).saturating_mul(self.page_bytes);
        GenerateError::KvMemory { tokens, needed, budget: self.budget.unwrap_or(u64::MAX).saturating_sub(elsewhere) }
    }

    /// Positions of the longest text that there is memory for.
    pub(super) fn positions(&self) -> usize {
        self.budget.map_or(usize::MAX, |budget| {
            usize::try_from(budget / self.page_bytes.max(1)).unwrap_or(usize::MAX).saturating_mul(PAGE)
        })
    }

    /// Whether so many bytes are too many.
    pub(super) fn lack(&self, bytes: u64) -> bool {
        self.budget.is_some_and(|budget| bytes > budget.saturating_add(self.aside))
    }

    /// Pages that are kept, and bytes of them that could be freed.
    pub(super) fn kept(&self) -> usize {
        self.cache.as_ref().map_or(0, PrefixCache::pages)
    }

    /// Bytes that could be had by keeping less.
    pub(super) fn idle_bytes(&self) -> u64 {
        self.cache.as_ref().map_or(0, PrefixCache::idle_pages) as u64 * self.page_bytes
    }

    /// Frees one page of those that are kept. Returns whether there was one.
    pub(super) fn evict(&mut self) -> bool {
        let evicted = self.cache.as_mut().is_some_and(PrefixCache::evict);
        self.evicted += u64::from(evicted);
        evicted
    }

    /// Keeps nothing any more. Returns whether anything was kept.
    pub(super) fn clear(&mut self) -> bool {
        let pages = self.kept();
        self.cache.iter_mut().for_each(PrefixCache::clear);
        self.evicted += pages as u64;
        pages > 0
    }

    /// The longest beginning of `tokens`, read with `adapters`, that is kept.
    pub(super) fn find(&self, tokens: &[u32], adapters: &Adapters) -> Found {
        self.cache.as_ref().map_or_else(Found::default, |cache| cache.find(tokens, adapters))
    }

    /// Makes `sequence` what was found.
    pub(super) fn share(&mut self, found: &Found, sequence: &mut Sequence) {
        if let Some(cache) = &mut self.cache {
            cache.share(found, sequence);
        }
    }

    /// Keeps the pages of `sequence`, with `tail` also the last one that is not full.
    pub(super) fn keep(&mut self, sequence: &mut Sequence, tail: bool) {
        let Some(cache) = &mut self.cache else { return };
        let new = cache.keep(sequence, tail);
        let Some(store) = self.store.as_mut().filter(|_| !new.is_empty()) else { return };
        let text: Arc<[u32]> = sequence.tokens().into();
        for page in new {
            store.write(sequence.adapters(), &text, (page + 1) * PAGE, &sequence.page_set(page).1);
        }
    }

    /// Waits for pages that are being written to disk and can't be given up meanwhile. Returns whether there were any.
    pub(super) fn wait(&mut self) -> bool {
        #[cfg(test)]
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
        }
        self.store.as_mut().is_some_and(|store| store.wait())
    }

    /// Whether the disk has the page after the first `read` tokens of `text`, all of whose tokens may be found there,
    /// read with `adapters`.
    pub(super) fn is_on_disk(&self, adapters: &Adapters, text: &[u32], read: usize) -> bool {
        let page = text.get(..read + PAGE).filter(|_| read.is_multiple_of(PAGE));
        page.is_some_and(|text| self.store.as_ref().is_some_and(|store| store.has(adapters, text)))
    }

    /// Appends that page to `sequence`. `false` when it is not there after all.
    pub(super) fn restore(&mut self, text: &[u32], sequence: &mut Sequence) -> bool {
        let Some(store) = &self.store else { return false };
        let (read, mut pages) = (sequence.len(), sequence.new_pages());
        let is_there = store.read(sequence.adapters(), &text[..read + PAGE], &mut pages);
        if is_there {
            let pages: Vec<_> = pages.into_iter().map(Arc::new).collect();
            sequence.append(&text[read..read + PAGE], &pages);
        }
        is_there
    }
}
