//! The forms that types take when they are multiplied: what is left of a type when its codes are bytes and its scales
//! are f32.

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

/// The only implementation: the types below are its forms.
pub(crate) struct Of<const BITS: u32, const SCALES: usize, const MINS: usize>;
impl<const BITS: u32, const SCALES: usize, const MINS: usize> Form for Of<BITS, SCALES, MINS> {
    const BITS: u32 = BITS;
    const SCALES: usize = SCALES;
    const MINS: usize = MINS;
}

/// Codes of `BITS` bits and a scale.
pub(crate) type Scaled<const BITS: u32> = Of<BITS, 1, 0>;
/// Codes of `BITS` bits, a scale and a minimum.
pub(crate) type Affine<const BITS: u32> = Of<BITS, 1, 1>;
/// Codes of `BITS` bits and scales for the halves of a block.
pub(crate) type Halved<const BITS: u32> = Of<BITS, 2, 0>;
/// Codes of `BITS` bits, and scales and minima for the halves of a block.
pub(crate) type HalvedAffine<const BITS: u32> = Of<BITS, 2, 2>;

/// What is added to the values of a block to make codes: nothing or a power of two. A type has either an offset or a
/// minimum.
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

/// What a sum starts from so that `offset` is taken from all codes; `minus` is what a
/// [`Tile`](crate::activations::Tile) has as `minus` or, where halves have scales, as `minus_halves`.
#[inline(always)]
pub(crate) fn start<S: Simd, F: Form>(s: S, minus: i32, offset: i32) -> S::I {
    if offset == 0 {
        return s.splat_i32(0);
    }
    let included = if F::SCALES == 2 { HALVES_OFFSET } else { 1 };
    s.splat_shifted(minus, offset.ilog2() as i32 - included.ilog2() as i32)
}
