//! One kv head's keys and values of a page in 8 or 4 bits.
//!
//! First the keys, packed as weights are (R16·K4) with positions as rows, so that scores are products of quantised
//! weights; then the codes of the values, position by position; then the scales of the values, block by block. What a
//! position has in any of them depends on that position alone.

use std::ops::Range;

use bytemuck::cast_slice;
use quipu_kernels::{QuantSegment, Weights};
use quipu_quant::TensorType;
use quipu_quant::cache::{BLOCK, quantize4, quantize8};
use quipu_quant::pack::{GROUP_ROWS, PackedLayout, quant_bytes, scale_bytes};

use super::types::PAGE;

/// Columns of a line of codes.
const COLUMNS: usize = 4;
/// Bytes of a line of codes.
const LINE: usize = GROUP_ROWS * COLUMNS;

/// Where a head's parts lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuantHead {
    keys: PackedLayout,
    values_in: TensorType,
    /// Where the values begin, and where their scales do.
    values: usize,
    scales: usize,
    /// Bytes of all parts, a multiple of a line of the cache.
    pub(super) bytes: usize,
}

impl QuantHead {
    /// With keys and values in blocks of these types.
    pub(super) fn new([keys_in, values_in]: [TensorType; 2], head_dim: usize) -> QuantHead {
        let padded = head_dim.next_multiple_of(BLOCK);
        let keys = PackedLayout::new(keys_in, PAGE, padded).expect("a head is not as large as memory");
        let values = keys.total_bytes().next_multiple_of(LINE);
        let scales = values + PAGE * padded * values_in.code_bits() / 8;
        QuantHead { keys, values_in, values, scales, bytes: scales + 2 * PAGE * padded / BLOCK }
    }

    /// Rounds the key and the value at position `at`, and stores them.
    pub(super) fn store(&self, head: &mut [u8], at: usize, key: &[f32], value: &[f32]) {
        let (group, lane) = (at / GROUP_ROWS, at % GROUP_ROWS);
        let ty = self.keys.ty();
        let (keys, values) = head.split_at_mut(self.values);
        let (values, scales) = values.split_at_mut(self.scales - self.values);
        let (codes, key_scales) = keys.split_at_mut(self.keys.scales_offset());
        let codes = &mut codes[group * self.keys.group_quant_bytes()..];
        let key_scales = &mut key_scales[group * self.keys.group_scale_bytes()..];
        let [key_bytes, bytes] = [ty, self.values_in].map(|ty| BLOCK * ty.code_bits() / 8);
        let values = &mut values[at * self.keys.cols() / BLOCK * bytes..];
        for (b, (key, value)) in key.chunks(BLOCK).zip(value.chunks(BLOCK)).enumerate() {
            let (key, d) = quantize(ty, key);
            let lines = codes[b * quant_bytes(ty)..].chunks_exact_mut(LINE);
            for (line, key) in lines.zip(key[..key_bytes].chunks_exact(COLUMNS)) {
                line[COLUMNS * lane..][..COLUMNS].copy_from_slice(key);
            }
            key_scales[b * scale_bytes(ty) + 2 * lane..][..2].copy_from_slice(&d);
            let (value, d) = quantize(self.values_in, value);
            values[b * bytes..][..bytes].copy_from_slice(&value[..bytes]);
            scales[2 * (b * PAGE + at)..][..2].copy_from_slice(&d);
        }
    }

    pub(super) fn segment<'a>(&self, head: &'a [u8]) -> QuantSegment<'a> {
        QuantSegment {
            keys: Weights::new(self.keys, &head[..self.keys.total_bytes()]),
            values: &head[self.values..self.scales],
            value_bits: self.values_in.code_bits(),
            scales: cast_slice(&head[self.scales..]),
            next: &[],
        }
    }
}

/// One head's part of a page, to be written by one worker while others write those of other heads.
pub(crate) struct QuantPart<'a> {
    /// The page's number in its sequence.
    pub(crate) page: usize,
    /// The head's place among the numbers of all heads.
    pub(super) at: Range<usize>,
    pub(super) layout: QuantHead,
    pub(super) bytes: &'a mut [u8],
}

impl QuantPart<'_> {
    /// Rounds and stores the head's part of `keys` and `values`, which are those of all heads, at position `at` of the
    /// page.
    pub(crate) fn store(&mut self, at: usize, keys: &[f32], values: &[f32]) {
        self.layout.store(self.bytes, at, &keys[self.at.clone()], &values[self.at.clone()]);
    }
}

/// The codes of up to [`BLOCK`] elements, as bytes, and their scale. In 4 bits, elements `i` and `i + 16` share byte
/// `i`.
fn quantize(ty: TensorType, x: &[f32]) -> ([u8; BLOCK], [u8; 2]) {
    let mut block = [0.0; BLOCK];
    block[..x.len()].copy_from_slice(x);
    if ty == TensorType::Q8_0 {
        let (codes, d) = quantize8(&block);
        return (codes.map(|code| code as u8), d.to_le_bytes());
    }
    let (mut codes, d) = quantize4(&block);
    for i in 0..BLOCK / 2 {
        codes[i] |= codes[BLOCK / 2 + i] << 4;
    }
    (codes, d.to_le_bytes())
}
