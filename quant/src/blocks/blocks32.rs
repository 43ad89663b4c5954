//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: 32 weights with one f16 scale, and for the `_1` types one f16 minimum.
//!
//! The 4-bit codes of weights `j` and `j + 16` are the low and high half of byte `j`; the fifth bit of weight `k` is
//! bit `k` of the little-endian number `qh`. The quantisers keep f32 throughout and round the scale to f16 only to
//! store it.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::block::{Block, Min, SUB, Scale, agrees_with_table, join_nibbles, split_nibbles};
use crate::types::TensorType;

/// `w = d · (q − 8)`, q of 4 bits.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ4_0 {
    /// Scale.
    pub d: f16,
    /// Codes, two a byte.
    pub qs: [u8; 16],
}

/// `w = d · q + m`, q of 4 bits.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ4_1 {
    /// Scale.
    pub d: f16,
    /// Minimum.
    pub m: f16,
    /// Codes, two a byte.
    pub qs: [u8; 16],
}

/// `w = d · (q − 16)`, q of 5 bits.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ5_0 {
    /// Scale.
    pub d: f16,
    /// Fifth bits, a little-endian u32.
    pub qh: [u8; 4],
    /// Low 4 bits, two codes a byte.
    pub qs: [u8; 16],
}

/// `w = d · q + m`, q of 5 bits.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ5_1 {
    /// Scale.
    pub d: f16,
    /// Minimum.
    pub m: f16,
    /// Fifth bits, a little-endian u32.
    pub qh: [u8; 4],
    /// Low 4 bits, two codes a byte.
    pub qs: [u8; 16],
}

/// `w = d · q`, q a signed byte.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockQ8_0 {
    /// Scale.
    pub d: f16,
    /// Values.
    pub qs: [i8; 32],
}

const _: () = {
    assert!(agrees_with_table::<BlockQ4_0>());
    assert!(agrees_with_table::<BlockQ4_1>());
    assert!(agrees_with_table::<BlockQ5_0>());
    assert!(agrees_with_table::<BlockQ5_1>());
    assert!(agrees_with_table::<BlockQ8_0>());
};

impl Block for BlockQ4_0 {
    const TYPE: TensorType = TensorType::Q4_0;
    const ZERO: u8 = 8;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d)];

    fn codes(&self, _: usize) -> [u8; SUB] {
        split_nibbles(&self.qs)
    }

    fn set_codes(&mut self, _: usize, codes: &[u8; SUB]) {
        self.qs = join_nibbles(codes);
    }

    fn scales(&self, _: usize) -> (Scale, Min) {
        (Scale::One(self.d.to_f32()), Min::None)
    }
}

impl Block for BlockQ4_1 {
    const TYPE: TensorType = TensorType::Q4_1;
    const ZERO: u8 = 0;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d), offset_of!(Self, m)];

    fn codes(&self, _: usize) -> [u8; SUB] {
        split_nibbles(&self.qs)
    }

    fn set_codes(&mut self, _: usize, codes: &[u8; SUB]) {
        self.qs = join_nibbles(codes);
    }

    fn scales(&self, _: usize) -> (Scale, Min) {
        (Scale::One(self.d.to_f32()), Min::One(self.m.to_f32()))
    }
}

impl Block for BlockQ5_0 {
    const TYPE: TensorType = TensorType::Q5_0;
    const ZERO: u8 = 16;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d)];

    fn codes(&self, _: usize) -> [u8; SUB] {
        with_fifth_bits(split_nibbles(&self.qs), self.qh)
    }

    fn set_codes(&mut self, _: usize, codes: &[u8; SUB]) {
        self.qs = join_nibbles(codes);
        self.qh = fifth_bits(codes);
    }

    fn scales(&self, _: usize) -> (Scale, Min) {
        (Scale::One(self.d.to_f32()), Min::None)
    }
}

impl Block for BlockQ5_1 {
    const TYPE: TensorType = TensorType::Q5_1;
    const ZERO: u8 = 0;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d), offset_of!(Self, m)];

    fn codes(&self, _: usize) -> [u8; SUB] {
        with_fifth_bits(split_nibbles(&self.qs), self.qh)
    }

    fn set_codes(&mut self, _: usize, codes: &[u8; SUB]) {
        self.qs = join_nibbles(codes);
        self.qh = fifth_bits(codes);
    }

    fn scales(&self, _: usize) -> (Scale, Min) {
        (Scale::One(self.d.to_f32()), Min::One(self.m.to_f32()))
    }
}

impl Block for BlockQ8_0 {
    const TYPE: TensorType = TensorType::Q8_0;
    const ZERO: u8 = 0;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d)];

    fn codes(&self, _: usize) -> [u8; SUB] {
        bytemuck::cast(self.qs)
    }

    fn set_codes(&mut self, _: usize, codes: &[u8; SUB]) {
        self.qs = bytemuck::cast(*codes);
    }

    fn scales(&self, _: usize) -> (Scale, Min) {
        (Scale::One(self.d.to_f32()), Min::None)
    }
}

impl BlockQ4_0 {
    /// The block nearest to `x` by ggml's rule: the value farthest from zero becomes code 0.
    pub fn from_weights(x: &[f32; SUB]) -> Self {
        let d = farthest(x) / -8.0;
        let id = inverse(d);
        let codes = x.map(|x| (to_int(x * id + 8.5) as i8).min(15) as u8);
        Self { d: f16::from_f32(d), qs: join_nibbles(&codes) }
    }
}

impl BlockQ4_1 {
    /// The block nearest to `x` by ggml's rule: codes run from the smallest to the largest value.
    pub fn from_weights(x: &[f32; SUB]) -> Self {
        let (min, max) = range(x);
        let d = (max - min) / 15.0;
        let id = inverse(d);
        let codes = x.map(|x| (to_int((x - min) * id + 0.5) as i8).min(15) as u8);
        Self { d: f16::from_f32(d), m: f16::from_f32(min), qs: join_nibbles(&codes) }
    }
}

impl BlockQ5_0 {
    /// The block nearest to `x` by ggml's rule: the value farthest from zero becomes code 0.
    pub fn from_weights(x: &[f32; SUB]) -> Self {
        let d = farthest(x) / -16.0;
        let id = inverse(d);
        let codes = x.map(|x| (to_int(x * id + 16.5) as i8).min(31) as u8);
        Self { d: f16::from_f32(d), qh: fifth_bits(&codes), qs: join_nibbles(&codes) }
    }
}

impl BlockQ5_1 {
    /// The block nearest to `x` by ggml's rule: codes run from the smallest to the largest value.
    pub fn from_weights(x: &[f32; SUB]) -> Self {
        let (min, max) = range(x);
        let d = (max - min) / 31.0;
        let id = inverse(d);
        let codes = x.map(|x| to_int((x - min) * id + 0.5) as u8);
        Self { d: f16::from_f32(d), m: f16::from_f32(min), qh: fifth_bits(&codes), qs: join_nibbles(&codes) }
    }
}

impl BlockQ8_0 {
    /// The block nearest to `x` by ggml's rule: the value farthest from zero becomes ±127; halves round away from zero.
    pub fn from_weights(x: &[f32; SUB]) -> Self {
        let d = farthest(x).abs() / 127.0;
        let id = inverse(d);
        Self { d: f16::from_f32(d), qs: x.map(|x| to_int((x * id).round()) as i8) }
    }
}

/// The value with the largest magnitude; the first one of several.
fn farthest(x: &[f32; SUB]) -> f32 {
    x.iter().fold(0.0, |far: f32, &x| if x.abs() > far.abs() { x } else { far })
}

/// The smallest and the largest value.
fn range(x: &[f32; SUB]) -> (f32, f32) {
    x.iter()
        .fold((f32::MAX, -f32::MAX), |(min, max), &x| (if x < min { x } else { min }, if x > max { x } else { max }))
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Truncates as C's cast does on x86: NaN and values outside the range of i32 become its minimum. That happens only
/// when a scale is so small that its inverse is infinite, or when a range overflows f32. The block's values are all
/// zero or infinite then, but its bytes are ggml's.
fn to_int(x: f32) -> i32 {
    if x.abs() < 2_147_483_648.0 { x as i32 } else { i32::MIN }
}

/// Adds bit `k` of `qh` to code `k` as its fifth bit, 4 codes at a time.
fn with_fifth_bits(codes: [u8; SUB], qh: [u8; 4]) -> [u8; SUB] {
    let qh = u32::from_le_bytes(qh);
    let mut words: [u32; SUB / 4] = bytemuck::cast(codes);
    for (j, word) in words.iter_mut().enumerate() {
        // The product has the 4 bits 7 places apart, so that bit i also stands at the bottom of byte i.
        let spread = ((qh >> (4 * j) & 0x0f) * 0x0020_4081) & 0x0101_0101;
        *word |= spread << 4;
    }
    bytemuck::cast(words)
}

/// The fifth bits of the codes, inverse of [`with_fifth_bits`].
fn fifth_bits(codes: &[u8; SUB]) -> [u8; 4] {
    let words: [u32; SUB / 4] = bytemuck::cast(*codes);
    let mut qh = 0;
    for (j, word) in words.iter().enumerate() {
        // Bit i, at the bottom of byte i, meets 2^(24 − 7i) and lands on bit 24 + i.
        qh |= ((word >> 4 & 0x0101_0101).wrapping_mul(0x0102_0408) >> 24 & 0x0f) << (4 * j);
    }
    qh.to_le_bytes()
}
