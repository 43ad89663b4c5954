//! Blocks: the layout of every tensor type, dequantise, quantise.
//!
//! The layouts are ggml's (`ggml-common.h`), and so are the rules by which f32 values become blocks
//! (`quantize_row_*_ref` in `ggml-quants.c`): the same values in, the same bytes out.
//!
//! [`Block`] is the one place where the bits of a format are taken apart. Dequantising, [`crate::dot`] and
//! [`crate::pack`] see only what it hands out: 32 integer codes at a time and the scales that belong to them.

mod blocks256;
mod blocks32;
mod float;
mod iq4;

use bytemuck::Pod;
use thiserror::Error;

pub use blocks32::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
pub use blocks256::{BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K};
pub use iq4::{BlockIQ4_NL, BlockIQ4_XS, IQ4_VALUES};

use crate::TensorType;

/// The weights that [`Block`] hands out at a time, and the columns of one block of activations.
pub const SUB: usize = 32;

/// Why values could not be converted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BlockError {
    /// There is no plain rule for this type; [`crate::search`] makes its blocks.
    #[error("there is no plain rule for {ty}, only for F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1")]
    CannotQuantize {
        /// The type asked for.
        ty: TensorType,
    },
    /// A buffer does not have the length that the other one asks for.
    #[error("{ty}: {what} has {found}, expected {expected}")]
    Length {
        /// The type of the blocks.
        ty: TensorType,
        /// Which buffer, and in what it is counted.
        what: &'static str,
        /// The length that would be right.
        expected: usize,
        /// The length it has.
        found: usize,
    },
}

/// 32 consecutive weights, whatever the format: `w[k] = scale · q[k] + min`, either of them perhaps that of the half.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights32 {
    /// The integer values: codes less their zero point, or what a table has for them; −128..=127.
    pub q: [i8; SUB],
    /// What the integers are multiplied by.
    pub scale: Scale,
    /// What is added to the weights.
    pub min: Min,
}

/// What 32 integers are multiplied by. In a block of 256, that is its f16 scale times an integer of at most 8 bits,
/// which f32 holds exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// The same for all.
    One(f32),
    /// For each half its own: Q2_K, Q3_K, Q6_K.
    Halves([f32; 2]),
}

impl Scale {
    /// The scale of half `half`.
    pub fn of(self, half: usize) -> f32 {
        match self {
            Scale::One(scale) => scale,
            Scale::Halves(scales) => scales[half],
        }
    }
}

/// What is added to 32 weights. (ggml subtracts the minima of K-quants; they are negated here.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Min {
    /// Nothing: adding zero would turn −0 into +0.
    None,
    /// The same to all.
    One(f32),
    /// To each half its own: Q2_K.
    Halves([f32; 2]),
}

impl Min {
    /// What is added to half `half`, 0 if nothing is.
    pub fn of(self, half: usize) -> f32 {
        match self {
            Min::None => 0.0,
            Min::One(min) => min,
            Min::Halves(mins) => mins[half],
        }
    }
}

/// One block of a quantised type. Blocks of 256 weights hand out their content as 8 sub-blocks of 32.
pub trait Block: Pod {
    /// The type that is made of these blocks.
    const TYPE: TensorType;
    /// Bits of a code: 2, 3, 4, 5, 6 or 8.
    const BITS: usize;
    /// The code that stands for the integer 0, or for the nearest where none does. The codes of Q8_0 are signed bytes
    /// and have none to subtract.
    const ZERO: u8;
    /// Byte offsets of the f16 scales within the block.
    const F16_SCALES: &'static [usize];
    /// Byte range of the small integer scales within the block; empty for blocks of 32.
    const BYTE_SCALES: std::ops::Range<usize> = 0..0;

    /// The codes as stored (unsigned, or the bytes of Q8_0) of the weights `32·sub .. 32·sub + 32`.
    fn codes(&self, sub: usize) -> [u8; SUB];

    /// Inverse of [`Block::codes`]. Codes must fit in [`Block::BITS`]; the rest of the block stays as it is.
    fn set_codes(&mut self, sub: usize, codes: &[u8; SUB]);

    /// Scale and minimum of [`Weights32`] for sub-block `sub`.
    fn scales(&self, sub: usize) -> (Scale, Min);

    /// The integer that `code` stands for.
    fn value(code: u8) -> i8 {
        code.wrapping_sub(Self::ZERO) as i8
    }

    /// Sub-block `sub` with codes and scales put together.
    fn weights(&self, sub: usize) -> Weights32 {
        let (scale, min) = self.scales(sub);
        Weights32 { q: self.codes(sub).map(Self::value), scale, min }
    }

    /// Writes the f32 values of the block; `out` has one place for each weight.
    fn dequantize(&self, out: &mut [f32]) {
        for (sub, out) in out.chunks_exact_mut(SUB).enumerate() {
            let w = self.weights(sub);
            for (half, out) in out.chunks_exact_mut(SUB / 2).enumerate() {
                for (k, out) in out.iter_mut().enumerate() {
                    let product = w.scale.of(half) * f32::from(w.q[half * SUB / 2 + k]);
                    *out = if w.min == Min::None { product } else { product + w.min.of(half) };
                }
            }
        }
    }
}

/// Calls `$f::<B>($args)` with the block type `B` of `$ty`, or evaluates `$float` for the types without blocks.
macro_rules! with_block {
    ($ty:expr, $f:ident($($arg:expr),*), float: $float:expr) => {
        match $ty {
            $crate::TensorType::Q4_0 => $f::<$crate::blocks::BlockQ4_0>($($arg),*),
            $crate::TensorType::Q4_1 => $f::<$crate::blocks::BlockQ4_1>($($arg),*),
            $crate::TensorType::Q5_0 => $f::<$crate::blocks::BlockQ5_0>($($arg),*),
            $crate::TensorType::Q5_1 => $f::<$crate::blocks::BlockQ5_1>($($arg),*),
            $crate::TensorType::Q8_0 => $f::<$crate::blocks::BlockQ8_0>($($arg),*),
            $crate::TensorType::Q2_K => $f::<$crate::blocks::BlockQ2_K>($($arg),*),
            $crate::TensorType::Q3_K => $f::<$crate::blocks::BlockQ3_K>($($arg),*),
            $crate::TensorType::Q4_K => $f::<$crate::blocks::BlockQ4_K>($($arg),*),
            $crate::TensorType::Q5_K => $f::<$crate::blocks::BlockQ5_K>($($arg),*),
            $crate::TensorType::Q6_K => $f::<$crate::blocks::BlockQ6_K>($($arg),*),
            $crate::TensorType::IQ4_NL => $f::<$crate::blocks::BlockIQ4_NL>($($arg),*),
            $crate::TensorType::IQ4_XS => $f::<$crate::blocks::BlockIQ4_XS>($($arg),*),
            $crate::TensorType::F32 | $crate::TensorType::F16 | $crate::TensorType::BF16 => $float,
        }
    };
}
pub(crate) use with_block;

/// The codes of 32 weights from 16 bytes that have weight `j` in the low half, `j + 16` in the high half of byte `j`.
pub(crate) fn split_nibbles(bytes: &[u8; SUB / 2]) -> [u8; SUB] {
    std::array::from_fn(|k| if k < SUB / 2 { bytes[k] & 0x0f } else { bytes[k - SUB / 2] >> 4 })
}

/// Inverse of [`split_nibbles`]; takes the low 4 bits of the codes.
pub(crate) fn join_nibbles(codes: &[u8; SUB]) -> [u8; SUB / 2] {
    std::array::from_fn(|j| (codes[j] & 0x0f) | (codes[j + SUB / 2] << 4))
}

/// The blocks of `src`, which need not be aligned.
pub(crate) fn read_blocks<B: Block>(src: &[u8]) -> impl Iterator<Item = B> {
    src.chunks_exact(size_of::<B>()).map(bytemuck::pod_read_unaligned)
}

/// Turns blocks into f32 values, to the bit as ggml's `dequantize_row_*` does.
///
/// `src` is any number of whole blocks of type `ty` at any alignment; `dst` has one element for each weight.
///
/// # Errors
/// [`BlockError::Length`] when `src` is no whole number of blocks or `dst` does not have that many weights.
pub fn dequantize(ty: TensorType, src: &[u8], dst: &mut [f32]) -> Result<(), BlockError> {
    fn blocks<B: Block>(src: &[u8], dst: &mut [f32]) {
        for (block, dst) in read_blocks::<B>(src).zip(dst.chunks_exact_mut(B::TYPE.block_len())) {
            block.dequantize(dst);
        }
    }
    check_lengths(ty, dst.len(), src.len())?;
    with_block!(ty, blocks(src, dst), float: float::decode(ty, src, dst));
    Ok(())
}

/// Turns f32 values into blocks, to the byte as ggml's `quantize_row_*_ref` does. [`crate::search`] has rules with less
/// error.
///
/// `src` is a whole number of blocks of finite values; `dst` has the bytes of those blocks. A value that is not finite
/// gives an unspecified block for the block types; F16 and BF16 keep infinities and NaN.
///
/// # Errors
/// [`BlockError::CannotQuantize`] unless [`has_plain_rule`], [`BlockError::Length`] when the lengths do not fit
/// together.
pub fn quantize(ty: TensorType, src: &[f32], dst: &mut [u8]) -> Result<(), BlockError> {
    fn blocks<B: Block>(src: &[f32], dst: &mut [u8], from_weights: impl Fn(&[f32; SUB]) -> B) {
        for (x, dst) in src.as_chunks().0.iter().zip(dst.chunks_exact_mut(size_of::<B>())) {
            dst.copy_from_slice(bytemuck::bytes_of(&from_weights(x)));
        }
    }
    if !has_plain_rule(ty) {
        return Err(BlockError::CannotQuantize { ty });
    }
    check_lengths(ty, src.len(), dst.len())?;
    match ty {
        TensorType::Q4_0 => blocks(src, dst, BlockQ4_0::from_weights),
        TensorType::Q4_1 => blocks(src, dst, BlockQ4_1::from_weights),
        TensorType::Q5_0 => blocks(src, dst, BlockQ5_0::from_weights),
        TensorType::Q5_1 => blocks(src, dst, BlockQ5_1::from_weights),
        TensorType::Q8_0 => blocks(src, dst, BlockQ8_0::from_weights),
        _ => float::encode(ty, src, dst),
    }
    Ok(())
}

/// Whether [`quantize`] knows the type: the K-quants and those of other codes than evenly spaced ones are made by
/// search alone.
pub const fn has_plain_rule(ty: TensorType) -> bool {
    use TensorType::*;
    matches!(ty, F32 | F16 | BF16 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0)
}

/// Byte offsets of the f16 scales within a block of type `ty`; none for the float types.
pub fn f16_scales(ty: TensorType) -> &'static [usize] {
    fn of<B: Block>() -> &'static [usize] {
        B::F16_SCALES
    }
    with_block!(ty, of(), float: &[])
}

/// Checks that `bytes` are exactly the whole blocks of `values` weights.
pub(crate) fn check_lengths(ty: TensorType, values: usize, bytes: usize) -> Result<(), BlockError> {
    let (len, size) = (ty.block_len(), ty.block_bytes());
    if !values.is_multiple_of(len) {
        let expected = values - values % len;
        return Err(BlockError::Length { ty, what: "number of values, in whole blocks,", expected, found: values });
    }
    match (values / len).checked_mul(size) {
        Some(expected) if expected == bytes => Ok(()),
        expected => Err(BlockError::Length {
            ty,
            what: "number of bytes",
            expected: expected.unwrap_or(usize::MAX),
            found: bytes,
        }),
    }
}
