//! What adapters add to products: `y = W·x + Σ s·B·(A·x)`.
//!
//! The rows of a batch are grouped by adapter. Before a product, `A·x` is computed for the rows that have one, in a
//! step of its own; after it, whoever computes a part of `W·x` adds his part of `s·B·(A·x)` to it.
//!
//! The order of sums is stated. `u_i ← fma(a_ik, x_k, u_i)` for `k` ascending; `v_j ← fma(b_ji, u_i, v_j)` for `i`
//! ascending, both from 0; and then `y_j ← fma(s, v_j, y_j)`, where `s` is the product of the adapter's own scale and
//! the text's, and `y` has its bias by then; several adapters in the order in which they were loaded. All of it is of
//! one row, so neither its neighbours nor their adapters change a bit.

use std::ops::Range;

use quipu_kernels::{Kernels, MatMut};

use super::low_rank::LowRank;
use crate::adapters::Adapters;

/// The rows of a product that have adapters.
pub(crate) struct Adapted<'a> {
    /// By the adapter's number.
    groups: Vec<Group<'a>>,
}

/// The rows that have one adapter.
struct Group<'a> {
    number: usize,
    adapter: &'a LowRank,
    /// Ascending.
    rows: Vec<usize>,
    /// The text's scale, for each of them.
    scales: Vec<f32>,
}

/// Rows of `A·x`: one adapter's, for one matrix.
pub(super) struct Part {
    group: usize,
    /// The number of the model's tensor.
    tensor: usize,
    /// Where they begin in the buffer, and how long each is.
    at: usize,
    width: usize,
}

/// Rows of an adapter's group to be multiplied with one `A`, and the place for what comes out.
pub(super) struct Task<'a> {
    adapter: &'a LowRank,
    tensor: usize,
    rows: &'a [usize],
    out: &'a mut [f32],
}

/// Rows of a task: the kernel takes four at once.
const TASK: usize = 16;
/// Rows of `B·(A·x)` that are computed before they are added, so that they stay in the first cache.
const SUMS: usize = 16;

impl<'a> Adapted<'a> {
    /// No row has an adapter.
    pub(super) fn none() -> &'static Adapted<'static> {
        static NONE: Adapted<'static> = Adapted { groups: Vec::new() };
        &NONE
    }

    /// Rows with these adapters, of `loaded`.
    pub(super) fn new<'r>(loaded: &'a [LowRank], rows: impl Iterator<Item = &'r Adapters>) -> Adapted<'a> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (row, adapters) in rows.enumerate() {
            for &(id, scale) in adapters.list() {
                let at = groups.binary_search_by_key(&id.number, |group| group.number).unwrap_or_else(|at| {
                    let (number, adapter) = (id.number, &loaded[id.number]);
                    groups.insert(at, Group { number, adapter, rows: Vec::new(), scales: Vec::new() });
                    at
                });
                groups[at].rows.push(row);
                groups[at].scales.push(scale);
            }
        }
        Adapted { groups }
    }

    /// Plans `A·x` for all matrices of one input: where what comes out begins, and how long all of it is.
    pub(super) fn plan(&self, tensors: impl Iterator<Item = usize> + Clone, parts: &mut Vec<Part>) -> usize {
        parts.clear();
        let mut end = 0;
        for (number, group) in self.groups.iter().enumerate() {
            for tensor in tensors.clone() {
                if let Some(pair) = group.adapter.pair(tensor) {
                    parts.push(Part { group: number, tensor, at: end, width: pair.width() });
                    end += group.rows.len() * pair.width();
                }
            }
        }
        end
    }

    /// What is to be done for it, in any order.
    pub(super) fn tasks<'t>(&'t self, parts: &[Part], mut hidden: &'t mut [f32]) -> Vec<Task<'t>> {
        let mut tasks = Vec::new();
        for part in parts {
            let group = &self.groups[part.group];
            let (own, others) = hidden.split_at_mut(group.rows.len() * part.width);
            hidden = others;
            for (rows, out) in group.rows.chunks(TASK).zip(own.chunks_mut(TASK * part.width)) {
                tasks.push(Task { adapter: group.adapter, tensor: part.tensor, rows, out });
            }
        }
        tasks
    }

    /// What was computed.
    pub(super) fn products<'t>(&'t self, parts: &'t [Part], hidden: &'t [f32]) -> Products<'t> {
        Products { groups: &self.groups, parts, hidden }
    }
}

impl Task<'_> {
    /// `A·x` for its rows of `x`, which have `cols` numbers and are `stride` apart.
    pub(super) fn run(&mut self, kernels: &Kernels, x: &[f32], cols: usize, stride: usize, buffer: &mut Vec<f32>) {
        let Some(pair) = self.adapter.pair(self.tensor) else { return };
        let (rows, width) = (self.rows.len(), pair.width());
        let (first, last) = (self.rows[0], self.rows[rows - 1]);
        let (x, stride) = if last - first + 1 == rows {
            (&x[first * stride..], stride)
        } else {
            buffer.clear();
            self.rows.iter().for_each(|row| buffer.extend_from_slice(&x[row * stride..][..cols]));
            (&buffer[..], cols)
        };
        let out = &mut MatMut::new(self.out, rows, width, width);
        kernels.matmul_float(&pair.a.weights(), 0..width / 16, x, stride, out);
    }
}

/// `A·x` for all matrices of one input.
#[derive(Clone, Copy)]
pub(crate) struct Products<'a> {
    groups: &'a [Group<'a>],
    parts: &'a [Part],
    hidden: &'a [f32],
}

impl Products<'_> {
    /// None.
    pub(crate) const NONE: Products<'static> = Products { groups: &[], parts: &[], hidden: &[] };

    /// Adds `s·B·(A·x)` to `out`: to the outputs `outputs`, groups of 16, of the model's tensor number `tensor`, for
    /// the rows from number `first` on.
    pub(super) fn add(
        &self,
        kernels: &Kernels,
        tensor: usize,
        outputs: Range<usize>,
        first: usize,
        buffer: &mut Vec<f32>,
        out: &mut MatMut<'_>,
    ) {
        let n = outputs.len() * 16;
        for part in self.parts.iter().filter(|part| part.tensor == tensor) {
            let group = &self.groups[part.group];
            let Some(pair) = group.adapter.pair(tensor) else { continue };
            let before = |row: usize| group.rows.partition_point(|&own| own < row);
            let (mut start, end) = (before(first), before(first + out.rows()));
            while start < end {
                let rows = SUMS.min(end - start);
                buffer.resize(rows * n, 0.0);
                let hidden = &self.hidden[part.at + start * part.width..];
                let sums = &mut MatMut::new(buffer, rows, n, n);
                kernels.matmul_float(&pair.b.weights(), outputs.clone(), hidden, part.width, sums);
                for (i, sums) in (start..).zip(buffer.chunks_exact(n)) {
                    kernels.add_scaled(out.row(group.rows[i] - first), sums, pair.scale * group.scales[i]);
                }
                start += rows;
            }
        }
    }
}
