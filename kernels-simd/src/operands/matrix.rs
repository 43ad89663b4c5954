//! Views of the operands of a matrix product.

use std::marker::PhantomData;
use std::ops::Range;

use quipu_quant::TensorType;
use quipu_quant::pack::{GROUP_ROWS, PackedLayout};

/// A weight matrix, `rows` outputs × `cols` inputs, packed as `quipu_quant::pack` says (R16·K4): a plane of codes, or
/// of floats, and a plane of scales, both in groups of sixteen rows.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    layout: PackedLayout,
    quants: &'a [u8],
    scales: &'a [u8],
}

impl<'a> Weights<'a> {
    /// The matrix that lies in `packed`.
    ///
    /// # Panics
    /// When its length is not the layout's.
    pub fn new(layout: PackedLayout, packed: &'a [u8]) -> Weights<'a> {
        assert_eq!(packed.len(), layout.total_bytes(), "bytes of a packed matrix");
        let quants = &packed[..layout.groups() * layout.group_quant_bytes()];
        Weights { layout, quants, scales: &packed[layout.scales_offset()..] }
    }

    /// The type of its elements.
    pub fn ty(&self) -> TensorType {
        self.layout.ty()
    }

    /// The number of outputs.
    pub fn rows(&self) -> usize {
        self.layout.rows()
    }

    /// The number of inputs.
    pub fn cols(&self) -> usize {
        self.layout.cols()
    }

    /// The number of row groups: `rows / 16`, rounded up.
    pub fn groups(&self) -> usize {
        self.layout.groups()
    }

    /// Bytes of one row group in both planes together.
    pub fn group_bytes(&self) -> usize {
        self.layout.group_quant_bytes() + self.layout.group_scale_bytes()
    }

    /// Bytes of all row groups.
    pub fn bytes(&self) -> usize {
        self.groups() * self.group_bytes()
    }

    /// Row group `g` in either plane.
    pub(crate) fn group(&self, g: usize) -> (&'a [u8], &'a [u8]) {
        let (q, s) = (self.layout.group_quant_bytes(), self.layout.group_scale_bytes());
        (&self.quants[g * q..(g + 1) * q], &self.scales[g * s..(g + 1) * s])
    }
}

/// A mutable view of `rows` × `cols` f32, of which row `r` begins at `r · stride`.
#[derive(Debug)]
pub struct MatMut<'a> {
    at: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MatMut` is an exclusive borrow of its elements, as `&mut [f32]` is.
unsafe impl Send for MatMut<'_> {}
// SAFETY: a shared `MatMut` gives no access to its elements.
unsafe impl Sync for MatMut<'_> {}

impl<'a> MatMut<'a> {
    /// Of the first `rows` rows of `stride` elements in `data` the first `cols` elements each.
    ///
    /// # Panics
    /// When `data` is shorter or `cols` exceeds `stride`.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> MatMut<'a> {
        assert!(cols <= stride && rows.checked_mul(stride).is_some_and(|n| n <= data.len()));
        MatMut { at: data.as_mut_ptr(), rows, cols, stride, lifetime: PhantomData }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `r`.
    pub fn row(&mut self, r: usize) -> &mut [f32] {
        assert!(r < self.rows);
        // SAFETY: `new` and `tile` made sure that `rows` rows of `cols` elements, `stride` apart, are ours alone.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(r * self.stride), self.cols) }
    }

    /// The part at `rows` × `cols`, for a shorter time.
    pub fn part(&mut self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_> {
        // SAFETY: the result borrows `self` mutably, so nothing else reaches the elements meanwhile.
        unsafe { self.tile(rows, cols) }
    }

    /// The part at `rows` × `cols`, without a borrow: for handing disjoint parts to several threads.
    ///
    /// # Safety
    /// No two parts that live at the same time may share an element, and none may be used after `'a`.
    ///
    /// # Panics
    /// When the part is not inside.
    pub unsafe fn tile<'b>(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'b> {
        assert!(rows.start <= rows.end && rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols);
        // SAFETY: inside the elements that `self` stands for, as just asserted.
        let at = unsafe { self.at.add(rows.start * self.stride + cols.start) };
        MatMut { at, rows: rows.len(), cols: cols.len(), stride: self.stride, lifetime: PhantomData }
    }
}

/// Columns of the output of a product with `rows` rows of weights: whole row groups.
pub fn padded_rows(rows: usize) -> usize {
    rows.next_multiple_of(GROUP_ROWS)
}
