//! The KV cache: pages of a fixed number of positions, shared by reference.

use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt;
use quipu_kernels::{SEGMENT, Segment};

use crate::config::Config;

/// Positions of a page: one segment of attention.
pub const PAGE: usize = SEGMENT;

/// The number type of keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// IEEE binary16.
    #[default]
    F16,
    /// IEEE binary32: twice the memory, no rounding.
    F32,
}

/// Bytes of keys and values that each position of a sequence adds.
pub fn bytes_per_position(config: &Config, kv_type: KvType) -> usize {
    PageShape::new(config).bytes(kv_type) / PAGE
}

/// The sizes that lay out a page: (layer, kv head) → keys (position / 16, head_dim, 16 positions), then values
/// (position, head_dim padded to 16).
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageShape {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl PageShape {
    pub(crate) fn new(config: &Config) -> PageShape {
        PageShape { layers: config.layers, kv_heads: config.kv_heads, head_dim: config.head_dim }
    }

    fn keys(&self) -> usize {
        PAGE * self.head_dim
    }

    fn width(&self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    fn head(&self) -> usize {
        self.keys() + PAGE * self.width()
    }

    fn elements(&self) -> usize {
        self.layers * self.kv_heads * self.head()
    }

    /// Bytes of a page.
    pub(crate) fn bytes(&self, ty: KvType) -> usize {
        self.elements() * if ty == KvType::F16 { 2 } else { 4 }
    }

    /// Stores the keys and values of all heads (kv heads × head_dim) of a layer at position `at` of the page.
    fn store<E: Copy>(&self, page: &mut [E], layer: usize, at: usize, keys: &[E], values: &[E]) {
        let dim = self.head_dim;
        let layer = &mut page[layer * self.kv_heads * self.head()..][..self.kv_heads * self.head()];
        let heads = keys.chunks_exact(dim).zip(values.chunks_exact(dim));
        for (head, (key, value)) in layer.chunks_exact_mut(self.head()).zip(heads) {
            let (keys, values) = head.split_at_mut(self.keys());
            let column = &mut keys[at / 16 * 16 * dim + at % 16..];
            for (slot, &k) in column.iter_mut().step_by(16).zip(key) {
                *slot = k;
            }
            values[at * self.width()..][..dim].copy_from_slice(value);
        }
    }

    fn segment<'a, E>(&self, page: &'a [E], layer: usize, head: usize) -> Segment<'a, E> {
        let start = (layer * self.kv_heads + head) * self.head();
        let (keys, values) = page[start..start + self.head()].split_at(self.keys());
        Segment { keys, values }
    }
}

/// The keys and values of all layers for [`PAGE`] positions.
#[derive(Clone, Debug)]
pub(crate) enum Page {
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl Page {
    fn new(shape: &PageShape, ty: KvType) -> Page {
        match ty {
            KvType::F16 => Page::F16(vec![0; shape.elements()]),
            KvType::F32 => Page::F32(vec![0.0; shape.elements()]),
        }
    }
}

/// One head's keys and values of a page.
pub(crate) enum AnySegment<'a> {
    F16(Segment<'a, u16>),
    F32(Segment<'a, f32>),
}

/// A sequence of tokens that the model has read: its pages and its length.
///
/// A clone shares the pages; whoever writes to a shared page first makes a copy of its own.
#[derive(Clone, Debug)]
pub struct Sequence {
    shape: PageShape,
    ty: KvType,
    pages: Vec<Arc<Page>>,
    len: usize,
    /// A position's keys and values of one layer on their way to f16.
    halves: Vec<f16>,
}

impl Sequence {
    pub(crate) fn new(shape: PageShape, ty: KvType) -> Sequence {
        let halves = vec![f16::ZERO; 2 * shape.kv_heads * shape.head_dim];
        Sequence { shape, ty, pages: Vec::new(), len: 0, halves }
    }

    /// Positions filled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets everything from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE));
    }

    /// Bytes of keys and values held.
    pub fn bytes(&self) -> usize {
        self.pages.len() * self.shape.bytes(self.ty)
    }

    /// Makes room for `n` more positions, in pages that are this sequence's own.
    pub(crate) fn reserve(&mut self, n: usize) {
        if n == 0 {
            // Another sequence's turn: a page that is shared stays so.
            return;
        }
        let end = self.len + n;
        while self.pages.len() * PAGE < end {
            self.pages.push(Arc::new(Page::new(&self.shape, self.ty)));
        }
        for page in &mut self.pages[self.len / PAGE..end.div_ceil(PAGE)] {
            Arc::make_mut(page);
        }
    }

    /// Counts `n` more positions as filled.
    pub(crate) fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// Stores keys and values (kv heads × head_dim each) of one layer at `position`, which [`Sequence::reserve`] made
    /// room for.
    pub(crate) fn store(&mut self, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let at = position % PAGE;
        match Arc::make_mut(&mut self.pages[position / PAGE]) {
            Page::F32(page) => self.shape.store(page, layer, at, keys, values),
            Page::F16(page) => {
                let (keys16, values16) = self.halves.split_at_mut(keys.len());
                keys16.convert_from_f32_slice(keys);
                values16.convert_from_f32_slice(values);
                self.shape.store(page, layer, at, keys16.reinterpret_cast(), values16.reinterpret_cast());
            }
        }
    }

    /// One head's part of page number `page`.
    pub(crate) fn segment(&self, layer: usize, head: usize, page: usize) -> AnySegment<'_> {
        match &*self.pages[page] {
            Page::F16(data) => AnySegment::F16(self.shape.segment(data, layer, head)),
            Page::F32(data) => AnySegment::F32(self.shape.segment(data, layer, head)),
        }
    }
}
