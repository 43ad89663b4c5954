//! Q4_0 with rows interleaved: what `llama-quantize` wrote for ARM's kernels from July to December 2024.
//!
//! 4 or 8 consecutive rows are a group. For each 32 columns in turn it has the f16 scales of its rows, then their
//! codes: 4 or 8 bytes of each row, the next 4 or 8 of each, until all have their 16. The codes are signed nibbles, so
//! that bit 3 is the opposite of plain Q4_0's. Nothing else differs: the plain rows come back without loss
//! ([`InterleavedType::plain_rows`]), and everything beyond reading knows only those.
//!
//! llama.cpp has taken these types out of its files since it interleaves rows while it loads (pull request 10446); its
//! IQ4_NL_4_4 to IQ4_NL_8_8 never were in files. The layout is that of `block_q4_0x4` and `block_q4_0x8` in its
//! `ggml-aarch64.c`.

use std::ops::Range;

use crate::TensorType;

/// A type of GGUF that is Q4_0 in another order. The ids and names are ggml's (`ggml_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types)]
pub enum InterleavedType {
    /// 4 rows, 4 bytes of each in turn.
    Q4_0_4_4,
    /// 4 rows, 8 bytes of each in turn.
    Q4_0_4_8,
    /// 8 rows, 8 bytes of each in turn.
    Q4_0_8_8,
}

use InterleavedType::*;

impl InterleavedType {
    /// Every type, in the order of GGUF's ids.
    pub const ALL: [InterleavedType; 3] = [Q4_0_4_4, Q4_0_4_8, Q4_0_8_8];

    /// GGUF's number for this type.
    pub const fn id(self) -> u32 {
        match self {
            Q4_0_4_4 => 31,
            Q4_0_4_8 => 32,
            Q4_0_8_8 => 33,
        }
    }

    /// The type with GGUF's number `id`.
    pub fn from_id(id: u32) -> Option<InterleavedType> {
        InterleavedType::ALL.into_iter().find(|t| t.id() == id)
    }

    /// llama.cpp's name for this type, e.g. `Q4_0_4_8`.
    pub const fn name(self) -> &'static str {
        match self {
            Q4_0_4_4 => "Q4_0_4_4",
            Q4_0_4_8 => "Q4_0_4_8",
            Q4_0_8_8 => "Q4_0_8_8",
        }
    }

    /// The type of the plain rows.
    pub const fn plain(self) -> TensorType {
        TensorType::Q4_0
    }

    /// Rows of a group; a matrix has whole groups.
    pub const fn group(self) -> usize {
        match self {
            Q4_0_4_4 | Q4_0_4_8 => 4,
            Q4_0_8_8 => 8,
        }
    }

    /// Bytes of codes that stand together.
    const fn chunk(self) -> usize {
        match self {
            Q4_0_4_4 => 4,
            Q4_0_4_8 | Q4_0_8_8 => 8,
        }
    }

    /// Rows `rows` of `data`, a matrix of `cols` columns, as plain ones, one after the other.
    ///
    /// # Panics
    /// When `cols` is no whole number of blocks or `data` does not reach to the end of the last row's group.
    pub fn plain_rows(self, cols: usize, data: &[u8], rows: Range<usize>) -> Vec<u8> {
        const SCALE: usize = 2;
        let (group, chunk, block_bytes) = (self.group(), self.chunk(), self.plain().block_bytes());
        let row_bytes = self.plain().row_bytes(cols).expect("rows of whole blocks");
        let mut plain = vec![0; rows.len() * row_bytes];
        for (row, plain) in rows.zip(plain.chunks_exact_mut(row_bytes)) {
            let (rows_before, lane) = (row / group * group, row % group);
            let data = &data[rows_before * row_bytes..][..group * row_bytes];
            for (block, data) in plain.chunks_exact_mut(block_bytes).zip(data.chunks_exact(group * block_bytes)) {
                let (scales, codes) = data.split_at(group * SCALE);
                block[..SCALE].copy_from_slice(&scales[lane * SCALE..][..SCALE]);
                let mine = codes.chunks_exact(chunk).skip(lane).step_by(group);
                for (to, &byte) in block[SCALE..].iter_mut().zip(mine.flatten()) {
                    *to = byte ^ 0x88;
                }
            }
        }
        plain
    }
}

impl std::fmt::Display for InterleavedType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoredType;

    #[test]
    fn ids_and_names_are_no_other_types() {
        for t in InterleavedType::ALL {
            assert_eq!(InterleavedType::from_id(t.id()), Some(t));
            assert_eq!((TensorType::from_id(t.id()), TensorType::from_name(t.name())), (None, None), "{t}");
            assert_eq!(StoredType::from_id(t.id()), None, "{t}");
        }
    }

    /// Any rows can be asked for, in groups or across them, and are those of the whole.
    #[test]
    fn rows_are_those_of_the_whole() {
        const COLS: usize = 96;
        let data: Vec<u8> = (0..16 * TensorType::Q4_0.row_bytes(COLS).unwrap()).map(|i| (i * i / 7) as u8).collect();
        for t in InterleavedType::ALL {
            let row_bytes = t.plain().row_bytes(COLS).unwrap();
            let all = t.plain_rows(COLS, &data, 0..16);
            for (start, end) in [(0, 0), (0, 1), (3, 5), (7, 16), (15, 16)] {
                assert!(t.plain_rows(COLS, &data, start..end) == all[start * row_bytes..end * row_bytes], "{t}");
            }
        }
    }
}
