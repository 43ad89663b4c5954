//! A weight of a checkpoint: where its numbers lie, and its rows.

use std::borrow::Cow;
use std::ops::Range;

use crate::map::{Advice, MappedFile};
use crate::safetensors::Dtype;
use crate::torch::Strided;

/// A weight under Hugging Face's name, with the numbers that it has in its file. Whoever makes one has checked that
/// they lie in the file.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    /// The type of the numbers.
    pub dtype: Dtype,
    /// The extents; the last is the length of a row.
    pub shape: Vec<usize>,
    /// Where the numbers are.
    pub place: Place,
}

/// Where the numbers of a weight are.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// The bytes of a file in this range, row after row.
    Lying { file: usize, range: Range<usize> },
    /// Apart in a file.
    Strided { file: usize, numbers: Strided },
}

impl Weight {
    /// The number of rows.
    fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// The file, and all bytes, when they lie in it row after row.
    fn lying(&self) -> Option<(usize, Range<usize>)> {
        match &self.place {
            Place::Lying { file, range } => Some((*file, range.clone())),
            Place::Strided { .. } => None,
        }
    }

    /// All bytes, when they lie in one of `files` row after row.
    pub fn mapped<'a>(&self, files: &'a [MappedFile]) -> Option<&'a [u8]> {
        self.lying().map(|(file, range)| &files[file][range])
    }

    /// `rows` of the weight, little-endian.
    pub fn bytes<'a>(&self, files: &'a [MappedFile], rows: Range<usize>) -> Cow<'a, [u8]> {
        match &self.place {
            Place::Lying { file, range } => {
                let row = range.len() / self.rows();
                Cow::Borrowed(&files[*file][range.start + rows.start * row..range.start + rows.end * row])
            }
            Place::Strided { file, numbers } => Cow::Owned(numbers.bytes(&files[*file], &self.shape, rows)),
        }
    }

    /// Gives the system advice about all bytes that the weight is made of.
    pub fn advise(&self, files: &[MappedFile], advice: Advice) {
        match &self.place {
            Place::Lying { file, range } => files[*file].advise(range.clone(), advice),
            Place::Strided { file, numbers } => files[*file].advise(numbers.span(&self.shape), advice),
        }
    }
}
