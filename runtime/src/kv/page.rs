//! A page: the keys and values of one group of layers for a fixed number of positions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::{cast_slice, cast_slice_mut};
use half::f16;
use half::slice::HalfFloatSliceExt;
use quipu_kernels::{QuantSegment, Segment};

use super::memory::Memory;
use super::quantised::{QuantHead, QuantPart};
use super::types::{KvType, PAGE};

/// The sizes of a page. For each layer of the group and each kv head it has keys, as (position / 16, head_dim, 16
/// positions), and then values, as (position, head_dim padded to 16); in few bits what `quantised` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageShape {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl PageShape {
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
        match (ty, ty.blocks()) {
            (_, Some(blocks)) => self.layers * self.kv_heads * QuantHead::new(blocks, self.head_dim).bytes,
            (KvType::F32, None) => 4 * self.elements(),
            (_, None) => 2 * self.elements(),
        }
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
        Segment { keys, values, next: &[] }
    }
}

/// Counts the bytes of an engine's pages: every page adds its own as long as it lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used(Arc<AtomicU64>);

impl Used {
    /// Bytes of the pages that there are, each counted once however many sequences share it.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A page's part of what [`Used`] counts.
#[derive(Debug)]
struct Counted {
    used: Used,
    bytes: u64,
}

impl Counted {
    fn new(used: &Used, bytes: u64) -> Counted {
        used.0.fetch_add(bytes, Ordering::Relaxed);
        Counted { used: used.clone(), bytes }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Counted {
        Counted::new(&self.used, self.bytes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.used.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The keys and values of a group of layers for [`PAGE`] positions.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    numbers: Numbers,
    memory: Memory,
    _counted: Counted,
}

#[derive(Clone, Copy, Debug)]
enum Numbers {
    F16,
    F32,
    /// In few bits, with this layout of a head.
    Quantised(QuantHead),
}

impl Page {
    pub(crate) fn new(shape: &PageShape, ty: KvType, used: &Used) -> Page {
        let bytes = shape.bytes(ty);
        let numbers = match (ty, ty.blocks()) {
            (_, Some(blocks)) => Numbers::Quantised(QuantHead::new(blocks, shape.head_dim)),
            (KvType::F32, None) => Numbers::F32,
            (_, None) => Numbers::F16,
        };
        Page { numbers, memory: Memory::zeroed(bytes), _counted: Counted::new(used, bytes as u64) }
    }

    /// Its numbers, as they lie on disk, too.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// The same, to be filled with what [`Page::bytes`] of such a page was.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.bytes_mut()
    }

    /// Stores the keys and values (kv heads × head_dim each) of layer number `layer` of the group at position `at` of
    /// the page. `halves` is scratch memory with room for both.
    pub(crate) fn store(
        &mut self,
        shape: &PageShape,
        (layer, at): (usize, usize),
        keys: &[f32],
        values: &[f32],
        halves: &mut [f16],
    ) {
        let page = self.memory.bytes_mut();
        match self.numbers {
            Numbers::F32 => shape.store(cast_slice_mut(page), layer, at, keys, values),
            Numbers::F16 => {
                let (keys16, values16) = halves[..keys.len() + values.len()].split_at_mut(keys.len());
                keys16.convert_from_f32_slice(keys);
                values16.convert_from_f32_slice(values);
                shape.store(cast_slice_mut(page), layer, at, keys16.reinterpret_cast(), values16.reinterpret_cast());
            }
            Numbers::Quantised(parts) => {
                let heads = page[layer * shape.kv_heads * parts.bytes..].chunks_exact_mut(parts.bytes);
                let numbers = keys.chunks_exact(shape.head_dim).zip(values.chunks_exact(shape.head_dim));
                heads.zip(numbers).for_each(|(head, (key, value))| parts.store(head, at, key, value));
            }
        }
    }

    /// The heads of layer number `layer` of the group, if they are in few bits; this is page number `page` of its
    /// sequence.
    pub(super) fn quantised_heads(
        &mut self,
        shape: PageShape,
        layer: usize,
        page: usize,
    ) -> Option<impl Iterator<Item = QuantPart<'_>>> {
        let Numbers::Quantised(layout) = self.numbers else { return None };
        let (heads, dim) = (shape.kv_heads, shape.head_dim);
        let layer = &mut self.memory.bytes_mut()[layer * heads * layout.bytes..][..heads * layout.bytes];
        let part = move |(head, bytes)| QuantPart { page, at: head * dim..(head + 1) * dim, layout, bytes };
        Some(layer.chunks_exact_mut(layout.bytes).enumerate().map(part))
    }

    /// One head's keys and values of layer number `layer` of the group.
    pub(crate) fn segment(&self, shape: &PageShape, layer: usize, head: usize) -> AnySegment<'_> {
        let page = self.memory.bytes();
        match self.numbers {
            Numbers::F16 => AnySegment::F16(shape.segment(cast_slice(page), layer, head)),
            Numbers::F32 => AnySegment::F32(shape.segment(cast_slice(page), layer, head)),
            Numbers::Quantised(parts) => {
                let head = &page[(layer * shape.kv_heads + head) * parts.bytes..][..parts.bytes];
                AnySegment::Quantised(parts.segment(head), head)
            }
        }
    }
}

/// One head's keys and values of a page.
pub(crate) enum AnySegment<'a> {
    F16(Segment<'a, u16>),
    F32(Segment<'a, f32>),
    /// And all bytes of the head.
    Quantised(QuantSegment<'a>, &'a [u8]),
}
