//! Types in which weights are stored but not multiplied: they are read, and recoded when a model is loaded or packed.
//!
//! - [`StoredType`]: ids, names, sizes, and the type that runs in its place. Start here.
//! - `iq`: the grids' types IQ1 to IQ3 (`grids`: the grids themselves). `few_levels`: ternary, binary and 4-bit
//!   floating-point types.
//! - `recode`: from these to blocks that have kernels.
//!
//! All of them come down to integers (`Scales`): codes, small scales for 16 weights each, one number for the block.
//! That is what makes recoding close to free of loss: it hands integers over, where quantising the values anew would
//! round them.

mod few_levels;
mod grids;
mod iq;
mod recode;

use bytemuck::Pod;
use thiserror::Error;

use crate::TensorType;

/// A type of GGUF that has no kernels. The ids and names are ggml's (`ggml_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types)]
pub enum StoredType {
    /// 256 weights: f16 scale; for each 32 a 3-bit scale and a shift by an eighth up or down; for each 8 one of 2048
    /// ternary patterns.
    IQ1_S,
    /// 256 weights: as [`StoredType::IQ1_S`], with a scale for each 16 and a shift for each 8.
    IQ1_M,
    /// 256 weights: f16 scale; for each 32 a 4-bit scale; for each 8 one of 256 patterns of three sizes, and signs.
    IQ2_XXS,
    /// 256 weights: f16 scale; for each 16 a 4-bit scale; for each 8 one of 512 patterns of three sizes, and signs.
    IQ2_XS,
    /// 256 weights: f16 scale; for each 16 a 4-bit scale; for each 8 one of 1024 patterns of three sizes, and signs.
    IQ2_S,
    /// 256 weights: f16 scale; for each 32 a 4-bit scale; for each 4 one of 256 patterns of eight sizes, and signs.
    IQ3_XXS,
    /// 256 weights: f16 scale; for each 32 a 4-bit scale; for each 4 one of 512 patterns of eight sizes, and signs.
    IQ3_S,
    /// 256 weights: f16 scale; −1, 0 or 1 each, five to a byte.
    TQ1_0,
    /// 256 weights: f16 scale; −1, 0 or 1 each, four to a byte.
    TQ2_0,
    /// 32 weights: a power of two as scale; 4-bit floating-point numbers (OCP Microscaling Formats 1.0).
    MXFP4,
    /// 64 weights: for each 16 an 8-bit floating-point scale; numbers as [`StoredType::MXFP4`].
    NVFP4,
    /// 128 weights: f16 scale; −1 or 1 each.
    Q1_0,
    /// 64 weights: f16 scale; −1 to 2 each.
    Q2_0,
}

use StoredType::*;

impl StoredType {
    /// Every type, in the order of GGUF's ids.
    pub const ALL: [StoredType; 13] =
        [IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S, IQ3_S, IQ2_S, IQ1_M, TQ1_0, TQ2_0, MXFP4, NVFP4, Q1_0, Q2_0];

    /// GGUF's number for this type.
    pub const fn id(self) -> u32 {
        match self {
            IQ2_XXS => 16,
            IQ2_XS => 17,
            IQ3_XXS => 18,
            IQ1_S => 19,
            IQ3_S => 21,
            IQ2_S => 22,
            IQ1_M => 29,
            TQ1_0 => 34,
            TQ2_0 => 35,
            MXFP4 => 39,
            NVFP4 => 40,
            Q1_0 => 41,
            Q2_0 => 42,
        }
    }

    /// The type with GGUF's number `id`.
    pub fn from_id(id: u32) -> Option<StoredType> {
        StoredType::ALL.into_iter().find(|t| t.id() == id)
    }

    /// GGUF's name for this type, e.g. `IQ2_XS`.
    pub const fn name(self) -> &'static str {
        match self {
            IQ1_S => "IQ1_S",
            IQ1_M => "IQ1_M",
            IQ2_XXS => "IQ2_XXS",
            IQ2_XS => "IQ2_XS",
            IQ2_S => "IQ2_S",
            IQ3_XXS => "IQ3_XXS",
            IQ3_S => "IQ3_S",
            TQ1_0 => "TQ1_0",
            TQ2_0 => "TQ2_0",
            MXFP4 => "MXFP4",
            NVFP4 => "NVFP4",
            Q1_0 => "Q1_0",
            Q2_0 => "Q2_0",
        }
    }

    /// Weights of one block.
    pub const fn block_len(self) -> usize {
        match self {
            IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | TQ1_0 | TQ2_0 => 256,
            Q1_0 => 128,
            NVFP4 | Q2_0 => 64,
            MXFP4 => 32,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            IQ1_S => 50,
            IQ1_M => 56,
            IQ2_XXS => 66,
            IQ2_XS => 74,
            IQ2_S => 82,
            IQ3_XXS => 98,
            IQ3_S => 110,
            TQ1_0 => 54,
            TQ2_0 => 66,
            MXFP4 => 17,
            NVFP4 => 36,
            Q1_0 => 18,
            Q2_0 => 18,
        }
    }

    /// Bytes of a row of `cols` weights, or `None` when `cols` is no multiple of the block or the size overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Bits per weight.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_len() as f64
    }

    /// The type that [`recode`] makes of it. Its blocks divide this one's.
    ///
    /// Chosen is the smallest type that takes over the codes as they are, or with an error far below the type's own.
    /// What is lost besides is f16's rounding of the new scale, 2⁻¹² of it.
    ///
    /// | type | runs as | codes |
    /// | --- | --- | --- |
    /// | TQ1_0, TQ2_0 | Q2_K | exact |
    /// | IQ1_S, IQ3_S | Q4_K | exact |
    /// | IQ1_M, IQ3_XXS | Q6_K | exact |
    /// | IQ2_XXS, IQ2_XS, IQ2_S | Q6_K | 5 : 16 : 27 for 8 : 25 : 43, 1 % of the weights' size |
    /// | MXFP4 | Q5_0 | exact |
    /// | NVFP4 | Q8_0 | rounded, 0.6 % of the weights' size when scales are random |
    /// | Q1_0, Q2_0 | Q4_0 | exact |
    pub const fn runs_as(self) -> TensorType {
        recode::Way::of(self).target()
    }
}

impl std::fmt::Display for StoredType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Buffers whose lengths do not fit together.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{ty}: {what} has {found} elements, expected {expected}")]
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

/// A block taken apart: weight `k` is `d · groups[k / 16] · code[k]`, see [`StoredBlock`].
///
/// The product is exact in f32 unless it overflows or loses subnormal bits: `d` has at most 11 significant bits, a
/// group's scale 5 and a code 6. So its value does not depend on the order of multiplications, and is ggml's whatever
/// ggml's order is.
pub(crate) struct Scales {
    d: f32,
    /// Blocks of fewer than 256 weights use the first ones.
    groups: [i32; 16],
}

/// One block of a type that is only stored.
pub(crate) trait StoredBlock: Pod {
    const TYPE: StoredType;

    fn scales(&self) -> Scales;

    /// Writes the codes, one for each weight of the block.
    fn codes(&self, out: &mut [i8]);
}

/// The weights of the largest block.
const LARGEST: usize = 256;

fn write_values(scales: &Scales, codes: &[i8], out: &mut [f32]) {
    for ((out, codes), &group) in out.chunks_mut(16).zip(codes.chunks(16)).zip(&scales.groups) {
        let d = scales.d * group as f32;
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = d * f32::from(code);
        }
    }
}

/// Calls `$f::<B>($args)` with the block type `B` of `$ty`.
macro_rules! with_stored_block {
    ($ty:expr, $f:ident($($arg:expr),*)) => {
        match $ty {
            IQ1_S => $f::<iq::BlockIQ1_S>($($arg),*),
            IQ1_M => $f::<iq::BlockIQ1_M>($($arg),*),
            IQ2_XXS => $f::<iq::BlockIQ2_XXS>($($arg),*),
            IQ2_XS => $f::<iq::BlockIQ2_XS>($($arg),*),
            IQ2_S => $f::<iq::BlockIQ2_S>($($arg),*),
            IQ3_XXS => $f::<iq::BlockIQ3_XXS>($($arg),*),
            IQ3_S => $f::<iq::BlockIQ3_S>($($arg),*),
            TQ1_0 => $f::<few_levels::BlockTQ1_0>($($arg),*),
            TQ2_0 => $f::<few_levels::BlockTQ2_0>($($arg),*),
            MXFP4 => $f::<few_levels::BlockMXFP4>($($arg),*),
            NVFP4 => $f::<few_levels::BlockNVFP4>($($arg),*),
            Q1_0 => $f::<few_levels::BlockQ1_0>($($arg),*),
            Q2_0 => $f::<few_levels::BlockQ2_0>($($arg),*),
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

/// Turns blocks into blocks of the type [`StoredType::runs_as`] with, nearly, the same values; see there.
///
/// `src` is any number of whole blocks of type `ty` at any alignment; `dst` has the bytes of as many weights.
///
/// # Errors
/// When `src` is no whole number of blocks or `dst` is not as long as those of the other type.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_no_other_types() {
        for t in StoredType::ALL {
            assert_eq!(StoredType::from_id(t.id()), Some(t));
            assert_eq!((TensorType::from_id(t.id()), TensorType::from_name(t.name())), (None, None), "{t}");
            assert!(t.block_len().is_multiple_of(t.runs_as().block_len()), "{t}");
        }
    }
}
