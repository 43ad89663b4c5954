//! TQ1_0, Q1_0, Q2_0: two to four levels for a weight; NVFP4: the 15 values of a 4-bit floating-point number.
//!
//! The layouts are ggml's (`block_tq1_0` and its like in `ggml-common.h`).

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::block::{Scales, StoredBlock};
use crate::blocks::E2M1_DOUBLED;
use crate::types::StoredType;

/// `w = d · (t − 1)`, t of 0, 1, 2, five of them in a byte.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockTQ1_0 {
    /// Five digits in base 3 each, scaled up to the whole byte (see [`digit`]): digit `n` of byte `m` of the first 32
    /// is weight `32·n + m`, of the other 16 weight `160 + 16·n + m`.
    qs: [u8; 48],
    /// Four digits each: digit `n` of byte `m` is weight `240 + 4·n + m`.
    qh: [u8; 4],
    d: f16,
}

/// `w = scale / 2 · v`, v from [`E2M1_DOUBLED`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct BlockNVFP4 {
    /// For each 16 weights, a number of 4 bits of exponent and 3 of mantissa (E4M3, no sign).
    scales: [u8; 4],
    /// For each 16 weights 8 bytes: byte `j` has weight `j` in its low half, `j + 8` in its high half.
    qs: [[u8; 8]; 4],
}

/// `w = ±d`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockQ1_0 {
    d: f16,
    /// Bit `k % 8` of byte `k / 8` is 1 when weight `k` is `d`, 0 when it is `−d`.
    qs: [u8; 16],
}

/// `w = d · (q − 1)`, q of 2 bits.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockQ2_0 {
    d: f16,
    /// Bits `2·(k % 4)..` of byte `k / 4` are weight `k`.
    qs: [u8; 16],
}

const _: () = {
    assert!(size_of::<BlockTQ1_0>() == StoredType::TQ1_0.block_bytes());
    assert!(size_of::<BlockNVFP4>() == StoredType::NVFP4.block_bytes());
    assert!(size_of::<BlockQ1_0>() == StoredType::Q1_0.block_bytes());
    assert!(size_of::<BlockQ2_0>() == StoredType::Q2_0.block_bytes());
};

impl StoredBlock for BlockTQ1_0 {
    const TYPE: StoredType = StoredType::TQ1_0;

    fn scales(&self) -> Scales {
        one_scale(self.d.to_f32())
    }

    fn codes(&self, out: &mut [i8]) {
        let (first, second) = self.qs.split_at(32);
        for (k, code) in out.iter_mut().enumerate() {
            let digit = match k {
                0..160 => digit(first[k % 32], k / 32),
                160..240 => digit(second[k % 16], (k - 160) / 16),
                _ => digit(self.qh[k % 4], (k - 240) / 4),
            };
            *code = digit - 1;
        }
    }
}

/// Digit `n` (the first is the highest) of a byte that stands for the fraction `byte / 256`, in base 3.
fn digit(byte: u8, n: usize) -> i8 {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    // Wrapping drops the digits before the point; times 3, digit `n` stands before it.
    ((u16::from(byte.wrapping_mul(POWERS[n])) * 3) >> 8) as i8
}

impl StoredBlock for BlockNVFP4 {
    const TYPE: StoredType = StoredType::NVFP4;

    fn scales(&self) -> Scales {
        // Half of the unit of `e4m3`.
        Scales { d: 1.0 / 1024.0, groups: std::array::from_fn(|g| self.scales.get(g).map_or(0, |&s| e4m3(s))) }
    }

    fn codes(&self, out: &mut [i8]) {
        for (out, qs) in out.as_chunks_mut::<16>().0.iter_mut().zip(&self.qs) {
            for (j, byte) in qs.iter().enumerate() {
                out[j] = E2M1_DOUBLED[usize::from(byte & 0x0f)];
                out[j + 8] = E2M1_DOUBLED[usize::from(byte >> 4)];
            }
        }
    }
}

/// An E4M3 number in units of 2⁻⁹, the smallest one. Its sign bit is ignored, and 0x7f, the format's NaN, is 0, as in
/// ggml.
fn e4m3(bits: u8) -> i32 {
    let (exponent, mantissa) = (bits >> 3 & 15, i32::from(bits & 7));
    match exponent {
        _ if bits == 0x7f => 0,
        0 => mantissa,
        _ => (8 + mantissa) << (exponent - 1),
    }
}

impl StoredBlock for BlockQ1_0 {
    const TYPE: StoredType = StoredType::Q1_0;

    fn scales(&self) -> Scales {
        one_scale(self.d.to_f32())
    }

    fn codes(&self, out: &mut [i8]) {
        for (k, code) in out.iter_mut().enumerate() {
            *code = 2 * (self.qs[k / 8] >> (k % 8) & 1) as i8 - 1;
        }
    }
}

impl StoredBlock for BlockQ2_0 {
    const TYPE: StoredType = StoredType::Q2_0;

    fn scales(&self) -> Scales {
        one_scale(self.d.to_f32())
    }

    fn codes(&self, out: &mut [i8]) {
        for (k, code) in out.iter_mut().enumerate() {
            *code = two_bits(self.qs[k / 4], k % 4) - 1;
        }
    }
}

fn two_bits(byte: u8, n: usize) -> i8 {
    (byte >> (2 * n) & 3) as i8
}

/// A block without scales for its parts.
fn one_scale(d: f32) -> Scales {
    Scales { d, groups: [1; 16] }
}
