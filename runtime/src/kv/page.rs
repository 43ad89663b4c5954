//! A page: the keys and values of one group of layers for a fixed number of positions.

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

/// The keys and values of a group of layers for [`PAGE`] positions.
#[derive(Clone, Debug)]
pub(crate) enum Page {
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl Page {
    pub(crate) fn new(shape: &PageShape, ty: KvType) -> Page {
        match ty {
            KvType::F16 => Page::F16(vec![0; shape.elements()]),
            KvType::F32 => Page::F32(vec![0.0; shape.elements()]),
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
        match self {
            Page::F32(page) => shape.store(page, layer, at, keys, values),
            Page::F16(page) => {
                let (keys16, values16) = halves[..keys.len() + values.len()].split_at_mut(keys.len());
                keys16.convert_from_f32_slice(keys);
                values16.convert_from_f32_slice(values);
                shape.store(page, layer, at, keys16.reinterpret_cast(), values16.reinterpret_cast());
            }
        }
    }

    /// One head's keys and values of layer number `layer` of the group.
    pub(crate) fn segment(&self, shape: &PageShape, layer: usize, head: usize) -> AnySegment<'_> {
        match self {
            Page::F16(data) => AnySegment::F16(shape.segment(data, layer, head)),
            Page::F32(data) => AnySegment::F32(shape.segment(data, layer, head)),
        }
    }
}

/// One head's keys and values of a page.
pub(crate) enum AnySegment<'a> {
    F16(Segment<'a, u16>),
    F32(Segment<'a, f32>),
}
