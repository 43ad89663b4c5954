//! A weight of a checkpoint: what its numbers are made of, and its rows.

use std::borrow::Cow;
use std::ops::Range;

use super::quantised::matrix::Quantised;
use super::stored::Stored;
use crate::map::{Advice, MappedFile};
use crate::safetensors::Dtype;

/// A weight under Hugging Face's name.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    /// The type of the numbers.
    pub dtype: Dtype,
    /// The extents; the last is the length of a row.
    pub shape: Vec<usize>,
    /// What they are made of.
    pub numbers: Numbers,
}

/// What the numbers of a weight are made of.
#[derive(Clone, Debug)]
pub(super) enum Numbers {
    /// They stand in a file.
    Stored(Stored),
    /// Codes and scales do.
    Quantised(Box<Quantised>),
    /// Parts of its rows (0) or of its columns (1) do, each in a file of its own.
    Joined { along: usize, parts: Vec<Stored> },
}

impl From<Stored> for Weight {
    fn from(stored: Stored) -> Weight {
        Weight { dtype: stored.dtype, shape: stored.shape.clone(), numbers: Numbers::Stored(stored) }
    }
}

impl Weight {
    /// The tensor of a file that it is, if it is one.
    pub fn stored(&self) -> Option<&Stored> {
        match &self.numbers {
            Numbers::Stored(stored) => Some(stored),
            Numbers::Quantised(_) | Numbers::Joined { .. } => None,
        }
    }

    /// The weight that has these rows of a matrix that stands in a file; `None` for what is no such matrix, or has no
    /// such rows.
    pub fn part(&self, rows: Range<usize>) -> Option<Weight> {
        let all = *self.shape.first().filter(|_| self.shape.len() == 2)?;
        self.stored().filter(|_| rows.start < rows.end && rows.end <= all).map(|stored| stored.part(rows).into())
    }

    /// All bytes, when they lie in one of `files` row after row.
    pub fn mapped<'a>(&self, files: &'a [MappedFile]) -> Option<&'a [u8]> {
        self.stored()?.mapped(files)
    }

    /// `rows` of the weight, little-endian.
    pub fn bytes<'a>(&self, files: &'a [MappedFile], rows: Range<usize>) -> Cow<'a, [u8]> {
        match &self.numbers {
            Numbers::Stored(stored) => stored.bytes(files, rows),
            Numbers::Quantised(matrix) => {
                let cols = self.shape.last().copied().unwrap_or(1);
                Cow::Owned(matrix.bytes(files, cols, rows))
            }
            Numbers::Joined { along, parts } => Cow::Owned(joined(files, *along, parts, rows)),
        }
    }

    /// Gives the system advice about all bytes that the weight is made of.
    pub fn advise(&self, files: &[MappedFile], advice: Advice) {
        match &self.numbers {
            Numbers::Stored(stored) => stored.advise(files, advice),
            Numbers::Quantised(matrix) => matrix.advise(files, advice),
            Numbers::Joined { parts, .. } => parts.iter().for_each(|part| part.advise(files, advice)),
        }
    }
}

/// `rows` of the matrix whose rows or columns are those of `parts`, one after the other.
fn joined(files: &[MappedFile], along: usize, parts: &[Stored], rows: Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if along == 0 {
        let mut first = 0;
        for part in parts {
            let end = first + part.rows();
            let (from, to) = (rows.start.clamp(first, end), rows.end.clamp(first, end));
            if from < to {
                bytes.extend_from_slice(&part.bytes(files, from - first..to - first));
            }
            first = end;
        }
    } else {
        for row in rows {
            parts.iter().for_each(|part| bytes.extend_from_slice(&part.bytes(files, row..row + 1)));
        }
    }
    bytes
}
