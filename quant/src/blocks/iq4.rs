//! IQ4_NL and IQ4_XS: codes of 4 bits that stand for sixteen integers, closer together near zero, where most weights
//! are.

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::block::{Block, Min, SUB, Scale, agrees_with_table, join_nibbles, split_nibbles};
use crate::types::TensorType;

/// What the codes stand for (`kvalues_iq4nl` in `ggml-common.h`), ascending.
pub const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The code of the value nearest to zero.
const ZERO: u8 = 8;

/// `w = d · value[q]`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockIQ4_NL {
    /// Scale.
    pub d: f16,
    /// Codes: byte `j` has weight `j` in its low, `j + 16` in its high half.
    pub qs: [u8; 16],
}

/// `w = d · (scale − 32) · value[q]`, scale of 6 bits for each 32 weights.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockIQ4_XS {
    /// Scale of the scales.
    pub d: f16,
    /// The upper 2 bits of the scales: those of number `s` are bits `2·s..2·s + 2` of the little-endian number.
    pub scales_h: [u8; 2],
    /// Their low 4 bits: those of number `s` are half `s % 2` of byte `s / 2`.
    pub scales_l: [u8; 4],
    /// Codes: byte `16·s + j` has weight `32·s + j` in its low, `32·s + j + 16` in its high half.
    pub qs: [u8; 128],
}

const _: () = {
    assert!(agrees_with_table::<BlockIQ4_NL>());
    assert!(agrees_with_table::<BlockIQ4_XS>());
};

impl Block for BlockIQ4_NL {
    const TYPE: TensorType = TensorType::IQ4_NL;
    const ZERO: u8 = ZERO;
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

    fn value(code: u8) -> i8 {
        IQ4_VALUES[usize::from(code & 15)]
    }
}

impl BlockIQ4_XS {
    /// Sets the scale of sub-block `sub`, −32..=31.
    pub(crate) fn set_scale(&mut self, sub: usize, scale: i8) {
        let scale = (scale + 32) as u8;
        let (low, high) = (&mut self.scales_l[sub / 2], &mut self.scales_h[sub / 4]);
        *low = *low & !(0x0f << (4 * (sub % 2))) | (scale & 0x0f) << (4 * (sub % 2));
        *high = *high & !(0x03 << (2 * (sub % 4))) | scale >> 4 << (2 * (sub % 4));
    }
}

impl Block for BlockIQ4_XS {
    const TYPE: TensorType = TensorType::IQ4_XS;
    const ZERO: u8 = ZERO;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d)];
    const BYTE_SCALES: Range<usize> = offset_of!(Self, scales_h)..offset_of!(Self, qs);

    fn codes(&self, sub: usize) -> [u8; SUB] {
        split_nibbles(&self.qs.as_chunks().0[sub])
    }

    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]) {
        self.qs.as_chunks_mut().0[sub] = join_nibbles(codes);
    }

    fn scales(&self, sub: usize) -> (Scale, Min) {
        let low = self.scales_l[sub / 2] >> (4 * (sub % 2)) & 0x0f;
        let high = self.scales_h[sub / 4] >> (2 * (sub % 4)) & 0x03;
        let scale = (low | high << 4) as i8 - 32;
        (Scale::One(self.d.to_f32() * f32::from(scale)), Min::None)
    }

    fn value(code: u8) -> i8 {
        IQ4_VALUES[usize::from(code & 15)]
    }
}
