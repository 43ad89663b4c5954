//! Blocks: the layout of every tensor type, dequantise, quantise.
//!
//! The layouts are ggml's (`ggml-common.h`), and so are the rules by which f32 values become blocks
//! (`quantize_row_*_ref` in `ggml-quants.c`): the same values in, the same bytes out.
//!
//! [`Block`] is the one place where the bits of a format are taken apart. Dequantising, [`crate::dot`] and
//! [`crate::pack`] see only what it hands out: 32 integer codes at a time and the scales that belong to them.

mod block;
mod blocks256;
mod blocks32;
pub(crate) mod float;
mod iq4;
mod mxfp4;
mod ternary;

use thiserror::Error;

pub use block::{Block, Min, SUB, Scale, Weights32};
pub(crate) use block::{join_nibbles, read_blocks, split_nibbles};
pub use blocks32::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};
pub use blocks256::{BlockQ2_K, BlockQ3_K, BlockQ4_K, BlockQ5_K, BlockQ6_K};
pub use iq4::{BlockIQ4_NL, BlockIQ4_XS, IQ4_VALUES};
pub(crate) use mxfp4::LARGEST_EXPONENT;
pub use mxfp4::{BlockMXFP4, E2M1_DOUBLED};
pub use ternary::BlockTQ2_0;

use crate::types::TensorType;

/// Why values could not be converted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockError {
    /// There is no plain rule for this type; [`crate::search`] makes its blocks.
    #[error("there is no plain rule for {ty}, only for F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1")]
    CannotQuantize {
        /// The type asked for.
        ty: TensorType,
    },
    /// A buffer does not have the length that another one, or the type, requires.
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

/// Calls `$f::<B>($args)` with the block type `B` of `$ty`, or evaluates `$float` for the types without blocks.
macro_rules! with_block {
    ($ty:expr, $f:ident($($arg:expr),*), float: $float:expr) => {
        match $ty {
            $crate::types::TensorType::Q4_0 => $f::<$crate::blocks::BlockQ4_0>($($arg),*),
            $crate::types::TensorType::Q4_1 => $f::<$crate::blocks::BlockQ4_1>($($arg),*),
            $crate::types::TensorType::Q5_0 => $f::<$crate::blocks::BlockQ5_0>($($arg),*),
            $crate::types::TensorType::Q5_1 => $f::<$crate::blocks::BlockQ5_1>($($arg),*),
            $crate::types::TensorType::Q8_0 => $f::<$crate::blocks::BlockQ8_0>($($arg),*),
            $crate::types::TensorType::Q2_K => $f::<$crate::blocks::BlockQ2_K>($($arg),*),
            $crate::types::TensorType::Q3_K => $f::<$crate::blocks::BlockQ3_K>($($arg),*),
            $crate::types::TensorType::Q4_K => $f::<$crate::blocks::BlockQ4_K>($($arg),*),
            $crate::types::TensorType::Q5_K => $f::<$crate::blocks::BlockQ5_K>($($arg),*),
            $crate::types::TensorType::Q6_K => $f::<$crate::blocks::BlockQ6_K>($($arg),*),
            $crate::types::TensorType::IQ4_NL => $f::<$crate::blocks::BlockIQ4_NL>($($arg),*),
            $crate::types::TensorType::IQ4_XS => $f::<$crate::blocks::BlockIQ4_XS>($($arg),*),
            $crate::types::TensorType::TQ2_0 => $f::<$crate::blocks::BlockTQ2_0>($($arg),*),
            $crate::types::TensorType::MXFP4 => $f::<$crate::blocks::BlockMXFP4>($($arg),*),
            $crate::types::TensorType::F32 | $crate::types::TensorType::F16 | $crate::types::TensorType::BF16 => $float,
        }
    };
}
pub(crate) use with_block;

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

/// Whether [`quantize`] can make blocks of this type. Blocks of the others are made by [`crate::search`] alone.
pub const fn has_plain_rule(ty: TensorType) -> bool {
    use TensorType::*;
    matches!(ty, F32 | F16 | BF16 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0)
}

/// Byte offsets of the f16 scales within a block of type `ty`; none for the float types and for MXFP4.
pub fn f16_scales(ty: TensorType) -> &'static [usize] {
    fn of<B: Block>() -> &'static [usize] {
        B::F16_SCALES
    }
    with_block!(ty, of(), float: &[])
}

/// Whether all weights of `src`, any number of whole blocks of type `ty`, are numbers: no float is NaN or infinite, and
/// no f16 scale is; no scale of MXFP4 makes infinities.
pub fn all_finite(ty: TensorType, src: &[u8]) -> bool {
    if ty.is_float() {
        return float::all_finite(ty, src);
    }
    if ty == TensorType::MXFP4 {
        return src.chunks_exact(ty.block_bytes()).all(|block| block[0] <= LARGEST_EXPONENT);
    }
    let scales = f16_scales(ty);
    let finite = |block: &[u8]| scales.iter().all(|&at| float::all_finite(TensorType::F16, &block[at..at + 2]));
    src.chunks_exact(ty.block_bytes()).all(finite)
}

/// Checks that `values` weights are whole blocks, and that these blocks have exactly `bytes` bytes.
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
