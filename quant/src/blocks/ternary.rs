//! TQ2_0: three levels for a weight.

use std::mem::offset_of;

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::block::{Block, Min, SUB, Scale, agrees_with_table};
use crate::types::TensorType;

/// `w = d · (q − 1)`, q of 2 bits. Models use 0, 1 and 2; a 3 is what it seems.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct BlockTQ2_0 {
    /// Codes: bits `2·t..2·t + 2` of byte `32·h + l` belong to weight `128·h + 32·t + l`, l < 32.
    pub qs: [u8; 64],
    /// Scale.
    pub d: f16,
}

const _: () = assert!(agrees_with_table::<BlockTQ2_0>());

impl Block for BlockTQ2_0 {
    const TYPE: TensorType = TensorType::TQ2_0;
    const ZERO: u8 = 1;
    const F16_SCALES: &'static [usize] = &[offset_of!(Self, d)];

    fn codes(&self, sub: usize) -> [u8; SUB] {
        let (half, shift) = (&self.qs[SUB * (sub / 4)..][..SUB], 2 * (sub % 4));
        std::array::from_fn(|k| half[k] >> shift & 3)
    }

    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]) {
        let (half, shift) = (&mut self.qs[SUB * (sub / 4)..][..SUB], 2 * (sub % 4));
        for (byte, code) in half.iter_mut().zip(codes) {
            *byte = *byte & !(3 << shift) | (code & 3) << shift;
        }
    }

    fn scales(&self, _: usize) -> (Scale, Min) {
        (Scale::One(self.d.to_f32()), Min::None)
    }
}
