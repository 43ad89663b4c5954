//! MXFP4 (OCP Microscaling Formats 1.0): 4-bit floating-point numbers, and a power of two for each 32 of them.

use std::{mem::offset_of, ops::Range};

use bytemuck::{Pod, Zeroable};

use super::block::{Block, Min, SUB, Scale, agrees_with_table, join_nibbles, split_nibbles};
use crate::types::TensorType;

/// Twice the numbers of a sign, 2 bits of exponent and 1 of mantissa (E2M1), which makes them integers. (The two zeros
/// are one integer.)
pub const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The largest exponent with which all weights are numbers: 12·2¹²⁴ is less than 2¹²⁸.
pub(crate) const LARGEST_EXPONENT: u8 = 252;

/// `w = 2^(e − 127) / 2 · value[q]`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockMXFP4 {
    /// Exponent of the scale, biased by 127 (E8M0). That 255 stands for NaN is ignored, as ggml does.
    pub e: u8,
    /// Codes: byte `j` has weight `j` in its low, `j + 16` in its high half.
    pub qs: [u8; 16],
}

const _: () = assert!(agrees_with_table::<BlockMXFP4>());

impl Block for BlockMXFP4 {
    const TYPE: TensorType = TensorType::MXFP4;
    const ZERO: u8 = 0;
    const F16_SCALES: &'static [usize] = &[];
    const BYTE_SCALES: Range<usize> = offset_of!(Self, e)..offset_of!(Self, qs);

    fn codes(&self, _: usize) -> [u8; SUB] {
        split_nibbles(&self.qs)
    }

    fn set_codes(&mut self, _: usize, codes: &[u8; SUB]) {
        self.qs = join_nibbles(codes);
    }

    fn scales(&self, _: usize) -> (Scale, Min) {
        // 2^(e − 128) is subnormal for the two smallest exponents.
        let bits = if self.e < 2 { 1 << (21 + self.e) } else { (u32::from(self.e) - 1) << 23 };
        (Scale::One(f32::from_bits(bits)), Min::None)
    }

    fn value(code: u8) -> i8 {
        E2M1_DOUBLED[usize::from(code & 15)]
    }
}
