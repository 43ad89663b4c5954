//! Pages by what they hold: a tree of the texts that were read, so that no request reads again what another has read.
//!
//! An entry is one page under its parent, the page before it. Its path from the root is the whole text up to its end,
//! so a page is found only under exactly the tokens that its keys and values depend on; tokens are compared, not
//! hashed. All entries are of one engine, hence of one model, type of cache and way of turning keys; texts that are
//! read with other adapters have other roots.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::sequence::{PageSet, Sequence};
use super::types::PAGE;
use crate::adapters::Adapters;

/// Where the text of a request parts from one that is kept: what a client changed near the front of a long prompt
/// costs reading all that follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearMiss {
    /// The position of the first token that differs.
    pub position: usize,
    /// The tokens that are kept from there on, a few of them.
    pub cached: Vec<u32>,
    /// The request's.
    pub prompt: Vec<u32>,
}

impl NearMiss {
    /// Tokens of each text that are told.
    const TOKENS: usize = 8;

    /// The fewest tokens that are worth a word: with fewer every text begins, what a template puts in front included.
    const LEAST: usize = 8;
}

/// A text's beginning that is kept.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The entries, from the root.
    path: Vec<u64>,
    /// Tokens that they have in common with the text.
    pub(crate) len: usize,
    /// Where the nearest other text parts from this one.
    pub(crate) near_miss: Option<NearMiss>,
}

#[derive(Debug)]
struct Entry {
    parent: Option<u64>,
    /// [`PAGE`] of them, or fewer: then there are no children.
    tokens: Box<[u32]>,
    pages: PageSet,
    children: Vec<u64>,
    /// When it was last used.
    used: u64,
}

impl Entry {
    /// Whether nobody else holds its pages, so that removing it frees them.
    fn is_idle(&self) -> bool {
        self.pages.iter().all(|page| Arc::strong_count(page) == 1)
    }
}

/// The pages that are kept.
#[derive(Debug, Default)]
pub(crate) struct PrefixCache {
    entries: HashMap<u64, Entry>,
    roots: HashMap<Adapters, Vec<u64>>,
    /// Entries without children, by when they were last used: only these can go.
    leaves: BTreeSet<(u64, u64)>,
    next: u64,
    clock: u64,
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PrefixCache {
    /// Pages that are kept.
    pub(crate) fn pages(&self) -> usize {
        self.entries.len()
    }

    /// Pages that nobody but this cache holds.
    pub(crate) fn idle_pages(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_idle()).count()
    }

    /// What may follow entry `of`, or nothing, in texts that are read with `adapters`.
    fn children(&self, of: Option<u64>, adapters: &Adapters) -> &[u64] {
        match of {
            Some(id) => &self.entries[&id].children,
            None => self.roots.get(adapters).map_or(&[], Vec::as_slice),
        }
    }

    /// The child of `parent` that has most tokens in common with `tokens`, and how many.
    fn nearest(&self, parent: Option<u64>, adapters: &Adapters, tokens: &[u32]) -> Option<(u64, usize)> {
        let children = self.children(parent, adapters).iter();
        let near = children.map(|&id| (id, common(&self.entries[&id].tokens, tokens)));
        near.max_by_key(|&(id, n)| (n, std::cmp::Reverse(id))).filter(|&(_, n)| n > 0)
    }

    /// The longest beginning of `tokens`, read with `adapters`, that is kept.
    pub(crate) fn find(&self, tokens: &[u32], adapters: &Adapters) -> Found {
        let mut found = Found::default();
        while let Some((id, n)) = self.nearest(found.path.last().copied(), adapters, &tokens[found.len..]) {
            found.path.push(id);
            found.len += n;
            let entry = &self.entries[&id];
            if n < entry.tokens.len() {
                let some = |tokens: &[u32]| tokens.iter().take(NearMiss::TOKENS).copied().collect::<Vec<_>>();
                let (cached, prompt) = (some(&entry.tokens[n..]), some(&tokens[found.len..]));
                // A prompt that ends within what is kept differs from nothing.
                found.near_miss = (!prompt.is_empty()).then_some(NearMiss { position: found.len, cached, prompt });
            }
            if n < PAGE {
                break;
            }
        }
        if found.len > 0 && found.near_miss.is_none() && found.len.is_multiple_of(PAGE) && found.len < tokens.len() {
            // The texts part just where a page ends.
            let other =
                self.children(found.path.last().copied(), adapters).iter().max_by_key(|id| self.entries[id].used);
            found.near_miss = other.map(|id| {
                let some = |tokens: &[u32]| tokens.iter().take(NearMiss::TOKENS).copied().collect::<Vec<_>>();
                let (cached, prompt) = (some(&self.entries[id].tokens), some(&tokens[found.len..]));
                NearMiss { position: found.len, cached, prompt }
            });
        }
        found.near_miss.take_if(|near_miss| near_miss.position < NearMiss::LEAST);
        found
    }

    /// Makes `sequence`, which is read with the same adapters, what was found: it shares the pages.
    pub(crate) fn share(&mut self, found: &Found, sequence: &mut Sequence) {
        sequence.truncate(0);
        self.clock += 1;
        for &id in &found.path {
            self.touch(id);
            let entry = &self.entries[&id];
            let n = entry.tokens.len().min(found.len - sequence.len());
            sequence.append(&entry.tokens[..n], &entry.pages);
        }
    }

    fn touch(&mut self, id: u64) {
        let clock = self.clock;
        if let Some(entry) = self.entries.get_mut(&id) {
            let before = std::mem::replace(&mut entry.used, clock);
            if entry.children.is_empty() {
                self.leaves.remove(&(before, id));
                self.leaves.insert((clock, id));
            }
        }
    }

    /// Keeps the full pages of `sequence`, and with `tail` also the one that is not full. Where a page with the same
    /// text is kept already, the sequence shares that one from now on. Returns the numbers of the full pages that are
    /// new.
    pub(crate) fn keep(&mut self, sequence: &mut Sequence, tail: bool) -> Vec<usize> {
        self.clock += 1;
        let (mut parent, mut new) = (None, Vec::new());
        for page in 0..sequence.len() / PAGE {
            let (tokens, pages) = sequence.page_set(page);
            match self.nearest(parent, sequence.adapters(), tokens).filter(|&(_, n)| n == PAGE) {
                Some((id, _)) => {
                    self.touch(id);
                    sequence.replace(page, &self.entries[&id].pages);
                    parent = Some(id);
                }
                None => {
                    let tokens = tokens.into();
                    parent = Some(self.add(parent, sequence.adapters(), tokens, pages));
                    new.push(page);
                }
            }
        }
        if tail && !sequence.len().is_multiple_of(PAGE) {
            self.keep_tail(parent, sequence);
        }
        new
    }

    fn keep_tail(&mut self, parent: Option<u64>, sequence: &Sequence) {
        let (tokens, pages) = sequence.page_set(sequence.len() / PAGE);
        if let Some((id, n)) = self.nearest(parent, sequence.adapters(), tokens) {
            if n == tokens.len() {
                // All of it is kept, and perhaps more.
                return self.touch(id);
            }
            if n == self.entries[&id].tokens.len() {
                // A beginning of it is kept: that has no more use.
                self.remove(id);
            }
        }
        let tokens = tokens.into();
        self.add(parent, sequence.adapters(), tokens, pages);
    }

    /// Adds a page.
    fn add(&mut self, parent: Option<u64>, adapters: &Adapters, tokens: Box<[u32]>, pages: PageSet) -> u64 {
        let id = self.next;
        self.next += 1;
        match parent {
            None => self.roots.entry(adapters.clone()).or_default().push(id),
            Some(parent) => {
                let of = self.entries.get_mut(&parent).expect("a parent is kept as long as its children");
                self.leaves.remove(&(of.used, parent));
                of.children.push(id);
            }
        }
        self.entries.insert(id, Entry { parent, tokens, pages, children: Vec::new(), used: self.clock });
        self.leaves.insert((self.clock, id));
        id
    }

    /// Removes a leaf.
    fn remove(&mut self, id: u64) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.leaves.remove(&(entry.used, id));
        match entry.parent {
            None => self.roots.retain(|_, roots| {
                roots.retain(|&child| child != id);
                !roots.is_empty()
            }),
            Some(parent) => {
                let of = self.entries.get_mut(&parent).expect("a parent is kept as long as its children");
                of.children.retain(|&child| child != id);
                if of.children.is_empty() {
                    self.leaves.insert((of.used, parent));
                }
            }
        }
    }

    /// Frees the page that was least recently used, of those that nobody else holds. Returns whether there was one.
    pub(crate) fn evict(&mut self) -> bool {
        let idle = self.leaves.iter().map(|&(_, id)| id).find(|id| self.entries[id].is_idle());
        idle.map(|id| self.remove(id)).is_some()
    }

    /// Forgets everything. Pages that others hold stay with them.
    pub(crate) fn clear(&mut self) {
        let (next, clock) = (self.next, self.clock);
        *self = PrefixCache { next, clock, ..PrefixCache::default() };
    }
}
