//! A quantised matrix: its rows as numbers.

use std::ops::Range;

use super::codes::Codes;
use super::meta::{LowRank, turn};
use super::scales::{Scales, Zeros};
use crate::hf::stored::Stored;
use crate::map::{Advice, MappedFile};

/// A quantised matrix.
#[derive(Clone, Debug)]
pub(in crate::hf) struct Quantised {
    pub(super) codes: Codes,
    /// What holds the codes, row after row.
    pub(super) tensor: Stored,
    pub(super) scales: Scales,
    pub(super) zeros: Option<Zeros>,
    /// What is added.
    pub(super) low_rank: Option<LowRank>,
    /// The model turns its inputs.
    pub(super) turned: bool,
}

impl Quantised {
    /// `rows` of the matrix of `cols` columns as F32, little-endian.
    pub fn bytes(&self, files: &[MappedFile], cols: usize, rows: Range<usize>) -> Vec<u8> {
        let codes = self.tensor.bytes(files, rows.clone());
        let scales = self.scales.open(files);
        let zeros = self.zeros.as_ref().map(|zeros| zeros.open(files));
        let low_rank = self.low_rank.as_ref().map(|low_rank| low_rank.open(files, rows.clone()));
        let mut bytes = Vec::with_capacity(rows.len() * cols * size_of::<f32>());
        let mut values = vec![0.0; cols];
        let row_bytes = codes.len() / rows.len().max(1);
        for (row, codes) in rows.zip(codes.chunks_exact(row_bytes.max(1))) {
            self.codes.decode(codes, &mut values);
            for (run, group) in self.scales.runs(cols, scales.groups()) {
                let scale = scales.of(row, group);
                let zero = zeros.as_ref().map(|zeros| zeros.of(&self.scales, row, group));
                for value in &mut values[run] {
                    *value = zero.map_or(*value, |zero| *value - zero) * scale;
                }
            }
            if let Some(low_rank) = &low_rank {
                low_rank.add(row, &mut values);
            }
            if self.turned {
                turn(&mut values);
            }
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes
    }

    /// Gives the system advice about all bytes that the matrix is made of.
    pub fn advise(&self, files: &[MappedFile], advice: Advice) {
        self.tensor.advise(files, advice);
    }
}
