//! What a block of any quantised type hands out: 32 codes at a time and the scales that belong to them.

use bytemuck::Pod;

use crate::types::TensorType;

/// The weights that [`Block`] hands out at a time, and the columns of one block of activations.
pub const SUB: usize = 32;

/// 32 consecutive weights, whatever the format: `w[k] = scale · q[k] + min`. In some formats each half of the 32 has a
/// scale, or a scale and a minimum, of its own.
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
    const BITS: usize = Self::TYPE.code_bits();
    /// The code that stands for the integer 0, or for the integer nearest to 0 where no code stands for 0 itself. For
    /// Q8_0 it is 0: its codes are signed bytes, the integers themselves.
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

/// Whether the struct of a block has the size and the scales that the table of types says.
pub(super) const fn agrees_with_table<B: Block>() -> bool {
    size_of::<B>() == B::TYPE.block_bytes()
        && B::F16_SCALES.len() == B::TYPE.f16_scales()
        && B::BYTE_SCALES.end - B::BYTE_SCALES.start == B::TYPE.byte_scales()
}

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
