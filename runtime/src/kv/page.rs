//! A page: the keys and values of one group of layers for a fixed number of positions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use half::f16;
use half::slice::HalfFloatSliceExt;
use quipu_kernels::{SEGMENT, Segment};

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

impl KvType {
    fn bytes(self) -> usize {
        match self {
            KvType::F16 => 2,
            KvType::F32 => 4,
        }
    }
}

/// The sizes of a page. For each layer of the group and each kv head it has keys, as (position / 16, head_dim, 16
/// positions), and then values, as (position, head_dim padded to 16).
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
        self.elements() * ty.bytes()
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
    counted: Counted,
}

#[derive(Clone, Debug)]
enum Numbers {
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl Page {
    pub(crate) fn new(shape: &PageShape, ty: KvType, used: &Used) -> Page {
        let numbers = match ty {
            KvType::F16 => Numbers::F16(vec![0; shape.elements()]),
            KvType::F32 => Numbers::F32(vec![0.0; shape.elements()]),
        };
        Page { numbers, counted: Counted::new(used, shape.bytes(ty) as u64) }
    }

    /// Bytes of its numbers.
    pub(crate) fn bytes(&self) -> usize {
        self.counted.bytes as usize
    }

    /// Appends its numbers to `bytes`, little-endian.
    pub(crate) fn write_to(&self, bytes: &mut Vec<u8>) {
        match &self.numbers {
            Numbers::F16(page) => page.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
            Numbers::F32(page) => page.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes())),
        }
    }

    /// Takes its numbers from what [`Page::write_to`] wrote.
    pub(crate) fn read_from(&mut self, bytes: &[u8]) {
        match &mut self.numbers {
            Numbers::F16(page) => {
                page.iter_mut().zip(bytes.as_chunks::<2>().0).for_each(|(x, b)| *x = u16::from_le_bytes(*b));
            }
            Numbers::F32(page) => {
                page.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b));
            }
        }
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
        match &mut self.numbers {
            Numbers::F32(page) => shape.store(page, layer, at, keys, values),
            Numbers::F16(page) => {
                let (keys16, values16) = halves[..keys.len() + values.len()].split_at_mut(keys.len());
                keys16.convert_from_f32_slice(keys);
                values16.convert_from_f32_slice(values);
                shape.store(page, layer, at, keys16.reinterpret_cast(), values16.reinterpret_cast());
            }
        }
    }

    /// One head's keys and values of layer number `layer` of the group.
    pub(crate) fn segment(&self, shape: &PageShape, layer: usize, head: usize) -> AnySegment<'_> {
        match &self.numbers {
            Numbers::F16(data) => AnySegment::F16(shape.segment(data, layer, head)),
            Numbers::F32(data) => AnySegment::F32(shape.segment(data, layer, head)),
        }
    }
}

/// One head's keys and values of a page.
pub(crate) enum AnySegment<'a> {
    F16(Segment<'a, u16>),
    F32(Segment<'a, f32>),
}
