//! Forms: what is left of a type of weights when its codes are bytes and its scales are f32.
//!
//! Fourteen types have eight forms, and an instruction set has one kernel of full tiles for each form.

/// How widened codes are multiplied.
pub(crate) trait Form {
    /// Bits of a code; 8 stands for what `Gemm::bytes` makes of signed bytes.
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
