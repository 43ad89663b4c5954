//! Q4_0 with rows interleaved: what `llama-quantize` wrote for ARM's kernels from July to December 2024.
//!
//! A group is 4 or 8 consecutive rows. For each 32 columns it stores the f16 scales of its rows, then their codes in
//! turn: 4 or 8 bytes of each row, then the next 4 or 8 of each, until all 16 bytes of every row are there. The codes
//! are signed nibbles: bit 3 is the inverse of plain Q4_0's. Nothing else differs. The plain rows come back without
//! loss ([`InterleavedType::plain_rows`]), and everything beyond reading knows only those.
//!
//! llama.cpp removed these types from its files when it began to interleave rows while it loads (pull request 10446).
//! Its types IQ4_NL_4_4 to IQ4_NL_8_8 never were in files. The layout is that of `block_q4_0x4` and `block_q4_0x8` in
//! its `ggml-aarch64.c`.

use std::ops::Range;

use crate::types::InterleavedType;

impl InterleavedType {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TensorType;

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
