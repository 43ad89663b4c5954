//! The kernels of one instruction set as a value: safe functions that check shapes before they call the table's.

use std::ops::Range;

use crate::isa::Isa;
use crate::operands::activations::Tile;
use crate::operands::matrix::{MatMut, Weights};
use crate::ops::attention::{AttentionScratch, Queries, SEGMENT, Segment, state_len};
use crate::ops::matmul_quant::Scratch;
use crate::ops::roofline::Int8Loop;

/// The kernels of one instruction set. It can be had only from [`Isa::kernels`], which asks the CPU first.
pub struct Kernels {
    pub(crate) isa: Isa,
    pub(crate) functions: Functions,
}

/// The operations of one instruction set. To call one takes a CPU that has it, and arguments that were checked.
pub(crate) struct Functions {
    pub(crate) tile_rows: unsafe fn(usize) -> usize,
    pub(crate) quantize: unsafe fn(&[f32], usize, &mut Tile),
    pub(crate) matmul_quant: unsafe fn(&Weights<'_>, Range<usize>, &[Tile], &mut Scratch, &mut MatMut<'_>),
    pub(crate) matmul_float: unsafe fn(&Weights<'_>, Range<usize>, &[f32], usize, &mut MatMut<'_>),
    pub(crate) rms_norm: unsafe fn(&[f32], &[f32], f32, usize, &mut [f32]),
    pub(crate) rms_norm_heads: unsafe fn(&mut [f32], usize, &[f32], f32),
    pub(crate) silu_mul: unsafe fn(&mut [f32], &[f32]),
    pub(crate) add: unsafe fn(&mut [f32], &[f32]),
    pub(crate) rope: unsafe fn(&mut [f32], usize, &[[f32; 2]], f32),
    pub(crate) rope_halves: unsafe fn(&mut [f32], usize, &[[f32; 2]], f32),
    pub(crate) attend_f16: unsafe fn(Queries<'_>, Segment<'_, u16>, bool, &mut AttentionScratch, &mut [f32]),
    pub(crate) attend_f32: unsafe fn(Queries<'_>, Segment<'_, f32>, bool, &mut AttentionScratch, &mut [f32]),
    pub(crate) merge: unsafe fn(&mut [f32], &[f32]),
    pub(crate) finish: unsafe fn(&[f32], &mut [f32]),
    pub(crate) exp_sum: unsafe fn(&[f32], f64) -> f64,
    pub(crate) divergence_sums: DivergenceSums,
    pub(crate) read: unsafe fn(&[u8]) -> i32,
    pub(crate) int8_loop: unsafe fn(u32, Int8Loop, usize) -> u64,
    pub(crate) f32_loop: unsafe fn(usize) -> u64,
}

type DivergenceSums = unsafe fn(&[f32], &[f32], [f64; 2]) -> [f64; 3];

/// Calls a field of the table.
macro_rules! call {
    ($self:ident.$name:ident($($arg:expr),* $(,)?)) => {
        // SAFETY: `Kernels` can be had only from `Isa::kernels`, which found this CPU to have the features.
        unsafe { ($self.functions.$name)($($arg),*) }
    };
}

impl Kernels {
    /// Whose kernels these are.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Rows of the next tile when `left` rows are left: the largest power of two of them that this instruction set has
    /// a kernel for.
    pub fn tile_rows(&self, left: usize) -> usize {
        call!(self.tile_rows(left))
    }

    /// Quantises `rows` ([`Kernels::tile_rows`]) rows of `cols` activations (a multiple of 32), `stride` apart in `x`.
    ///
    /// # Panics
    /// When `x` is too short, `rows` no number of rows of a tile, or `cols` not as said.
    pub fn quantize(&self, x: &[f32], rows: usize, cols: usize, stride: usize, tile: &mut Tile) {
        assert_eq!(rows, self.tile_rows(rows));
        tile.resize(rows, cols);
        assert!(stride >= cols && x.len() >= (rows - 1) * stride + cols);
        call!(self.quantize(x, stride, tile));
    }

    /// Quantises `rows` rows of `cols` activations (a multiple of 32), one after the other in `x`, in tiles as
    /// [`Kernels::matmul_quant`] takes them: the largest first.
    ///
    /// # Panics
    /// When `x` is too short or `cols` not as said.
    pub fn tiles(&self, x: &[f32], rows: usize, cols: usize) -> Vec<Tile> {
        let (mut tiles, mut start) = (Vec::new(), 0);
        while start < rows {
            let mut tile = Tile::default();
            self.quantize(&x[start * cols..], self.tile_rows(rows - start), cols, cols, &mut tile);
            start += tile.rows;
            tiles.push(tile);
        }
        tiles
    }

    /// `out[row][16·i + lane] = weights[16·(groups.start + i) + lane] · x[row]` for quantised weights; the largest
    /// tiles stand first.
    ///
    /// # Panics
    /// When the shapes disagree: the tiles' rows are `out`'s rows, their columns the weights', and `out` has 16 columns
    /// a group; when tiles grow.
    pub fn matmul_quant(
        &self,
        w: &Weights<'_>,
        groups: Range<usize>,
        x: &[Tile],
        scratch: &mut Scratch,
        out: &mut MatMut<'_>,
    ) {
        assert!(!w.ty().is_float() && groups.end <= w.groups());
        assert_eq!(out.cols(), groups.len() * 16);
        assert_eq!(out.rows(), x.iter().map(|t| t.rows).sum::<usize>());
        assert!(x.iter().all(|t| t.rows == self.tile_rows(t.rows) && t.blocks * 32 == w.cols()));
        assert!(x.is_sorted_by(|a, b| a.rows >= b.rows), "the largest tiles stand first");
        call!(self.matmul_quant(w, groups, x, scratch, out));
    }

    /// As [`Kernels::matmul_quant`] for F32, F16 and BF16 weights and f32 rows, `stride` apart in `x`.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn matmul_float(&self, w: &Weights<'_>, groups: Range<usize>, x: &[f32], stride: usize, out: &mut MatMut<'_>) {
        assert!(w.ty().is_float() && groups.end <= w.groups());
        assert_eq!(out.cols(), groups.len() * 16);
        assert!(stride >= w.cols() && (out.rows() == 0 || x.len() >= (out.rows() - 1) * stride + w.cols()));
        call!(self.matmul_float(w, groups, x, stride, out));
    }

    /// RMSNorm of one row over its first `n` elements; the row, the weight and `out` are padded with zeros to 16.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, n: usize, out: &mut [f32]) {
        assert!(x.len().is_multiple_of(16) && x.len() == weight.len() && x.len() == out.len() && n <= x.len());
        call!(self.rms_norm(x, weight, eps, n, out));
    }

    /// RMSNorm of every head in `x` by itself, all with the same `weight`, which is as long as a head.
    ///
    /// # Panics
    /// When it is not.
    pub fn rms_norm_heads(&self, x: &mut [f32], head_dim: usize, weight: &[f32], eps: f32) {
        assert!(weight.len() == head_dim);
        call!(self.rms_norm_heads(x, head_dim, weight, eps));
    }

    /// SwiGLU: `gate ← silu(gate) · up`.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32]) {
        assert!(gate.len().is_multiple_of(16) && gate.len() == up.len());
        call!(self.silu_mul(gate, up));
    }

    /// `x ← x + y`.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of 16.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert!(x.len().is_multiple_of(16) && x.len() == y.len());
        call!(self.add(x, y));
    }

    /// RoPE on interleaved pairs of every head in `x`, then a factor.
    pub fn rope(&self, x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
        call!(self.rope(x, head_dim, angles, scale));
    }

    /// RoPE on the pairs (`i`, `i + angles.len()`) of every head in `x`, then a factor.
    ///
    /// # Panics
    /// When there are more pairs than a head has.
    pub fn rope_halves(&self, x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
        assert!(2 * angles.len() <= head_dim);
        call!(self.rope_halves(x, head_dim, angles, scale));
    }

    /// Attends to one segment of f16 keys and values; see [`Kernels::attend_f32`].
    ///
    /// # Panics
    /// When the lengths disagree.
    pub fn attend_f16(
        &self,
        queries: Queries<'_>,
        segment: Segment<'_, u16>,
        first: bool,
        scratch: &mut AttentionScratch,
        state: &mut [f32],
    ) {
        check_attend(&queries, segment.keys.len(), segment.values.len(), state.len());
        call!(self.attend_f16(queries, segment, first, scratch, state));
    }

    /// Attends to one segment. `state` (rows × [`state_len`]) is written when `first`, else the segment merges into it.
    ///
    /// # Panics
    /// When the lengths disagree.
    pub fn attend_f32(
        &self,
        queries: Queries<'_>,
        segment: Segment<'_, f32>,
        first: bool,
        scratch: &mut AttentionScratch,
        state: &mut [f32],
    ) {
        check_attend(&queries, segment.keys.len(), segment.values.len(), state.len());
        call!(self.attend_f32(queries, segment, first, scratch, state));
    }

    /// Merges one row of state of a later segment into that of the earlier ones.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn merge(&self, into: &mut [f32], from: &[f32]) {
        assert!(into.len() == from.len() && into.len() >= state_len(1));
        call!(self.merge(into, from));
    }

    /// The attention output of one row of state.
    ///
    /// # Panics
    /// When `state` is shorter than `out` needs.
    pub fn finish(&self, state: &[f32], out: &mut [f32]) {
        assert!(state.len() >= state_len(out.len()));
        call!(self.finish(state, out));
    }

    /// `Σ exp(x − max)` in eight lanes, each in ascending order; for `x` up to `max`. An exponential is within 10⁻¹⁴ of
    /// its value.
    pub fn exp_sum(&self, x: &[f32], max: f64) -> f64 {
        call!(self.exp_sum(x, max))
    }

    /// With `p = exp(base − max[0])` and `q = exp(model − max[1])`: `Σ p`, `Σ q` and `Σ p·(ln p − ln q)`, as
    /// [`Kernels::exp_sum`].
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn divergence_sums(&self, base: &[f32], model: &[f32], max: [f64; 2]) -> [f64; 3] {
        assert_eq!(base.len(), model.len());
        call!(self.divergence_sums(base, model, max))
    }

    /// Reads `x`, but for less than 256 bytes at either end, as fast as it comes; the sum means nothing.
    pub fn read(&self, x: &[u8]) -> i32 {
        call!(self.read(x))
    }

    /// Multiplies codes of `bits` bits (4 or 8) with int8 activations, all at hand, `rounds` times over. Returns how
    /// many multiplications those were: timed, the most that the instruction set can do.
    pub fn int8_loop(&self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        call!(self.int8_loop(bits, how, rounds))
    }

    /// As [`Kernels::int8_loop`] for f32.
    pub fn f32_loop(&self, rounds: usize) -> u64 {
        call!(self.f32_loop(rounds))
    }
}

fn check_attend(queries: &Queries<'_>, keys: usize, values: usize, state: usize) {
    let (n, head_dim) = (queries.visible.len(), queries.head_dim);
    assert!(head_dim > 0 && queries.q.len() == n * head_dim);
    assert!(queries.visible.iter().all(|v| (1..=SEGMENT).contains(v)));
    assert!(keys == SEGMENT * head_dim && values == SEGMENT * head_dim.next_multiple_of(16));
    assert_eq!(state, n * state_len(head_dim));
}
