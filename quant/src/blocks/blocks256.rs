//! The K-quants Q2_K to Q6_K: 256 weights whose sub-blocks have small integer scales of their own.

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::block::{Block, Min, SUB, Scale, agrees_with_table};
use crate::types::TensorType;

/// `w = d · scale · q − dmin · min`, q of 2 bits, scale and min of 4 bits for each 16 weights.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ2_K {
    /// For each 16 weights the scale in the low, the minimum in the high half.
    pub scales: [u8; 16],
    /// Codes: bits `2·t..2·t + 2` of byte `32·h + l` belong to weight `128·h + 32·t + l`, l < 32.
    pub qs: [u8; 64],
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
}

/// `w = d · (scale − 32) · (q − 4)`, q of 3 bits, scale of 6 bits for each 16 weights.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ3_K {
    /// Third bits: bit `s` of byte `l` belongs to weight `32·s + l`.
    pub hmask: [u8; 32],
    /// Low 2 bits, ordered as [`BlockQ2_K::qs`].
    pub qs: [u8; 64],
    /// 16 scales of 6 bits: number `i` has its low 4 bits in half `i / 8` of byte `i % 8`, the others in bits `2·(i /
    /// 4)..` of byte `8 + i % 4`.
    pub scales: [u8; 12],
    /// Scale of the scales.
    pub d: f16,
}

/// `w = d · scale · q − dmin · min`, q of 4 bits, scale and min of 6 bits for each 32 weights.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ4_K {
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// 8 scales and 8 minima of 6 bits, see `scale_and_min`.
    pub scales: [u8; 12],
    /// Codes: byte `32·c + l` has weight `64·c + l` in its low half, `64·c + 32 + l` in its high half.
    pub qs: [u8; 128],
}

/// As [`BlockQ4_K`] with q of 5 bits.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ5_K {
    /// Scale of the scales.
    pub d: f16,
    /// Scale of the minima.
    pub dmin: f16,
    /// 8 scales and 8 minima of 6 bits, see `scale_and_min`.
    pub scales: [u8; 12],
    /// Fifth bits: bit `s` of byte `l` belongs to weight `32·s + l`.
    pub qh: [u8; 32],
    /// Low 4 bits, ordered as [`BlockQ4_K::qs`].
    pub qs: [u8; 128],
}

/// `w = d · scale · (q − 32)`, q of 6 bits, scale a signed byte for each 16 weights.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ6_K {
    /// Low 4 bits: byte `64·h + l` has weight `128·h + l` in its low half, `128·h + 64 + l` in its high half, l < 64.
    pub ql: [u8; 128],
    /// High 2 bits: bits `2·t..2·t + 2` of byte `32·h + l` belong to weight `128·h + 32·t + l`, l < 32.
    pub qh: [u8; 64],
    /// Scales.
    pub scales: [i8; 16],
    /// Scale of the scales.
    pub d: f16,
}

const _: () = {
    assert!(agrees_with_table::<BlockQ2_K>());
    assert!(agrees_with_table::<BlockQ3_K>());
    assert!(agrees_with_table::<BlockQ4_K>());
    assert!(agrees_with_table::<BlockQ5_K>());
    assert!(agrees_with_table::<BlockQ6_K>());
};

impl Block for BlockQ2_K {
    const TYPE: TensorType = TensorType::Q2_K;
    const ZERO: u8 = 0;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d), offset_of!(Self, dmin)];
    const BYTE_SCALES: Range<usize> = offset_of!(Self, scales)..offset_of!(Self, qs);

    fn codes(&self, sub: usize) -> [u8; SUB] {
        bits(&self.qs.as_chunks().0[sub / 4], 2 * (sub % 4), 0x03)
    }

    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]) {
        set_bits(&mut self.qs.as_chunks_mut().0[sub / 4], 2 * (sub % 4), 0x03, codes);
    }

    fn scales(&self, sub: usize) -> (Scale, Min) {
        let packed = [self.scales[2 * sub], self.scales[2 * sub + 1]];
        let min = |packed: u8| -(self.dmin.to_f32() * f32::from(packed >> 4));
        let scale = |packed: u8| self.d.to_f32() * f32::from(packed & 0x0f);
        (Scale::Halves(packed.map(scale)), Min::Halves(packed.map(min)))
    }
}

impl BlockQ3_K {
    /// Scale `i`, −32..=31.
    fn scale(&self, i: usize) -> i8 {
        let (low, high) = (self.scales[i % 8] >> (4 * (i / 8)) & 0x0f, self.scales[8 + i % 4] >> (2 * (i / 4)) & 0x03);
        (low | high << 4) as i8 - 32
    }
}

impl Block for BlockQ3_K {
    const TYPE: TensorType = TensorType::Q3_K;
    const ZERO: u8 = 4;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d)];
    const BYTE_SCALES: Range<usize> = offset_of!(Self, scales)..offset_of!(Self, d);

    fn codes(&self, sub: usize) -> [u8; SUB] {
        let low = bits(&self.qs.as_chunks().0[sub / 4], 2 * (sub % 4), 0x03);
        let high = bits(&self.hmask, sub, 1);
        std::array::from_fn(|k| low[k] | high[k] << 2)
    }

    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]) {
        set_bits(&mut self.qs.as_chunks_mut().0[sub / 4], 2 * (sub % 4), 0x03, codes);
        set_bits(&mut self.hmask, sub, 1, &codes.map(|c| c >> 2));
    }

    fn scales(&self, sub: usize) -> (Scale, Min) {
        let scales = [self.scale(2 * sub), self.scale(2 * sub + 1)];
        (Scale::Halves(scales.map(|scale| self.d.to_f32() * f32::from(scale))), Min::None)
    }
}

impl Block for BlockQ4_K {
    const TYPE: TensorType = TensorType::Q4_K;
    const ZERO: u8 = 0;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d), offset_of!(Self, dmin)];
    const BYTE_SCALES: Range<usize> = offset_of!(Self, scales)..offset_of!(Self, qs);

    fn codes(&self, sub: usize) -> [u8; SUB] {
        bits(bytes_of_pair(&self.qs, sub), 4 * (sub % 2), 0x0f)
    }

    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]) {
        set_bits(bytes_of_pair_mut(&mut self.qs, sub), 4 * (sub % 2), 0x0f, codes);
    }

    fn scales(&self, sub: usize) -> (Scale, Min) {
        scale_and_min(self.d, self.dmin, &self.scales, sub)
    }
}

impl Block for BlockQ5_K {
    const TYPE: TensorType = TensorType::Q5_K;
    const ZERO: u8 = 0;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d), offset_of!(Self, dmin)];
    const BYTE_SCALES: Range<usize> = offset_of!(Self, scales)..offset_of!(Self, qh);

    fn codes(&self, sub: usize) -> [u8; SUB] {
        let low = bits(bytes_of_pair(&self.qs, sub), 4 * (sub % 2), 0x0f);
        let high = bits(&self.qh, sub, 1);
        std::array::from_fn(|k| low[k] | high[k] << 4)
    }

    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]) {
        set_bits(bytes_of_pair_mut(&mut self.qs, sub), 4 * (sub % 2), 0x0f, codes);
        set_bits(&mut self.qh, sub, 1, &codes.map(|c| c >> 4));
    }

    fn scales(&self, sub: usize) -> (Scale, Min) {
        scale_and_min(self.d, self.dmin, &self.scales, sub)
    }
}

impl BlockQ6_K {
    /// For each sub-block the 32 bytes of `ql` and of `qh` that have its bits, and how far up they are in those bytes.
    const fn place(sub: usize) -> (usize, usize, usize, usize) {
        let (half, t) = (sub / 4, sub % 4);
        (2 * half + t % 2, 4 * (t / 2), half, 2 * t)
    }
}

impl Block for BlockQ6_K {
    const TYPE: TensorType = TensorType::Q6_K;
    const ZERO: u8 = 32;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d)];
    const BYTE_SCALES: Range<usize> = offset_of!(Self, scales)..offset_of!(Self, d);

    fn codes(&self, sub: usize) -> [u8; SUB] {
        let (low_bytes, low_shift, high_bytes, high_shift) = Self::place(sub);
        let low = bits(&self.ql.as_chunks().0[low_bytes], low_shift, 0x0f);
        let high = bits(&self.qh.as_chunks().0[high_bytes], high_shift, 0x03);
        std::array::from_fn(|k| low[k] | high[k] << 4)
    }

    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]) {
        let (low_bytes, low_shift, high_bytes, high_shift) = Self::place(sub);
        set_bits(&mut self.ql.as_chunks_mut().0[low_bytes], low_shift, 0x0f, codes);
        set_bits(&mut self.qh.as_chunks_mut().0[high_bytes], high_shift, 0x03, &codes.map(|c| c >> 4));
    }

    fn scales(&self, sub: usize) -> (Scale, Min) {
        let scales = [self.scales[2 * sub], self.scales[2 * sub + 1]];
        (Scale::Halves(scales.map(|scale| self.d.to_f32() * f32::from(scale))), Min::None)
    }
}

/// Scale and (negated) minimum of sub-block `sub`. The 6-bit numbers of sub-blocks 0..4 are the low bits of bytes 0..4
/// (scales) and 4..8 (minima); those of 4..8 have their low 4 bits in the halves of bytes 8..12 and their upper 2 bits
/// at the top of bytes 0..4 and 4..8.
fn scale_and_min(d: f16, dmin: f16, packed: &[u8; 12], sub: usize) -> (Scale, Min) {
    let (scale, min) = if sub < 4 {
        (packed[sub] & 0x3f, packed[sub + 4] & 0x3f)
    } else {
        let low = packed[sub + 4];
        (low & 0x0f | packed[sub - 4] >> 6 << 4, low >> 4 | packed[sub] >> 6 << 4)
    };
    (Scale::One(d.to_f32() * f32::from(scale)), Min::One(-(dmin.to_f32() * f32::from(min))))
}

/// The 32 bytes of `qs` that sub-blocks `2·c` and `2·c + 1` share.
fn bytes_of_pair(qs: &[u8; 128], sub: usize) -> &[u8; SUB] {
    &qs.as_chunks().0[sub / 2]
}

fn bytes_of_pair_mut(qs: &mut [u8; 128], sub: usize) -> &mut [u8; SUB] {
    &mut qs.as_chunks_mut().0[sub / 2]
}

fn bits(bytes: &[u8; SUB], shift: usize, mask: u8) -> [u8; SUB] {
    bytes.map(|b| b >> shift & mask)
}

/// Replaces the bits that [`bits`] reads by the low bits of `values`.
fn set_bits(bytes: &mut [u8; SUB], shift: usize, mask: u8, values: &[u8; SUB]) {
    for (b, v) in bytes.iter_mut().zip(values) {
        *b = *b & !(mask << shift) | (v & mask) << shift;
    }
}
