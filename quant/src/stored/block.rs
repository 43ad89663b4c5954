//! What every stored type comes down to: integer codes, small scales for 16 of them each, one number for the block.

use bytemuck::Pod;

use crate::types::StoredType;

/// A block taken apart: weight `k` is `d · groups[k / 16] · code[k]`, see [`StoredBlock`].
///
/// The product is exact in f32 unless it overflows or loses subnormal bits: `d` has at most 11 significant bits, a
/// group's scale 5 and a code 6. So its value does not depend on the order of multiplications, and is ggml's whatever
/// ggml's order is.
pub(super) struct Scales {
    /// The scale of the block.
    pub d: f32,
    /// Blocks of fewer than 256 weights use the first ones.
    pub groups: [i32; 16],
}

/// One block of a type that is only stored.
pub(super) trait StoredBlock: Pod {
    const TYPE: StoredType;

    fn scales(&self) -> Scales;

    /// Writes the codes, one for each weight of the block.
    fn codes(&self, out: &mut [i8]);
}

/// The weights of the largest block.
pub(super) const LARGEST: usize = 256;

/// Writes the values of a block of these scales and codes.
pub(super) fn write_values(scales: &Scales, codes: &[i8], out: &mut [f32]) {
    for ((out, codes), &group) in out.chunks_mut(16).zip(codes.chunks(16)).zip(&scales.groups) {
        let d = scales.d * group as f32;
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = d * f32::from(code);
        }
    }
}
