//! Numbers that stand in a file of a checkpoint.

use std::borrow::Cow;
use std::ops::Range;

use crate::map::{Advice, MappedFile};
use crate::safetensors::Dtype;
use crate::torch::Strided;

/// A tensor of a file. Whoever makes one has checked that its numbers are in the file.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The type of the numbers.
    pub dtype: Dtype,
    /// The extents; the last is the length of a row.
    pub shape: Vec<usize>,
    /// The number of the file.
    pub file: usize,
    /// Where the numbers are in it.
    pub place: Place,
}

/// Where numbers are in a file.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In these bytes, row after row.
    Lying(Range<usize>),
    /// Apart.
    Strided(Strided),
}

impl Stored {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// The tensor that has these rows of a matrix.
    pub fn part(&self, rows: Range<usize>) -> Stored {
        let place = match &self.place {
            Place::Lying(range) => {
                let row = range.len() / self.rows();
                Place::Lying(range.start + rows.start * row..range.start + rows.end * row)
            }
            Place::Strided(numbers) => Place::Strided(numbers.without_rows(rows.start)),
        };
        Stored { dtype: self.dtype, shape: vec![rows.len(), self.shape[1]], file: self.file, place }
    }

    /// All bytes, when they lie in one of `files` row after row.
    pub fn mapped<'a>(&self, files: &'a [MappedFile]) -> Option<&'a [u8]> {
        match &self.place {
            Place::Lying(range) => Some(&files[self.file][range.clone()]),
            Place::Strided(_) => None,
        }
    }

    /// `rows` of the tensor, little-endian.
    pub fn bytes<'a>(&self, files: &'a [MappedFile], rows: Range<usize>) -> Cow<'a, [u8]> {
        let file = &files[self.file];
        match &self.place {
            Place::Lying(range) => {
                let row = range.len() / self.rows();
                Cow::Borrowed(&file[range.start + rows.start * row..range.start + rows.end * row])
            }
            Place::Strided(numbers) => Cow::Owned(numbers.bytes(file, &self.shape, rows)),
        }
    }

    /// All bytes.
    pub fn all<'a>(&self, files: &'a [MappedFile]) -> Cow<'a, [u8]> {
        self.bytes(files, 0..self.rows())
    }

    /// Gives the system advice about all bytes.
    pub fn advise(&self, files: &[MappedFile], advice: Advice) {
        let range = match &self.place {
            Place::Lying(range) => range.clone(),
            Place::Strided(numbers) => numbers.span(&self.shape),
        };
        files[self.file].advise(range, advice);
    }
}
