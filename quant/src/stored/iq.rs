//! IQ1_S to IQ3_S: 8 or 4 weights at a time are a point of a grid, and signs.
//!
//! The layouts are ggml's (`block_iq2_xxs` and its like in `ggml-common.h`); numbers of more than a byte are
//! little-endian.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::block::{Scales, StoredBlock};
use super::grids;
use crate::types::StoredType;

/// `w = d · (2·scale + 1) · (t ± 1/8)`, t from a ternary grid of 8, scale of 3 bits for each 32.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockIQ1_S {
    d: f16,
    /// For each 8 weights, the low 8 bits of the point's number.
    qs: [u8; 32],
    /// For each 32 weights: the upper 3 bits of four numbers, the scale in bits 12..15, and bit 15 when the eighth is
    /// subtracted.
    qh: [[u8; 2]; 8],
}

/// `w = d · (2·scale + 1) · (t ± 1/8)`, scale of 3 bits for each 16.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockIQ1_M {
    /// For each 8 weights, the low 8 bits of the point's number.
    qs: [u8; 32],
    /// For each 8 weights, half a byte: the upper 3 bits of the number, and a bit when the eighth is subtracted.
    qh: [u8; 16],
    /// Each number: four scales in the low 12 bits, and 4 bits of the f16 `d`, whose low bits come first.
    scales: [[u8; 2]; 4],
}

/// `w = d / 8 · (2·scale + 1) · ±s`, s from a grid of 8, scale of 4 bits for each 32.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockIQ2_XXS {
    d: f16,
    /// For each 32 weights: the numbers of four points; 32 bits, 7 of signs for each point, then the scale.
    groups: [[[u8; 4]; 2]; 8],
}

/// `w = d / 8 · (2·scale + 1) · ±s`, scale of 4 bits for each 16.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockIQ2_XS {
    d: f16,
    /// For each 8 weights: the point's number in 9 bits, signs in 7.
    qs: [[u8; 2]; 32],
    /// For each 16 weights, half a byte.
    scales: [u8; 8],
}

/// `w = d / 8 · (2·scale + 1) · ±s`, scale of 4 bits for each 16.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockIQ2_S {
    d: f16,
    /// For each 8 weights, the low 8 bits of the point's number.
    qs: [u8; 32],
    /// For each 8 weights, the signs.
    signs: [u8; 32],
    /// For each 8 weights, the upper 2 bits of the point's number.
    qh: [u8; 8],
    /// For each 16 weights, half a byte.
    scales: [u8; 8],
}

/// `w = d / 4 · (2·scale + 1) · ±s`, s from a grid of 4, scale of 4 bits for each 32.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockIQ3_XXS {
    d: f16,
    /// For each 4 weights, the point's number.
    qs: [u8; 64],
    /// For each 32 weights, 32 bits: 7 bits of signs for each 8 weights, then the scale.
    signs_and_scales: [[u8; 4]; 8],
}

/// `w = d · (2·scale + 1) · ±s`, s from a grid of 4, scale of 4 bits for each 32.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub(super) struct BlockIQ3_S {
    d: f16,
    /// For each 4 weights, the low 8 bits of the point's number.
    qs: [u8; 64],
    /// For each 4 weights, the upper bit of the point's number.
    qh: [u8; 8],
    /// For each 8 weights, the signs.
    signs: [u8; 32],
    /// For each 32 weights, half a byte.
    scales: [u8; 4],
}

const _: () = {
    assert!(size_of::<BlockIQ1_S>() == StoredType::IQ1_S.block_bytes());
    assert!(size_of::<BlockIQ1_M>() == StoredType::IQ1_M.block_bytes());
    assert!(size_of::<BlockIQ2_XXS>() == StoredType::IQ2_XXS.block_bytes());
    assert!(size_of::<BlockIQ2_XS>() == StoredType::IQ2_XS.block_bytes());
    assert!(size_of::<BlockIQ2_S>() == StoredType::IQ2_S.block_bytes());
    assert!(size_of::<BlockIQ3_XXS>() == StoredType::IQ3_XXS.block_bytes());
    assert!(size_of::<BlockIQ3_S>() == StoredType::IQ3_S.block_bytes());
};

/// What the levels of the IQ2 grids are worth. The fourth does not occur.
const IQ2_SIZES: [i8; 4] = [8, 25, 43, 0];
/// The same for IQ3_XXS.
const IQ3_XXS_SIZES: [i8; 8] = [4, 12, 20, 28, 36, 44, 52, 62];
/// The same for IQ3_S.
const IQ3_S_SIZES: [i8; 8] = [1, 3, 5, 7, 9, 11, 13, 15];

impl StoredBlock for BlockIQ1_S {
    const TYPE: StoredType = StoredType::IQ1_S;

    fn scales(&self) -> Scales {
        odd_scales(self.d.to_f32() / 8.0, |g| u16::from_le_bytes(self.qh[g / 2]) >> 12 & 7)
    }

    fn codes(&self, out: &mut [i8]) {
        eights(out, |e| {
            let qh = u16::from_le_bytes(self.qh[e / 4]);
            eighths(u16::from(self.qs[e]) | (qh >> (3 * (e % 4)) & 7) << 8, qh >> 15 == 1)
        });
    }
}

impl StoredBlock for BlockIQ1_M {
    const TYPE: StoredType = StoredType::IQ1_M;

    fn scales(&self) -> Scales {
        let scales = self.scales.map(u16::from_le_bytes);
        let d = scales.iter().rev().fold(0, |bits, s| bits << 4 | s >> 12);
        odd_scales(f16::from_bits(d).to_f32() / 8.0, |g| scales[g / 4] >> (3 * (g % 4)) & 7)
    }

    fn codes(&self, out: &mut [i8]) {
        eights(out, |e| {
            let high = u16::from(half_byte(&self.qh, e));
            eighths(u16::from(self.qs[e]) | (high & 7) << 8, high & 8 != 0)
        });
    }
}

impl StoredBlock for BlockIQ2_XXS {
    const TYPE: StoredType = StoredType::IQ2_XXS;

    fn scales(&self) -> Scales {
        odd_scales(self.d.to_f32() / 8.0, |g| u16::from(self.groups[g / 2][1][3] >> 4))
    }

    fn codes(&self, out: &mut [i8]) {
        eights(out, |e| {
            let [points, bits] = self.groups[e / 4];
            signed(grids::IQ2_XXS[usize::from(points[e % 4])], 2, &IQ2_SIZES, seven_signs(bits, e % 4))
        });
    }
}

impl StoredBlock for BlockIQ2_XS {
    const TYPE: StoredType = StoredType::IQ2_XS;

    fn scales(&self) -> Scales {
        odd_scales(self.d.to_f32() / 8.0, |g| half_byte(&self.scales, g).into())
    }

    fn codes(&self, out: &mut [i8]) {
        eights(out, |e| {
            let q = u16::from_le_bytes(self.qs[e]);
            signed(grids::IQ2_XS[usize::from(q & 511)], 2, &IQ2_SIZES, with_parity((q >> 9) as u8))
        });
    }
}

impl StoredBlock for BlockIQ2_S {
    const TYPE: StoredType = StoredType::IQ2_S;

    fn scales(&self) -> Scales {
        odd_scales(self.d.to_f32() / 8.0, |g| half_byte(&self.scales, g).into())
    }

    fn codes(&self, out: &mut [i8]) {
        eights(out, |e| {
            let high = self.qh[e / 4] >> (2 * (e % 4)) & 3;
            let point = usize::from(self.qs[e]) | usize::from(high) << 8;
            signed(grids::IQ2_S[point], 2, &IQ2_SIZES, self.signs[e])
        });
    }
}

impl StoredBlock for BlockIQ3_XXS {
    const TYPE: StoredType = StoredType::IQ3_XXS;

    fn scales(&self) -> Scales {
        odd_scales(self.d.to_f32() / 4.0, |g| u16::from(self.signs_and_scales[g / 2][3] >> 4))
    }

    fn codes(&self, out: &mut [i8]) {
        eights(out, |e| {
            let points = [2 * e, 2 * e + 1].map(|f| grids::IQ3_XXS[usize::from(self.qs[f])]);
            two_fours(points, &IQ3_XXS_SIZES, seven_signs(self.signs_and_scales[e / 4], e % 4))
        });
    }
}

impl StoredBlock for BlockIQ3_S {
    const TYPE: StoredType = StoredType::IQ3_S;

    fn scales(&self) -> Scales {
        odd_scales(self.d.to_f32(), |g| half_byte(&self.scales, g / 2).into())
    }

    fn codes(&self, out: &mut [i8]) {
        eights(out, |e| {
            let high = |f: usize| usize::from(self.qh[f / 8] >> (f % 8) & 1);
            let points = [2 * e, 2 * e + 1].map(|f| grids::IQ3_S[usize::from(self.qs[f]) | high(f) << 8]);
            two_fours(points, &IQ3_S_SIZES, self.signs[e])
        });
    }
}

/// Codes, eight at a time.
fn eights(out: &mut [i8], eight: impl Fn(usize) -> [i8; 8]) {
    for (e, codes) in out.as_chunks_mut().0.iter_mut().enumerate() {
        *codes = eight(e);
    }
}

/// For each 16 weights `2·scale + 1`.
fn odd_scales(d: f32, scale: impl Fn(usize) -> u16) -> Scales {
    Scales { d, groups: std::array::from_fn(|g| 2 * i32::from(scale(g)) + 1) }
}

/// Number `n` of those that stand two in a byte, the first in the low half.
fn half_byte(bytes: &[u8], n: usize) -> u8 {
    bytes[n / 2] >> (4 * (n % 2)) & 0x0f
}

/// Signs number `n` of the four that stand in the low 28 of 32 bits.
fn seven_signs(bits: [u8; 4], n: usize) -> u8 {
    with_parity((u32::from_le_bytes(bits) >> (7 * n)) as u8)
}

/// Eight signs from seven (the eighth bit given does not count): the number of minus signs is even.
fn with_parity(signs: u8) -> u8 {
    let signs = signs & 0x7f;
    signs | (signs.count_ones() as u8 & 1) << 7
}

/// `8·t ± 1` for the eight ternary numbers of point number `point` of IQ1's grid.
fn eighths(point: u16, minus: bool) -> [i8; 8] {
    let shift = if minus { -1 } else { 1 };
    signed(grids::IQ1[usize::from(point)], 2, &[-8, 0, 8, 0], 0).map(|code| code + shift)
}

/// The sizes of a point whose levels take `bits` bits each, negative where `signs` has a bit.
fn signed<const N: usize>(point: u16, bits: usize, sizes: &[i8], signs: u8) -> [i8; N] {
    std::array::from_fn(|k| {
        let size = sizes[usize::from(point >> (bits * k)) % sizes.len()];
        if signs >> k & 1 == 1 { -size } else { size }
    })
}

/// Two points of four.
fn two_fours(points: [u16; 2], sizes: &[i8; 8], signs: u8) -> [i8; 8] {
    let [a, b]: [[i8; 4]; 2] = [signed(points[0], 3, sizes, signs), signed(points[1], 3, sizes, signs >> 4)];
    std::array::from_fn(|k| if k < 4 { a[k] } else { b[k - 4] })
}
