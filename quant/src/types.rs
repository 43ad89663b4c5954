//! The types of tensors: one table with the ids, names, sizes and parts of all of them.
//!
//! Three enums, since not every type can stand everywhere: [`TensorType`] has kernels, [`StoredType`] is read and
//! recoded ([`crate::stored`]), [`InterleavedType`] is read and made plain ([`crate::interleaved`]). GGUF's reader and
//! writer, packed layouts and the conversion take numbers and names from here. Const assertions beside the structs of
//! blocks check them against the table.

use std::fmt;

/// The columns of the table that the three enums share.
struct Row {
    id: u32,
    name: &'static str,
    block_len: usize,
    block_bytes: usize,
}

/// What a block of a type with kernels is made of.
struct Content {
    /// Bits of a code; of a number, for the float types.
    code_bits: usize,
    /// The number of f16 scales and minima, and the bytes of small integer scales.
    scales: (usize, usize),
    /// llama.cpp's number for a file mostly of this type (`enum llama_ftype` in `llama.h`). Q2_K, Q4_K and Q5_K have
    /// none: llama.cpp has only mixes of them.
    file_type: Option<u32>,
}

/// How rows are interleaved.
struct Interleaving {
    /// Rows of a group.
    rows: usize,
    /// Consecutive bytes of codes that belong to one row.
    chunk: usize,
    /// As [`Content::file_type`].
    file_type: u32,
}

/// An enum of types from its rows, in the order of GGUF's ids: `NAME (id, weights of a block, bytes of a block) more`.
macro_rules! types {
    ($(#[$about:meta])* $Type:ident, $more:ident: $More:ty, { $($(#[$doc:meta])* $name:ident $row:tt $facts:expr;)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)]
        pub enum $Type { $($(#[$doc])* $name),* }

        impl $Type {
            /// Every type, in the order of GGUF's ids.
            pub const ALL: [$Type; [$(stringify!($name)),*].len()] = [$($Type::$name),*];

            const fn row(self) -> &'static Row {
                const ROWS: [Row; $Type::ALL.len()] = [$(types!(@row $name $row)),*];
                &ROWS[self as usize]
            }

            const fn $more(self) -> &'static $More {
                const MORE: [$More; $Type::ALL.len()] = [$($facts),*];
                &MORE[self as usize]
            }

            /// GGUF's number for this type.
            pub const fn id(self) -> u32 {
                self.row().id
            }

            /// The type with GGUF's number `id`.
            pub fn from_id(id: u32) -> Option<$Type> {
                $Type::ALL.into_iter().find(|t| t.id() == id)
            }

            /// ggml's name for this type, in capitals.
            pub const fn name(self) -> &'static str {
                self.row().name
            }

            /// Weights of one block; 1 for the float types.
            pub const fn block_len(self) -> usize {
                self.row().block_len
            }

            /// Bytes of one block.
            pub const fn block_bytes(self) -> usize {
                self.row().block_bytes
            }

            /// Bytes of a row of `cols` weights, or `None` when `cols` is no multiple of the block or the size
            /// overflows.
            pub fn row_bytes(self, cols: usize) -> Option<usize> {
                if !cols.is_multiple_of(self.block_len()) {
                    return None;
                }
                (cols / self.block_len()).checked_mul(self.block_bytes())
            }

            /// Bits per weight, scales included.
            pub fn bits_per_weight(self) -> f64 {
                8.0 * self.block_bytes() as f64 / self.block_len() as f64
            }
        }

        impl fmt::Display for $Type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
    (@row $name:ident ($id:literal, $len:literal, $bytes:literal)) => {
        Row { id: $id, name: stringify!($name), block_len: $len, block_bytes: $bytes }
    };
}

const fn content(code_bits: usize, scales: (usize, usize), file_type: Option<u32>) -> Content {
    Content { code_bits, scales, file_type }
}

types! {
    /// A type with kernels. The ids and names are GGUF's (`ggml_type`).
    TensorType, content: Content, {
        // (id, weights, bytes)   code bits, (f16 scales, bytes of scales), file type
        /// IEEE binary32.
        F32    ( 0,   1,   4) content(32, (0,  0), Some(0));
        /// IEEE binary16.
        F16    ( 1,   1,   2) content(16, (0,  0), Some(1));
        /// 32 weights: f16 scale, 4-bit values around 8.
        Q4_0   ( 2,  32,  18) content( 4, (1,  0), Some(2));
        /// 32 weights: f16 scale, f16 minimum, 4-bit values.
        Q4_1   ( 3,  32,  20) content( 4, (2,  0), Some(3));
        /// 32 weights: f16 scale, 5-bit values around 16.
        Q5_0   ( 6,  32,  22) content( 5, (1,  0), Some(8));
        /// 32 weights: f16 scale, f16 minimum, 5-bit values.
        Q5_1   ( 7,  32,  24) content( 5, (2,  0), Some(9));
        /// 32 weights: f16 scale, signed bytes.
        Q8_0   ( 8,  32,  34) content( 8, (1,  0), Some(7));
        /// 256 weights in 16 groups: f16 scale and minimum, 4-bit group scales and minima, 2-bit values.
        Q2_K   (10, 256,  84) content( 2, (2, 16), None);
        /// 256 weights in 16 groups: f16 scale, 6-bit group scales around 32, 3-bit values around 4.
        Q3_K   (11, 256, 110) content( 3, (1, 12), Some(11));
        /// 256 weights in 8 groups: f16 scale and minimum, 6-bit group scales and minima, 4-bit values.
        Q4_K   (12, 256, 144) content( 4, (2, 12), None);
        /// 256 weights in 8 groups: as [`TensorType::Q4_K`] with 5-bit values.
        Q5_K   (13, 256, 176) content( 5, (2, 12), None);
        /// 256 weights in 16 groups: f16 scale, signed 8-bit group scales, 6-bit values around 32.
        Q6_K   (14, 256, 210) content( 6, (1, 16), Some(18));
        /// 32 weights: f16 scale, 4-bit codes for sixteen values that are closer together near zero.
        IQ4_NL (20,  32,  18) content( 4, (1,  0), Some(25));
        /// 256 weights in 8 groups: f16 scale, 6-bit group scales around 32, codes as [`TensorType::IQ4_NL`].
        IQ4_XS (23, 256, 136) content( 4, (1,  6), Some(30));
        /// The upper half of a binary32.
        BF16   (30,   1,   2) content(16, (0,  0), Some(32));
        /// 256 weights: f16 scale; −1, 0 or 1 each, four to a byte.
        TQ2_0  (35, 256,  66) content( 2, (1,  0), Some(37));
        /// 32 weights: a power of two as scale; 4-bit floating-point numbers (OCP Microscaling Formats 1.0).
        MXFP4  (39,  32,  17) content( 4, (0,  1), Some(38));
    }
}

types! {
    /// A type without kernels. The ids and names are GGUF's (`ggml_type`).
    StoredType, target: TensorType, {
        // (id, weights, bytes)   what it is recoded to
        /// 256 weights: f16 scale; for each 32 a 4-bit scale; for each 8 one of 256 patterns of three sizes, and signs.
        IQ2_XXS (16, 256,  66) TensorType::Q6_K;
        /// 256 weights: f16 scale; for each 16 a 4-bit scale; for each 8 one of 512 patterns of three sizes, and signs.
        IQ2_XS  (17, 256,  74) TensorType::Q6_K;
        /// 256 weights: f16 scale; for each 32 a 4-bit scale; for each 4 one of 256 patterns of eight sizes, and signs.
        IQ3_XXS (18, 256,  98) TensorType::Q6_K;
        /// 256 weights: f16 scale; for each 32 a 3-bit scale and a shift by an eighth up or down; for each 8 one of
        /// 2048 ternary patterns.
        IQ1_S   (19, 256,  50) TensorType::Q4_K;
        /// 256 weights: f16 scale; for each 32 a 4-bit scale; for each 4 one of 512 patterns of eight sizes, and signs.
        IQ3_S   (21, 256, 110) TensorType::Q4_K;
        /// 256 weights: f16 scale; for each 16 a 4-bit scale; for each 8 one of 1024 patterns of three sizes, and
        /// signs.
        IQ2_S   (22, 256,  82) TensorType::Q6_K;
        /// 256 weights: as [`StoredType::IQ1_S`], with a scale for each 16 and a shift for each 8.
        IQ1_M   (29, 256,  56) TensorType::Q6_K;
        /// 256 weights: f16 scale; −1, 0 or 1 each, five to a byte.
        TQ1_0   (34, 256,  54) TensorType::TQ2_0;
        /// 64 weights: for each 16 an 8-bit floating-point scale; numbers as [`TensorType::MXFP4`].
        NVFP4   (40,  64,  36) TensorType::Q8_0;
        /// 128 weights: f16 scale; −1 or 1 each.
        Q1_0    (41, 128,  18) TensorType::Q4_0;
        /// 64 weights: f16 scale; −1 to 2 each.
        Q2_0    (42,  64,  18) TensorType::Q4_0;
    }
}

types! {
    /// A type that is Q4_0 in another order of bytes. The ids and names are those of ggml in 2024 (`ggml_type`).
    InterleavedType, interleaving: Interleaving, {
        // (id, weights, bytes of a block of one row)
        /// 4 rows, 4 bytes of each in turn.
        Q4_0_4_4 (31, 32, 18) Interleaving { rows: 4, chunk: 4, file_type: 33 };
        /// 4 rows, 8 bytes of each in turn.
        Q4_0_4_8 (32, 32, 18) Interleaving { rows: 4, chunk: 8, file_type: 34 };
        /// 8 rows, 8 bytes of each in turn.
        Q4_0_8_8 (33, 32, 18) Interleaving { rows: 8, chunk: 8, file_type: 35 };
    }
}

impl TensorType {
    /// The type called `name`, in any case.
    pub fn from_name(name: &str) -> Option<TensorType> {
        TensorType::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }

    /// True for F32, F16 and BF16, which have no blocks and multiply activations in f32.
    pub const fn is_float(self) -> bool {
        self.block_len() == 1
    }

    /// Bits of a code, without its share of the scales; for the float types, of a number.
    pub const fn code_bits(self) -> usize {
        self.content().code_bits
    }

    /// How many f16 scales and minima a block has.
    pub const fn f16_scales(self) -> usize {
        self.content().scales.0
    }

    /// Bytes of a block that hold the small integer scales and minima of its groups, or the exponent of its scale.
    pub const fn byte_scales(self) -> usize {
        self.content().scales.1
    }

    /// llama.cpp's number for a file that is mostly of this type (`general.file_type`). `None` for Q2_K, Q4_K and Q5_K,
    /// of which llama.cpp has only mixes.
    pub const fn file_type(self) -> Option<u32> {
        self.content().file_type
    }
}

impl StoredType {
    /// The type that [`recode`](crate::stored::recode) makes of it. A block of this type is a whole number of blocks of
    /// that one.
    ///
    /// It is the smallest type that holds the codes exactly, or with an error far below that of the stored type itself.
    /// Rounding the new scale to f16, and for Q4_K the new minimum, changes each by at most 2⁻¹¹ of itself.
    ///
    /// | type | runs as | codes |
    /// | --- | --- | --- |
    /// | TQ1_0 | TQ2_0 | exact, and so is the scale |
    /// | IQ1_S, IQ3_S | Q4_K | exact |
    /// | IQ1_M, IQ3_XXS | Q6_K | exact |
    /// | IQ2_XXS, IQ2_XS, IQ2_S | Q6_K | 5 : 16 : 27 for 8 : 25 : 43, 1 % of the weights' size |
    /// | NVFP4 | Q8_0 | rounded, 0.6 % of the weights' size when scales are random |
    /// | Q1_0, Q2_0 | Q4_0 | exact |
    pub const fn runs_as(self) -> TensorType {
        *self.target()
    }
}

impl InterleavedType {
    /// The type of the plain rows.
    pub const fn plain(self) -> TensorType {
        TensorType::Q4_0
    }

    /// Rows of a group; a matrix is a whole number of groups.
    pub const fn group(self) -> usize {
        self.interleaving().rows
    }

    /// Consecutive bytes of codes that belong to one row.
    pub(crate) const fn chunk(self) -> usize {
        self.interleaving().chunk
    }

    /// The type that most of a file has whose `general.file_type`, llama.cpp's number, is `file_type`.
    pub fn from_file_type(file_type: u32) -> Option<InterleavedType> {
        InterleavedType::ALL.into_iter().find(|t| t.interleaving().file_type == file_type)
    }
}

/// The columns of the table agree with each other.
const _: () = {
    let mut i = 0;
    while i < TensorType::ALL.len() {
        let t = TensorType::ALL[i];
        let scales = 2 * t.f16_scales() + t.byte_scales();
        assert!(8 * (t.block_bytes() - scales) == t.code_bits() * t.block_len());
        i += 1;
    }
    let mut i = 0;
    while i < StoredType::ALL.len() {
        let t = StoredType::ALL[i];
        assert!(t.block_len().is_multiple_of(t.runs_as().block_len()));
        i += 1;
    }
    let mut i = 0;
    while i < InterleavedType::ALL.len() {
        let (t, plain) = (InterleavedType::ALL[i], InterleavedType::ALL[i].plain());
        assert!(t.block_len() == plain.block_len() && t.block_bytes() == plain.block_bytes());
        assert!((t.block_bytes() - 2).is_multiple_of(t.chunk()));
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back_and_are_of_one_type_only() {
        let mut ids = Vec::new();
        for t in TensorType::ALL {
            assert_eq!(TensorType::from_id(t.id()), Some(t));
            assert_eq!(TensorType::from_name(&t.name().to_lowercase()), Some(t));
            ids.push(t.id());
        }
        for t in StoredType::ALL {
            assert_eq!((StoredType::from_id(t.id()), TensorType::from_name(t.name())), (Some(t), None));
            ids.push(t.id());
        }
        for t in InterleavedType::ALL {
            assert_eq!((InterleavedType::from_id(t.id()), TensorType::from_name(t.name())), (Some(t), None));
            ids.push(t.id());
        }
        assert_eq!(TensorType::ALL.map(TensorType::id), [0, 1, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 30, 35, 39]);
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), all), (31, 31));
    }

    /// In the order of ids, so that whoever goes through a table sees the types as ggml has them.
    #[test]
    fn rows_are_in_the_order_of_ids() {
        assert!(TensorType::ALL.is_sorted_by_key(|t| t.id()));
        assert!(StoredType::ALL.is_sorted_by_key(|t| t.id()));
        assert!(InterleavedType::ALL.is_sorted_by_key(|t| t.id()));
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(TensorType::Q4_0.row_bytes(64), Some(36));
        assert_eq!(TensorType::Q4_0.row_bytes(65), None);
        assert_eq!(TensorType::F32.row_bytes(usize::MAX), None);
    }
}
