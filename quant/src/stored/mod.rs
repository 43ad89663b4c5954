//! Types in which weights are stored but not multiplied: they are read, and recoded when a model is loaded or packed.
//!
//! - [`StoredType::runs_as`]: the type that runs in the place of each. Start here.
//! - `block`: what all of them come down to. `iq`: the types with grids, IQ1 to IQ3 (`grids`: the grids themselves).
//!   `few_levels`: ternary, binary and 4-bit floating-point types.
//! - `recode`: from these to blocks that have kernels.
//!
//! All of them come down to integers: codes, a small scale for each 16 weights, and one number for the block. So
//! recoding loses next to nothing: it hands integers over, where quantising the values anew would round them.

mod block;
mod few_levels;
mod grids;
mod iq;
mod recode;

use thiserror::Error;

use self::block::{LARGEST, StoredBlock, write_values};
use crate::types::StoredType;

/// Buffers whose lengths do not fit together.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{ty}: {what} has {found} elements, expected {expected}")]
#[non_exhaustive]
pub struct StoredLengthError {
    /// The type of the blocks.
    pub ty: StoredType,
    /// Which buffer.
    pub what: &'static str,
    /// The length that would be right.
    pub expected: usize,
    /// The length it has.
    pub found: usize,
}

/// Calls `$f::<B>($args)` with the block type `B` of `$ty`.
macro_rules! with_stored_block {
    ($ty:expr, $f:ident($($arg:expr),*)) => {
        match $ty {
            StoredType::IQ1_S => $f::<iq::BlockIQ1_S>($($arg),*),
            StoredType::IQ1_M => $f::<iq::BlockIQ1_M>($($arg),*),
            StoredType::IQ2_XXS => $f::<iq::BlockIQ2_XXS>($($arg),*),
            StoredType::IQ2_XS => $f::<iq::BlockIQ2_XS>($($arg),*),
            StoredType::IQ2_S => $f::<iq::BlockIQ2_S>($($arg),*),
            StoredType::IQ3_XXS => $f::<iq::BlockIQ3_XXS>($($arg),*),
            StoredType::IQ3_S => $f::<iq::BlockIQ3_S>($($arg),*),
            StoredType::TQ1_0 => $f::<few_levels::BlockTQ1_0>($($arg),*),
            StoredType::NVFP4 => $f::<few_levels::BlockNVFP4>($($arg),*),
            StoredType::Q1_0 => $f::<few_levels::BlockQ1_0>($($arg),*),
            StoredType::Q2_0 => $f::<few_levels::BlockQ2_0>($($arg),*),
        }
    };
}

/// Turns blocks into f32 values, to the bit as ggml's `dequantize_row_*` does.
///
/// `src` is any number of whole blocks of type `ty` at any alignment; `dst` has one element for each weight.
///
/// # Errors
/// When `src` is no whole number of blocks or `dst` does not have that many weights.
pub fn dequantize(ty: StoredType, src: &[u8], dst: &mut [f32]) -> Result<(), StoredLengthError> {
    fn blocks<B: StoredBlock>(src: &[u8], dst: &mut [f32]) {
        let mut codes = [0; LARGEST];
        let codes = &mut codes[..B::TYPE.block_len()];
        for (block, dst) in src.chunks_exact(size_of::<B>()).zip(dst.chunks_exact_mut(codes.len())) {
            let block: B = bytemuck::pod_read_unaligned(block);
            block.codes(codes);
            write_values(&block.scales(), codes, dst);
        }
    }
    check("dst", ty, src, dst.len(), ty.block_len())?;
    with_stored_block!(ty, blocks(src, dst));
    Ok(())
}

/// Turns blocks into blocks of the type [`StoredType::runs_as`], which says how little the values change.
///
/// `src` is any number of whole blocks of type `ty` at any alignment; `dst` has the bytes of as many weights of the
/// other type.
///
/// # Errors
/// When `src` is no whole number of blocks or `dst` does not have the bytes of as many weights.
pub fn recode(ty: StoredType, src: &[u8], dst: &mut [u8]) -> Result<(), StoredLengthError> {
    fn blocks<B: StoredBlock>(src: &[u8], dst: &mut [u8], size: usize) {
        let mut codes = [0; LARGEST];
        let codes = &mut codes[..B::TYPE.block_len()];
        for (block, dst) in src.chunks_exact(size_of::<B>()).zip(dst.chunks_exact_mut(size)) {
            let block: B = bytemuck::pod_read_unaligned(block);
            block.codes(codes);
            recode::recode(B::TYPE, &block.scales(), codes, dst);
        }
    }
    let to = ty.runs_as();
    let size = ty.block_len() / to.block_len() * to.block_bytes();
    check("dst", ty, src, dst.len(), size)?;
    with_stored_block!(ty, blocks(src, dst, size));
    Ok(())
}

/// Checks that `src` is whole blocks and that another buffer has `each` elements for each of them.
fn check(what: &'static str, ty: StoredType, src: &[u8], found: usize, each: usize) -> Result<(), StoredLengthError> {
    let count = src.len() / ty.block_bytes();
    if !src.len().is_multiple_of(ty.block_bytes()) {
        return Err(StoredLengthError { ty, what: "src", expected: count * ty.block_bytes(), found: src.len() });
    }
    match count * each {
        expected if expected == found => Ok(()),
        expected => Err(StoredLengthError { ty, what, expected, found }),
    }
}
