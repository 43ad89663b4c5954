//! Tensors whose numbers lie apart.

use std::ops::Range;

/// Where each number of a tensor is: that at `[i, j, …]` begins at byte `start + i · strides[0] + j · strides[1] + …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strided {
    /// The first byte in the file.
    pub start: usize,
    /// Bytes from one index to the next, for each extent.
    pub strides: Vec<usize>,
    /// Bytes of a number.
    pub size: usize,
}

impl Strided {
    /// The same without the rows before `first`.
    pub(crate) fn without_rows(&self, first: usize) -> Strided {
        let step = self.strides.first().copied().unwrap_or(0);
        Strided { start: self.start + first * step, ..self.clone() }
    }

    /// `rows` of the tensor, which has the extents `shape`, from the bytes of its `file`.
    pub(crate) fn bytes(&self, file: &[u8], shape: &[usize], rows: Range<usize>) -> Vec<u8> {
        let Some((&cols, outer)) = shape.split_last() else { return file[self.start..][..self.size].to_vec() };
        let (step, outer_steps) = self.strides.split_last().map_or((0, &[][..]), |(step, rest)| (*step, rest));
        let mut bytes = Vec::with_capacity(rows.len() * cols * self.size);
        for row in rows {
            let (mut at, mut left) = (self.start, row);
            for (&extent, &step) in outer.iter().zip(outer_steps).rev() {
                at += left % extent * step;
                left /= extent;
            }
            for col in 0..cols {
                bytes.extend_from_slice(&file[at + col * step..][..self.size]);
            }
        }
        bytes
    }

    /// The bytes of the file from the tensor's first number to its last.
    pub(crate) fn span(&self, shape: &[usize]) -> Range<usize> {
        let last: usize = shape.iter().zip(&self.strides).map(|(extent, step)| (extent - 1) * step).sum();
        self.start..self.start + last + self.size
    }
}
