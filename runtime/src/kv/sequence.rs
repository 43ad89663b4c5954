//! A text that the model has read.

use std::sync::Arc;

use half::f16;
use quipu_kernels::{QuantSegment, Segment};

use super::layout::KvLayout;
use super::page::{AnySegment, Page};
use super::quantised::QuantPart;
use super::types::{KvType, PAGE};
use crate::adapters::Adapters;

/// The pages of the same [`PAGE`] positions, one for each group of layers.
pub(crate) type PageSet = Box<[Arc<Page>]>;

/// What is the same for all positions of a sequence.
#[derive(Debug)]
struct Kind {
    layout: Arc<KvLayout>,
    ty: KvType,
    /// What is added to the model while it reads the tokens.
    adapters: Adapters,
}

/// A sequence of tokens that the model has read, with their keys and values.
///
/// A clone shares the pages; whoever writes to a shared page first makes a copy of its own.
#[derive(Clone, Debug)]
pub struct Sequence {
    kind: Arc<Kind>,
    tokens: Vec<u32>,
    /// The pages of each group of layers.
    groups: Box<[Vec<Arc<Page>>]>,
    /// Scratch memory: the keys and values of one position and layer as f16.
    halves: Box<[f16]>,
}

impl Sequence {
    pub(crate) fn new(layout: Arc<KvLayout>, ty: KvType) -> Sequence {
        let halves = vec![f16::ZERO; 2 * layout.widest()].into();
        let groups = vec![Vec::new(); layout.groups.len()].into();
        let kind = Kind { layout, ty, adapters: Adapters::default() };
        Sequence { kind: Arc::new(kind), tokens: Vec::new(), groups, halves }
    }

    /// This sequence, which is empty, to be read with `adapters` of the same engine.
    pub(crate) fn with(self, adapters: &Adapters) -> Sequence {
        debug_assert!(self.is_empty());
        let Kind { layout, ty, .. } = &*self.kind;
        let kind = Kind { layout: layout.clone(), ty: *ty, adapters: adapters.clone() };
        Sequence { kind: Arc::new(kind), ..self }
    }

    /// The adapters that it is read with.
    pub fn adapters(&self) -> &Adapters {
        &self.kind.adapters
    }

    /// Whether it was made with this very layout, which every engine has of its own.
    pub(crate) fn is_of(&self, layout: &Arc<KvLayout>) -> bool {
        Arc::ptr_eq(&self.kind.layout, layout)
    }

    /// The tokens that were read, one for each position.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Positions filled.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Forgets everything from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        let pages = self.len().div_ceil(PAGE);
        self.groups.iter_mut().for_each(|group| group.truncate(pages));
    }

    /// Forgets everything from the first token on that differs from `tokens`. Returns how many positions are left: so
    /// many of `tokens` need not be read again.
    pub fn keep_prefix(&mut self, tokens: &[u32]) -> usize {
        let common = self.tokens.iter().zip(tokens).take_while(|(mine, theirs)| mine == theirs).count();
        self.truncate(common);
        common
    }

    /// Makes copies of all pages that are shared with other sequences, so that every page is this sequence's own.
    pub fn unshare(&mut self) {
        self.groups.iter_mut().flatten().for_each(|page| {
            Arc::make_mut(page);
        });
    }

    /// Bytes of keys and values held. Pages that are shared with other sequences count in each.
    pub fn bytes(&self) -> usize {
        let groups = self.groups.iter().zip(&self.kind.layout.groups);
        groups.map(|(pages, shape)| pages.len() * shape.bytes(self.kind.ty)).sum()
    }

    /// Bytes of the pages that `n` more positions take besides those that there are, with the copies of shared ones
    /// that are written to.
    pub(crate) fn bytes_for(&self, n: usize) -> u64 {
        if n == 0 {
            return 0;
        }
        let pages = self.len().saturating_add(n).div_ceil(PAGE);
        let first = self.len() / PAGE;
        let mut bytes = 0u64;
        for (own, shape) in self.groups.iter().zip(&self.kind.layout.groups) {
            let shared = own.iter().skip(first).filter(|page| Arc::strong_count(page) > 1).count();
            let pages = pages.saturating_sub(own.len()).saturating_add(shared) as u64;
            bytes = bytes.saturating_add(pages.saturating_mul(shape.bytes(self.kind.ty) as u64));
        }
        bytes
    }

    /// Page number `page` of each group, with as many tokens of it as are filled.
    pub(crate) fn page_set(&self, page: usize) -> (&[u32], PageSet) {
        let tokens = &self.tokens[page * PAGE..self.len().min((page + 1) * PAGE)];
        (tokens, self.groups.iter().map(|pages| pages[page].clone()).collect())
    }

    /// Shares page number `page`, which another sequence has filled with the same tokens, in place of its own.
    pub(crate) fn replace(&mut self, page: usize, pages: &[Arc<Page>]) {
        for (own, page_of) in self.groups.iter_mut().zip(pages) {
            own[page] = page_of.clone();
        }
    }

    /// New pages for [`PAGE`] more positions, one for each group.
    pub(crate) fn new_pages(&self) -> Vec<Page> {
        self.kind.layout.groups.iter().map(|shape| Page::new(shape, self.kind.ty, &self.kind.layout.used)).collect()
    }

    /// Shares one more page, of which `tokens` are filled. The pages before it have to be full.
    pub(crate) fn append(&mut self, tokens: &[u32], pages: &[Arc<Page>]) {
        debug_assert!(self.len().is_multiple_of(PAGE) && tokens.len() <= PAGE);
        self.tokens.extend_from_slice(tokens);
        self.groups.iter_mut().zip(pages).for_each(|(own, page)| own.push(page.clone()));
    }

    /// Makes room for `n` more positions, in pages that are this sequence's own.
    pub(crate) fn reserve(&mut self, n: usize) {
        if n == 0 {
            // Nothing in the batch is for this sequence: its shared pages stay shared.
            return;
        }
        let (len, end) = (self.len(), self.len() + n);
        for (pages, shape) in self.groups.iter_mut().zip(&self.kind.layout.groups) {
            while pages.len() * PAGE < end {
                pages.push(Arc::new(Page::new(shape, self.kind.ty, &self.kind.layout.used)));
            }
            for page in &mut pages[len / PAGE..end.div_ceil(PAGE)] {
                Arc::make_mut(page);
            }
        }
        // For whole pages, so that a token within a page allocates nothing.
        self.tokens.reserve(end.next_multiple_of(PAGE) - len);
    }

    /// Counts one more position as filled: `token` was read there.
    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
    }

    /// The least magnitude that is too large for the cache's numbers.
    pub(crate) fn limit(&self) -> f32 {
        self.kind.ty.limit()
    }

    /// Whether heads are turned by Hadamard's matrix before they are stored.
    pub(crate) fn is_turned(&self) -> bool {
        self.kind.ty.blocks().is_some()
    }

    /// The heads of a layer in the pages from number `first` on, which [`Sequence::reserve`] has made this sequence's
    /// own; none if they are not in few bits.
    pub(crate) fn quantised_heads(&mut self, layer: usize, first: usize) -> impl Iterator<Item = QuantPart<'_>> {
        let (group, layer) = self.kind.layout.place(layer);
        let shape = self.kind.layout.groups[group];
        let pages = self.groups[group].iter_mut().enumerate().skip(first);
        pages.filter_map(move |(n, page)| Arc::make_mut(page).quantised_heads(shape, layer, n)).flatten()
    }

    /// Stores keys and values (kv heads × head_dim each) of one layer at `position`, which [`Sequence::reserve`] made
    /// room for.
    pub(crate) fn store(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (group, layer) = self.kind.layout.place(layer);
        let page = Arc::make_mut(&mut self.groups[group][position / PAGE]);
        page.store(&self.kind.layout.groups[group], (layer, position % PAGE), keys, values, &mut self.halves);
    }

    /// One head's part of page number `page`.
    pub(crate) fn segment(&self, layer: usize, head: usize, page: usize) -> AnySegment<'_> {
        let (group, layer) = self.kind.layout.place(layer);
        let (shape, pages) = (&self.kind.layout.groups[group], &self.groups[group]);
        let next = pages.get(page + 1).map(|page| page.segment(shape, layer, head));
        match (pages[page].segment(shape, layer, head), next) {
            (AnySegment::F16(now), Some(AnySegment::F16(next))) => AnySegment::F16(Segment { next: next.keys, ..now }),
            (AnySegment::F32(now), Some(AnySegment::F32(next))) => AnySegment::F32(Segment { next: next.keys, ..now }),
            (AnySegment::Quantised(now, all), Some(AnySegment::Quantised(_, next))) => {
                AnySegment::Quantised(QuantSegment { next, ..now }, all)
            }
            (now, _) => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::kv::page::PageShape;

    /// Two groups, of two layers and of one, which no model has yet.
    fn layout() -> Arc<KvLayout> {
        let shape = |layers, kv_heads, head_dim| PageShape { layers, kv_heads, head_dim };
        Arc::new(KvLayout::of(vec![shape(2, 2, 4), shape(1, 1, 20)], vec![(0, 0), (1, 0), (0, 1)]))
    }

    /// What the tests keep for a token at a position of a layer.
    fn mark(layer: usize, position: usize, token: u32) -> f32 {
        (layer * 1_000_000 + position * 1000) as f32 + token as f32
    }

    fn read(sequence: &mut Sequence, tokens: &[u32]) {
        sequence.reserve(tokens.len());
        for &token in tokens {
            let position = sequence.len();
            for layer in 0..3 {
                let (group, _) = sequence.kind.layout.place(layer);
                let shape = sequence.kind.layout.groups[group];
                let keys = vec![mark(layer, position, token); shape.kv_heads * shape.head_dim];
                sequence.store(layer, position, &keys, &keys);
            }
            sequence.push(token);
        }
    }

    /// The sequence holds `tokens`, and what was stored for each of them.
    fn check(sequence: &Sequence, tokens: &[u32]) {
        assert_eq!(sequence.tokens(), tokens);
        for (position, &token) in tokens.iter().enumerate() {
            for layer in 0..3 {
                let AnySegment::F32(segment) = sequence.segment(layer, 0, position / PAGE) else {
                    panic!("the cache is f32");
                };
                let (group, _) = sequence.kind.layout.place(layer);
                let (at, dim) = (position % PAGE, sequence.kind.layout.groups[group].head_dim);
                let expected = mark(layer, position, token);
                assert_eq!(segment.keys[at / 16 * 16 * dim + at % 16], expected);
                assert_eq!(segment.values[at * dim.next_multiple_of(16)], expected);
            }
        }
        let pages = tokens.len().div_ceil(PAGE);
        assert_eq!(sequence.bytes(), pages * sequence.kind.layout.page_bytes(KvType::F32));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is read, forgotten and shared, each sequence holds its own tokens and what belongs to them.
        #[test]
        fn forks_that_grow_and_forget_keep_what_is_theirs(
            steps in vec((0usize..4, 0usize..5, 0usize..300, vec(0u32..3, 1..150)), 1..30),
        ) {
            let mut sequences = vec![(Sequence::new(layout(), KvType::F32), Vec::<u32>::new())];
            for (which, what, len, tokens) in steps {
                let which = which % sequences.len();
                let (sequence, expected) = &mut sequences[which];
                match what {
                    0 | 1 => {
                        read(sequence, &tokens);
                        expected.extend(&tokens);
                    }
                    2 => {
                        sequence.truncate(len);
                        expected.truncate(len);
                    }
                    3 => {
                        // A text that parts from this one somewhere, or not at all.
                        let mut text = expected[..len.min(expected.len())].to_vec();
                        text.extend(&tokens);
                        let common = (0..=text.len().min(expected.len())).rev().find(|&n| text[..n] == expected[..n]);
                        prop_assert_eq!(Some(sequence.keep_prefix(&text)), common);
                        expected.truncate(common.unwrap());
                    }
                    _ => {
                        let fork = sequences[which].clone();
                        sequences.push(fork);
                    }
                }
                sequences.iter().for_each(|(sequence, expected)| check(sequence, expected));
            }
        }
    }

    #[test]
    fn a_fork_shares_pages_until_it_writes() {
        let mut sequence = Sequence::new(layout(), KvType::F32);
        read(&mut sequence, &[7; PAGE + 1]);
        let mut fork = sequence.clone();
        // The copy of the page that is written to counts as much as a new one.
        let page = sequence.kind.layout.page_bytes(KvType::F32) as u64;
        assert_eq!([0, 1, PAGE - 1, PAGE].map(|n| fork.bytes_for(n)), [0, page, page, 2 * page]);
        let shared = |a: &Sequence, b: &Sequence, page| Arc::ptr_eq(&a.groups[1][page], &b.groups[1][page]);
        fork.reserve(0);
        assert!(shared(&sequence, &fork, 0) && shared(&sequence, &fork, 1));
        read(&mut fork, &[8]);
        assert!(shared(&sequence, &fork, 0) && !shared(&sequence, &fork, 1));
        check(&sequence, &[7; PAGE + 1]);
        fork.unshare();
        assert!(!shared(&sequence, &fork, 0));
        let tokens = [vec![7; PAGE + 1], vec![8]].concat();
        check(&fork, &tokens);
    }
}
