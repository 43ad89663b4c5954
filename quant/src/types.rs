//! Tensor types: ids, names, block sizes.

/// How the elements of a tensor are stored. The ids and names are GGUF's (`ggml_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types)]
pub enum TensorType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// 32 weights: f16 scale, 4-bit values around 8.
    Q4_0,
    /// 32 weights: f16 scale, f16 minimum, 4-bit values.
    Q4_1,
    /// 32 weights: f16 scale, 5-bit values around 16.
    Q5_0,
    /// 32 weights: f16 scale, f16 minimum, 5-bit values.
    Q5_1,
    /// 32 weights: f16 scale, signed bytes.
    Q8_0,
    /// 256 weights in 16 groups: f16 scale and minimum, 4-bit group scales and minima, 2-bit values.
    Q2_K,
    /// 256 weights in 16 groups: f16 scale, 6-bit group scales around 32, 3-bit values around 4.
    Q3_K,
    /// 256 weights in 8 groups: f16 scale and minimum, 6-bit group scales and minima, 4-bit values.
    Q4_K,
    /// 256 weights in 8 groups: as [`TensorType::Q4_K`] with 5-bit values.
    Q5_K,
    /// 256 weights in 16 groups: f16 scale, signed 8-bit group scales, 6-bit values around 32.
    Q6_K,
    /// 32 weights: f16 scale, 4-bit codes for sixteen values that are closer together near zero.
    IQ4_NL,
    /// 256 weights in 8 groups: f16 scale, 6-bit group scales around 32, codes as [`TensorType::IQ4_NL`].
    IQ4_XS,
}

use TensorType::*;

impl TensorType {
    /// Every type, in the order of GGUF's ids.
    pub const ALL: [TensorType; 15] =
        [F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, BF16];

    /// GGUF's number for this type.
    pub const fn id(self) -> u32 {
        match self {
            F32 => 0,
            F16 => 1,
            Q4_0 => 2,
            Q4_1 => 3,
            Q5_0 => 6,
            Q5_1 => 7,
            Q8_0 => 8,
            Q2_K => 10,
            Q3_K => 11,
            Q4_K => 12,
            Q5_K => 13,
            Q6_K => 14,
            IQ4_NL => 20,
            IQ4_XS => 23,
            BF16 => 30,
        }
    }

    /// The type with GGUF's number `id`.
    pub fn from_id(id: u32) -> Option<TensorType> {
        TensorType::ALL.into_iter().find(|t| t.id() == id)
    }

    /// GGUF's name for this type, e.g. `Q4_0`.
    pub const fn name(self) -> &'static str {
        match self {
            F32 => "F32",
            F16 => "F16",
            BF16 => "BF16",
            Q4_0 => "Q4_0",
            Q4_1 => "Q4_1",
            Q5_0 => "Q5_0",
            Q5_1 => "Q5_1",
            Q8_0 => "Q8_0",
            Q2_K => "Q2_K",
            Q3_K => "Q3_K",
            Q4_K => "Q4_K",
            Q5_K => "Q5_K",
            Q6_K => "Q6_K",
            IQ4_NL => "IQ4_NL",
            IQ4_XS => "IQ4_XS",
        }
    }

    /// The type called `name`, in any case.
    pub fn from_name(name: &str) -> Option<TensorType> {
        TensorType::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// Elements of one block; 1 for the float types.
    pub const fn block_len(self) -> usize {
        match self {
            F32 | F16 | BF16 => 1,
            Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | IQ4_NL => 32,
            Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_XS => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            F32 => 4,
            F16 | BF16 => 2,
            Q4_0 => 18,
            Q4_1 => 20,
            Q5_0 => 22,
            Q5_1 => 24,
            Q8_0 => 34,
            Q2_K => 84,
            Q3_K => 110,
            Q4_K => 144,
            Q5_K => 176,
            Q6_K => 210,
            IQ4_NL => 18,
            IQ4_XS => 136,
        }
    }

    /// Bytes of a row of `cols` elements, or `None` when `cols` is no multiple of the block or the size overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }

    /// True for F32, F16 and BF16, which have no blocks and multiply activations in f32.
    pub const fn is_float(self) -> bool {
        matches!(self, F32 | F16 | BF16)
    }

    /// Bits per weight.
    pub fn bits_per_weight(self) -> f64 {
        8.0 * self.block_bytes() as f64 / self.block_len() as f64
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back() {
        for t in TensorType::ALL {
            assert_eq!(TensorType::from_id(t.id()), Some(t));
            assert_eq!(TensorType::from_name(&t.name().to_lowercase()), Some(t));
        }
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(Q4_0.row_bytes(64), Some(36));
        assert_eq!(Q4_0.row_bytes(65), None);
        assert_eq!(F32.row_bytes(usize::MAX), None);
    }
}
