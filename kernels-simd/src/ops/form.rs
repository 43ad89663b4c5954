//! The forms that types take when they are multiplied: what is left of a type when its codes are bytes and its scales are f32.

use crate::activations::HALVES_OFFSET;
use crate::simd::Simd;

use super::codes::{Codes, Widened};

/// How widened codes are multiplied.
pub(crate) trait Form {
    /// Bits of a code; 8 stands for what [`Simd::bytes`] makes.
    const BITS: u32;
    /// Scales of a block: one, or one for each half.
    const SCALES: usize;
    /// Minima that are added: none, one, or one for each half of a block.
    const MINS: usize;
}

/// Codes of `BITS` bits and a scale.
pub(crate) struct Scaled<const BITS: u32>;
impl<const BITS: u32> Form for Scaled<BITS> {
    const BITS: u32 = BITS;
    const SCALES: usize = 1;
    const MINS: usize = 0;
}

/// Codes of `BITS` bits, a scale and a minimum.
pub(crate) struct Affine<const BITS: u32>;
impl<const BITS: u32> Form for Affine<BITS> {
    const BITS: u32 = BITS;
    const SCALES: usize = 1;
    const MINS: usize = 1;
}

/// Codes of `BITS` bits and scales for the halves of a block.
pub(crate) struct Halved<const BITS: u32>;
impl<const BITS: u32> Form for Halved<BITS> {
    const BITS: u32 = BITS;
    const SCALES: usize = 2;
    const MINS: usize = 0;
}

/// Codes of `BITS` bits, and scales and minima for the halves of a block.
pub(crate) struct HalvedAffine<const BITS: u32>;
impl<const BITS: u32> Form for HalvedAffine<BITS> {
    const BITS: u32 = BITS;
    const SCALES: usize = 2;
    const MINS: usize = 2;
}

/// What is added to the values of a block to make codes: nothing or a power of two. A type has either an offset or a minimum.
pub(crate) const fn offset<S: Simd, F: Form>() -> i32 {
    assert!(S::BYTE_OFFSET.count_ones() <= 1);
    match F::BITS {
        _ if F::MINS > 0 => 0,
        8 => S::BYTE_OFFSET,
        bits => 1 << (bits - 1),
    }
}

/// Bytes of a block of 16 rows × 32 columns in the memory that [`Simd::store_codes`] fills.
pub(crate) const fn widened<S: Simd, F: Form>() -> usize {
    if S::WIDE && F::BITS == 8 { 2 * Widened::BYTES } else { Widened::BYTES }
}

/// What a sum starts from so that `offset` is taken from all codes; `minus` is [`Tile::minus`](crate::activations::Tile::minus) or, where halves have scales, one of
/// [`Tile::minus_halves`](crate::activations::Tile::minus_halves).
#[inline(always)]
pub(crate) fn start<S: Simd, F: Form>(s: S, minus: i32, offset: i32) -> S::I {
    if offset == 0 {
        return s.splat_i32(0);
    }
    let included = if F::SCALES == 2 { HALVES_OFFSET } else { 1 };
    s.splat_shifted(minus, offset.ilog2() as i32 - included.ilog2() as i32)
}
