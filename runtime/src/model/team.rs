//! The workers of a forward pass: how a step is cut into chunks, and the steps that are made of matrices.

use std::borrow::Borrow;
use std::ops::Range;

use quipu_formats::families::{Activation, Ungated};
use quipu_kernels::{Kernels, MatMut, Tile, padded_rows};

use super::adapted::{Adapted, Products};
use super::finite::Noticed;
use super::local::{Local, most_groups, room};
use super::matrix::Matrix;
use super::product::{InputBuffers, ProductInput};
use super::weights::{GateAndUp, LayerNorm, Linear, Norm};
use crate::config::Config;
use crate::pool::Pool;

/// Quantises `rows` rows of `cols` activations, side by side, into some of `tiles`, the largest ones first.
pub(super) fn quantize_rows<'a>(
    kernels: &Kernels,
    x: &[f32],
    rows: usize,
    cols: usize,
    tiles: &'a mut Vec<Tile>,
) -> &'a [Tile] {
    let (mut start, mut used) = (0, 0);
    while start < rows {
        let n = kernels.tile_rows(rows - start);
        if used == tiles.len() {
            tiles.push(Tile::default());
        }
        kernels.quantize(&x[start * cols..], n, cols, cols, &mut tiles[used]);
        (start, used) = (start + n, used + 1);
    }
    &tiles[..used]
}

impl GateAndUp {
    /// `out ← activation(W_gate·input) · W_up·input`, for these groups of rows.
    pub(super) fn apply(
        &self,
        kernels: &Kernels,
        activation: Activation,
        groups: Range<usize>,
        input: ProductInput<'_>,
        local: &mut Local,
        out: &mut MatMut<'_>,
    ) {
        // In one matrix, the way up begins in the middle.
        let (gate, up, middle) = match self {
            GateAndUp::Apart([gate, up]) => (gate, up, 0),
            GateAndUp::Joined(both) => (both, both, both.matrix.groups() / 2),
            GateAndUp::Ungated(..) => unreachable!("it has a step of its own"),
        };
        let Local { product, buffer, .. } = local;
        let (rows, n) = (input.rows, groups.len() * 16);
        let ups = room(buffer, rows * n);
        gate.apply(kernels, groups.clone(), input, product, out);
        let groups = groups.start + middle..groups.end + middle;
        up.apply(kernels, groups, input, product, &mut MatMut::new(ups, rows, n, n));
        for (r, up) in ups.chunks_exact(n).enumerate() {
            match activation {
                Activation::Silu => kernels.silu_mul(out.row(r), up),
                Activation::GeluTanh => kernels.gelu_mul(out.row(r), up),
            }
        }
    }
}

/// The pool with the workers' memory, and the kernels: what every parallel step needs.
pub(crate) struct Team<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) pool: &'a mut Pool,
    pub(crate) locals: &'a mut [Local],
    pub(crate) noticed: &'a Noticed,
    /// The rows that have adapters.
    pub(crate) adapted: &'a Adapted<'a>,
}

impl Team<'_> {
    /// Columns of a chunk when a step has `groups` row groups.
    pub(super) fn chunk(&self, groups: usize) -> usize {
        let tuning = self.kernels.tuning();
        let chunks = self.pool.threads() * (tuning.chunks_per_thread as usize).max(1);
        16 * groups.div_ceil(chunks).clamp(1, most_groups(tuning))
    }

    /// The input of products with `linears`: `rows` rows of `cols` activations, `stride` apart. They are quantised to
    /// int8 if one of `linears` needs that; a row that is not all numbers is noticed then. (Products with floats pass
    /// it on.) Adapters' first matrices are applied to rows that have some.
    pub(super) fn input<'a, L: Borrow<Linear>>(
        &mut self,
        linears: &[L],
        x: &'a [f32],
        rows: usize,
        cols: usize,
        stride: usize,
        buffers: &'a mut InputBuffers,
    ) -> ProductInput<'a>
    where
        Self: 'a,
    {
        let InputBuffers { tiles, hidden, parts } = buffers;
        let mut used = 0;
        if linears.iter().any(|l| !l.borrow().matrix.ty().is_float()) {
            let kernels = self.kernels;
            // Full tiles, then smaller ones.
            let full = kernels.tile_rows(rows);
            let tile_at = |i: usize| {
                let mut start = i.min(rows / full) * full;
                for _ in rows / full..i {
                    start += kernels.tile_rows(rows - start);
                }
                start
            };
            while tile_at(used) < rows {
                used += 1;
            }
            if tiles.len() < used {
                tiles.resize_with(used, Tile::default);
            }
            let noticed = self.noticed;
            let quantize = |i: usize, tile: &mut Tile| {
                let start = tile_at(i);
                let rows = kernels.tile_rows(rows - start);
                kernels.quantize(&x[start * stride..], rows, cols, stride, tile);
                for row in start..start + rows {
                    if !kernels.within(&x[row * stride..][..cols], f32::INFINITY) {
                        noticed.add(row);
                    }
                }
            };
            if used == 1 {
                // One tile takes less time than waking the other workers.
                quantize(0, &mut tiles[0]);
            } else {
                self.pool.for_items(self.locals, &mut tiles[..used], |_, i, tile| quantize(i, tile));
            }
        }
        let adapted = self.adapted;
        let low_rank = match adapted.plan(linears.iter().map(|l| l.borrow().tensor), parts) {
            0 => Products::NONE,
            n => {
                let (kernels, hidden) = (self.kernels, room(hidden, n));
                self.pool.for_items(self.locals, &mut adapted.tasks(parts, hidden), |local, _, task| {
                    task.run(kernels, x, cols, stride, &mut local.buffer);
                });
                adapted.products(parts, hidden)
            }
        };
        ProductInput { x: &x[..(rows - 1) * stride + cols], rows, stride, tiles: &tiles[..used], first: 0, low_rank }
    }

    /// Calls `f` for the parts of `out`, `width` columns each, and the rows of `input` that belong to them.
    fn for_parts(
        &mut self,
        input: ProductInput<'_>,
        out: &mut MatMut<'_>,
        width: usize,
        f: impl Fn(&mut Local, ProductInput<'_>, Range<usize>, &mut MatMut<'_>) + Sync,
    ) {
        let mut start = 0;
        for panel in input.panels(self.kernels.tuning().panel as usize) {
            let columns = 0..out.cols();
            let mut out = out.part(start..start + panel.rows, columns);
            self.pool.for_tiles(self.locals, &mut out, &[0, panel.rows], width, |local, _, cols, part| {
                f(local, panel, cols, part);
            });
            start += panel.rows;
        }
    }

    /// The products of several matrices with one input, side by side in `out`.
    pub(super) fn products<L: Borrow<Linear> + Sync>(
        &mut self,
        linears: &[L],
        input: ProductInput<'_>,
        out: &mut MatMut<'_>,
    ) {
        let kernels = self.kernels;
        let width = self.chunk(linears.iter().map(|l| l.borrow().matrix.groups()).sum());
        self.for_parts(input, out, width, |local, input, cols, tile| {
            let mut start = 0;
            for linear in linears.iter().map(Borrow::borrow) {
                let end = start + linear.matrix.groups() * 16;
                let mine = cols.start.max(start)..cols.end.min(end);
                if !mine.is_empty() {
                    let groups = (mine.start - start) / 16..(mine.end - start) / 16;
                    let mut part = tile.part(0..input.rows, mine.start - cols.start..mine.end - cols.start);
                    linear.apply(kernels, groups, input, &mut local.product, &mut part);
                }
                start = end;
            }
        });
    }

    /// `x ← x + W·input`, times the model's factor of what is added to the residual stream; or, with the weight of a
    /// norm, `x ← x + norm(W·input)`, by way of `h`. Both are rows of the residual stream.
    pub(super) fn add(
        &mut self,
        linear: &Linear,
        norm: Option<&[f32]>,
        c: &Config,
        input: ProductInput<'_>,
        h: &mut [f32],
        x: &mut [f32],
    ) {
        let (rows, d) = (input.rows, padded_rows(c.hidden));
        let Some(weight) = norm else {
            return self.add_product(linear, input, c.plan.residual_scale, &mut MatMut::new(x, rows, d, d));
        };
        self.products(&[linear], input, &mut MatMut::new(h, rows, d, d));
        let (kernels, h) = (self.kernels, &*h);
        self.each_row(x, d, |r, x| kernels.add_rms_norm(&h[r * d..][..d], weight, c.norm_epsilon, c.hidden, x));
    }

    /// `x ← x + factor·W·input`.
    fn add_product(&mut self, linear: &Linear, input: ProductInput<'_>, factor: f32, x: &mut MatMut<'_>) {
        let kernels = self.kernels;
        let width = self.chunk(linear.matrix.groups());
        self.for_parts(input, x, width, |local, input, cols, tile| {
            let Local { product, buffer, .. } = local;
            let (rows, n) = (input.rows, cols.len());
            let out = room(buffer, rows * n);
            linear.apply(kernels, cols.start / 16..cols.end / 16, input, product, &mut MatMut::new(out, rows, n, n));
            for (r, out) in out.chunks_exact(n).enumerate() {
                match factor {
                    1.0 => kernels.add(tile.row(r), out),
                    factor => kernels.add_scaled(tile.row(r), out, factor),
                }
            }
        });
    }

    /// `out ← activation(W_gate·input) · W_up·input`; or, without a gate, what its own function makes of `W_up·input`.
    pub(super) fn gated_product(
        &mut self,
        gate_and_up: &GateAndUp,
        activation: Activation,
        input: ProductInput<'_>,
        out: &mut MatMut<'_>,
    ) {
        let kernels = self.kernels;
        if let GateAndUp::Ungated(up, function) = gate_and_up {
            return self.ungated_product(up, *function, input, out);
        }
        let width = self.chunk(out.cols() / 16);
        self.for_parts(input, out, width, |local, input, cols, tile| {
            gate_and_up.apply(kernels, activation, cols.start / 16..cols.end / 16, input, local, tile);
        });
    }

    /// `out ← function(W·input)`.
    fn ungated_product(&mut self, up: &Linear, function: Ungated, input: ProductInput<'_>, out: &mut MatMut<'_>) {
        let kernels = self.kernels;
        let width = self.chunk(out.cols() / 16);
        self.for_parts(input, out, width, |local, input, cols, tile| {
            up.apply(kernels, cols.start / 16..cols.end / 16, input, &mut local.product, tile);
            for r in 0..input.rows {
                match function {
                    Ungated::Relu => kernels.relu(tile.row(r)),
                    Ungated::Gelu => kernels.gelu(tile.row(r)),
                }
            }
        });
    }

    /// The product of some row groups with one row, of which nothing is kept: what reading weights takes.
    pub(crate) fn discard_product(&mut self, matrix: &Matrix, groups: Range<usize>, tiles: &[Tile]) {
        let (kernels, weights) = (self.kernels, matrix.weights());
        let most = self.chunk(weights.groups()) / 16;
        self.pool.for_each(self.locals, groups.len().div_ceil(most), |local, chunk| {
            let start = groups.start + chunk * most;
            let groups = start..groups.end.min(start + most);
            let out = room(&mut local.buffer, groups.len() * 16);
            let mut out = MatMut::new(out, 1, groups.len() * 16, groups.len() * 16);
            kernels.matmul_quant(&weights, groups, tiles, &mut local.product.quant, &mut out);
        });
    }

    /// The norm of rows over the first `n` elements of each, padded to 16, into `out`; without one, `x`.
    pub(super) fn norm<'a>(
        &mut self,
        x: &'a [f32],
        norm: Option<&Norm>,
        eps: f32,
        n: usize,
        out: &'a mut [f32],
    ) -> &'a [f32] {
        let Some(norm) = norm else { return x };
        let (kernels, width) = (self.kernels, padded_rows(n));
        self.each_row(out, width, |r, out| norm.apply(kernels, &x[r * width..][..width], eps, n, out));
        out
    }

    /// The norm of rows in their place, if there is one.
    pub(super) fn norm_in_place(&mut self, x: &mut [f32], norm: Option<&LayerNorm>, eps: f32, n: usize) {
        let Some(norm) = norm else { return };
        let kernels = self.kernels;
        self.each_row(x, padded_rows(n), |_, x| norm.apply(kernels, x, eps, n));
    }

    /// Calls `f(r, row)` for every row of `x`. A single row is done here: that takes less time than waking the other
    /// workers.
    pub(super) fn each_row(&mut self, x: &mut [f32], width: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
        if x.len() == width {
            return f(0, x);
        }
        let mut rows: Vec<&mut [f32]> = x.chunks_exact_mut(width).collect();
        self.pool.for_items(self.locals, &mut rows, |_, r, row| f(r, row));
    }
}
