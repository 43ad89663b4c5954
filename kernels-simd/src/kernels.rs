//! The kernels of one instruction set as a value: safe functions that check shapes before they call the table's.

use std::ops::Range;

use quipu_quant::TensorType;

use crate::isa::Isa;
use crate::operands::activations::Tile;
use crate::operands::matrix::{MatMut, Weights};
use crate::ops::attention::{AttentionScratch, Queries, SEGMENT, Segment, state_len};
use crate::ops::attention_quant::{self, QuantQueries, QuantScratch, QuantSegment};
use crate::ops::matmul_quant::Scratch;
use crate::ops::roofline::{Int8Loop, Reading};
use crate::tuning::{Ahead, Tuning};

/// The kernels of one instruction set, from [`Isa::kernels`], which asks the CPU first.
///
/// Matrices are given as rows × columns, the elements of a row side by side. A *row* of activations belongs to one
/// token; `groups` are row groups of weights, sixteen outputs each.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub(crate) isa: Isa,
    pub(crate) functions: &'static Functions,
    pub(crate) tuning: Tuning,
}

/// The operations of one instruction set. To call one takes a CPU that has it, and arguments that were checked.
pub(crate) struct Functions {
    pub(crate) tile_rows: unsafe fn(usize) -> usize,
    pub(crate) quantize: unsafe fn(&[f32], usize, &mut Tile),
    pub(crate) matmul_quant: MatmulQuant,
    pub(crate) matmul_float: unsafe fn(&Weights<'_>, Range<usize>, &[f32], usize, &mut MatMut<'_>),
    pub(crate) rms_norm: unsafe fn(&[f32], &[f32], f32, usize, &mut [f32]),
    pub(crate) add_rms_norm: unsafe fn(&[f32], &[f32], f32, usize, &mut [f32]),
    pub(crate) rms_norm_heads: unsafe fn(&mut [f32], usize, &[f32], f32),
    pub(crate) layer_norm: unsafe fn(&mut [f32], &[f32], &[f32], f32, usize),
    pub(crate) silu_mul: unsafe fn(&mut [f32], &[f32]),
    pub(crate) gelu_mul: unsafe fn(&mut [f32], &[f32]),
    pub(crate) relu: unsafe fn(&mut [f32]),
    pub(crate) gelu: unsafe fn(&mut [f32]),
    pub(crate) soft_cap: unsafe fn(&mut [f32], f32),
    pub(crate) add: unsafe fn(&mut [f32], &[f32]),
    pub(crate) add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    pub(crate) within: unsafe fn(&[f32], f32) -> bool,
    pub(crate) rope: unsafe fn(&mut [f32], usize, &[[f32; 2]], f32),
    pub(crate) rope_halves: unsafe fn(&mut [f32], usize, &[[f32; 2]], f32),
    pub(crate) attend_f16: unsafe fn(&Tuning, Queries<'_>, Segment<'_, u16>, bool, &mut AttentionScratch, &mut [f32]),
    pub(crate) attend_f32: unsafe fn(&Tuning, Queries<'_>, Segment<'_, f32>, bool, &mut AttentionScratch, &mut [f32]),
    pub(crate) scores: Scores,
    pub(crate) weigh: Weigh,
    pub(crate) hadamard: unsafe fn(&mut [f32], usize),
    pub(crate) merge: unsafe fn(&mut [f32], &[f32]),
    pub(crate) finish: unsafe fn(&[f32], &mut [f32]),
    pub(crate) exp_sum: unsafe fn(&[f32], f64) -> f64,
    pub(crate) divergence_sums: DivergenceSums,
    pub(crate) read: unsafe fn(&[u8], Reading) -> i32,
    pub(crate) int8_loop: unsafe fn(u32, Int8Loop, usize) -> u64,
    pub(crate) f32_loop: unsafe fn(usize) -> u64,
}

type MatmulQuant = unsafe fn(&Tuning, &Weights<'_>, Range<usize>, &[Tile], &mut Scratch, &mut MatMut<'_>);
type Scores = unsafe fn(&Weights<'_>, Range<usize>, &Tile, usize, &mut [[f32; SEGMENT]]) -> bool;
type Weigh = unsafe fn(&Tuning, QuantQueries<'_>, QuantSegment<'_>, bool, &mut QuantScratch, &mut [f32]);
type DivergenceSums = unsafe fn(&[f32], &[f32], [f64; 2]) -> [f64; 3];

/// Calls a field of the table.
macro_rules! call {
    ($self:ident.$name:ident($($arg:expr),* $(,)?)) => {
        // SAFETY: `Kernels` can be had only from `Isa::kernels`, which found this CPU to have the features.
        unsafe { ($self.functions.$name)($($arg),*) }
    };
}
pub(crate) use call;

impl Kernels {
    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// What depends on the machine: [`Isa::tuning`], unless these are [tuned](Kernels::tuned).
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// The same kernels, with another tuning: they give the same bits.
    pub fn tuned(&self, tuning: Tuning) -> Kernels {
        Kernels { tuning, ..*self }
    }

    /// Rows of the next [`Tile`] when `left` rows of activations are left, 1 or more: what
    /// this instruction set has a kernel for, at most a power of two of 8 or more, and below that perhaps any number.
    pub fn tile_rows(&self, left: usize) -> usize {
        call!(self.tile_rows(left))
    }

    /// Quantises activations to int8, 32 columns of a row at a time, by the rule of `quipu_quant::activations`.
    ///
    /// `x` is `rows` × `cols`, row `r` beginning at `r · stride`; `tile` keeps the memory that it has. `cols` is a
    /// multiple of 32 and `rows` a number of rows that [`Kernels::tile_rows`] gives.
    ///
    /// # Panics
    /// When the shapes are others.
    pub fn quantize(&self, x: &[f32], rows: usize, cols: usize, stride: usize, tile: &mut Tile) {
        assert_eq!(rows, self.tile_rows(rows));
        tile.resize(rows, cols);
        assert!(stride >= cols && x.len() >= (rows - 1) * stride + cols);
        call!(self.quantize(x, stride, tile));
    }

    /// Quantises `x`, `rows` × `cols` without a gap, and cuts it into tiles as [`Kernels::matmul_quant`] takes them:
    /// the largest first. `cols` is a multiple of 32.
    ///
    /// # Panics
    /// When the shapes are others.
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

    /// The product of int8 activations with the row groups `groups` of quantised weights:
    /// `out[r][16·i + lane] = Σ_k weights[16·(groups.start + i) + lane][k] · x[r][k]`.
    ///
    /// `x` is `out.rows()` × `w.cols()`, in tiles of which none has more rows than the one before; `out` has 16 columns
    /// for each group. The result is to the bit what `quipu_quant::dot` says.
    ///
    /// # Panics
    /// When the shapes are others, or the weights are floats.
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
        call!(self.matmul_quant(&self.tuning, w, groups, x, scratch, out));
    }

    /// The same product of f32 activations with F32, F16 or BF16 weights: each output is one chain of fused
    /// multiply-adds, `k` ascending.
    ///
    /// `x` is `out.rows()` × `w.cols()`, row `r` beginning at `r · stride`; `out` has 16 columns for each group.
    ///
    /// # Panics
    /// When the shapes are others, or the weights are quantised.
    pub fn matmul_float(&self, w: &Weights<'_>, groups: Range<usize>, x: &[f32], stride: usize, out: &mut MatMut<'_>) {
        assert!(w.ty().is_float() && groups.end <= w.groups());
        assert_eq!(out.cols(), groups.len() * 16);
        assert!(stride >= w.cols() && (out.rows() == 0 || x.len() >= (out.rows() - 1) * stride + w.cols()));
        call!(self.matmul_float(w, groups, x, stride, out));
    }

    /// [`Kernels::attend_f32`] for keys and values in f16, as bits.
    ///
    /// # Panics
    /// When the shapes are others.
    pub fn attend_f16(
        &self,
        queries: Queries<'_>,
        segment: Segment<'_, u16>,
        first: bool,
        scratch: &mut AttentionScratch,
        state: &mut [f32],
    ) {
        check_attend(&queries, segment.keys.len(), segment.values.len(), state.len());
        call!(self.attend_f16(&self.tuning, queries, segment, first, scratch, state));
    }

    /// Attends to one [`Segment`] of the KV cache: for each query, the largest of its scores `m`, `Σ e^(score − m)`,
    /// and `Σ e^(score − m) · value`, over the positions that it sees.
    ///
    /// These are a row of `state`, which is `queries` × [`state_len`]. With `first` they are written; otherwise they
    /// are merged into the state of earlier segments that stands there, as [`Kernels::merge`] does.
    ///
    /// # Panics
    /// When the shapes are others, or a query sees no position or more than a segment has.
    pub fn attend_f32(
        &self,
        queries: Queries<'_>,
        segment: Segment<'_, f32>,
        first: bool,
        scratch: &mut AttentionScratch,
        state: &mut [f32],
    ) {
        check_attend(&queries, segment.keys.len(), segment.values.len(), state.len());
        call!(self.attend_f32(&self.tuning, queries, segment, first, scratch, state));
    }

    /// [`Kernels::attend_f32`] for keys and values in 8 or 4 bits: scores are the products of quantised weights, the
    /// keys, with int8 activations ([`Kernels::matmul_quant`]). `state` has the rows that look.
    ///
    /// # Panics
    /// When the shapes are others.
    pub fn attend_quant(
        &self,
        queries: QuantQueries<'_>,
        segment: QuantSegment<'_>,
        first: bool,
        scratch: &mut QuantScratch,
        state: &mut [f32],
    ) {
        let QuantQueries { tiles, ref rows, visible, head_dim, .. } = queries;
        let (padded, keys, bits) = (head_dim.next_multiple_of(32), segment.keys, segment.value_bits);
        assert!(head_dim > 0 && matches!(keys.ty(), TensorType::Q8_0 | TensorType::Q4_0) && (bits == 8 || bits == 4));
        assert!(keys.rows() == SEGMENT && keys.cols() == padded && tiles.iter().all(|t| t.blocks * 32 == padded));
        assert!(segment.values.len() == SEGMENT * padded * bits / 8 && segment.scales.len() == SEGMENT * padded / 32);
        let all_rows = tiles.iter().map(|tile| tile.rows).sum();
        assert!(rows.end <= all_rows && rows.len() == visible.len());
        assert!(visible.iter().all(|v| v.start < v.end && v.end <= SEGMENT));
        assert_eq!(state.len(), rows.len() * state_len(head_dim));
        let starts = visible.iter().map(|v| v.start);
        let any = starts.min().unwrap_or(0)..visible.iter().map(|v| v.end).max().unwrap_or(0);
        let ahead = attention_quant::ahead(&self.tuning, &segment);
        let kernels = self.tuned(self.tuning.with_ahead(keys.ty(), Ahead { codes: ahead, scales: 0 }));
        let QuantScratch { product, scores, .. } = scratch;
        if scores.len() < all_rows {
            scores.resize(all_rows, [0.0; SEGMENT]);
        }
        let few = |tile| call!(kernels.scores(&keys, any.clone(), tile, ahead as usize, scores));
        if !tiles.first().filter(|_| tiles.len() == 1).is_some_and(few) {
            let groups = any.start / 16..any.end.div_ceil(16);
            let mut out = MatMut::new(scores.as_flattened_mut(), all_rows, SEGMENT, SEGMENT);
            let mut out = out.part(0..all_rows, 16 * groups.start..16 * groups.end);
            kernels.matmul_quant(&keys, groups, tiles, product, &mut out);
        }
        call!(kernels.weigh(&kernels.tuning, queries, segment, first, scratch, state));
    }

    /// Turns every head of `x`, heads × `head_dim`, by Hadamard's matrix over its square root, of the largest power of
    /// two that divides `head_dim`: it spreads outliers and keeps dot products, and twice is not at all.
    pub fn hadamard(&self, x: &mut [f32], head_dim: usize) {
        call!(self.hadamard(x, head_dim));
    }

    /// Merges the state of a later segment, one row of [`state_len`], into that of the earlier ones (online softmax:
    /// Milakov & Gimelshein 2018).
    ///
    /// # Panics
    /// When the lengths differ, or are shorter than any state's.
    pub fn merge(&self, into: &mut [f32], from: &[f32]) {
        assert!(into.len() == from.len() && into.len() >= state_len(1));
        call!(self.merge(into, from));
    }

    /// The attention of one query after its last segment: `out`, `head_dim` long, is the weighted values in `state`
    /// over their sum of weights.
    ///
    /// # Panics
    /// When `state` is shorter than [`state_len`] of `out`'s length.
    pub fn finish(&self, state: &[f32], out: &mut [f32]) {
        assert!(state.len() >= state_len(out.len()));
        call!(self.finish(state, out));
    }

    /// `Σ exp(x − max)` for `x` up to `max`, in f64: eight sums side by side, each in ascending order. An exponential
    /// is within 10⁻¹⁴ of its value.
    pub fn exp_sum(&self, x: &[f32], max: f64) -> f64 {
        call!(self.exp_sum(x, max))
    }

    /// With `p = exp(base − max[0])` and `q = exp(model − max[1])`: `Σ p`, `Σ q` and `Σ p·(ln p − ln q)`, summed as
    /// [`Kernels::exp_sum`] does.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn divergence_sums(&self, base: &[f32], model: &[f32], max: [f64; 2]) -> [f64; 3] {
        assert_eq!(base.len(), model.len());
        call!(self.divergence_sums(base, model, max))
    }

    /// Reads `x` as fast as memory gives it, but for less than 256 bytes at either end. Returns the sum of what was
    /// read as 32-bit integers, which wraps.
    pub fn read(&self, x: &[u8], how: Reading) -> i32 {
        call!(self.read(x, how))
    }

    /// Multiplies codes of `bits` bits (4 or 8) in registers with int8 activations in the first-level cache, `rounds`
    /// times over. Returns the number of multiplications: over the time that they took, it is the int8 roofline of this
    /// core.
    pub fn int8_loop(&self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        call!(self.int8_loop(bits, how, rounds))
    }

    /// Multiplies and adds f32 in registers (fused), `rounds` times over. Returns the number of multiplications: over
    /// the time that they took, it is the f32 roofline of this core.
    pub fn f32_loop(&self, rounds: usize) -> u64 {
        call!(self.f32_loop(rounds))
    }
}

fn check_attend(queries: &Queries<'_>, keys: usize, values: usize, state: usize) {
    let (n, head_dim) = (queries.visible.len(), queries.head_dim);
    assert!(head_dim > 0 && queries.q.len() == n * head_dim);
    assert!(queries.visible.iter().all(|v| v.start < v.end && v.end <= SEGMENT));
    assert!(keys == SEGMENT * head_dim && values == SEGMENT * head_dim.next_multiple_of(16));
    assert_eq!(state, n * state_len(head_dim));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quipu_quant::pack::PackedLayout;

    use super::*;
    use crate::asked;
    use crate::simd::LINE;

    /// How many of the lines of `bytes` that begin `from` bytes after the first are in `asked`, and how many there are.
    fn found(asked: &BTreeSet<usize>, bytes: &[u8], from: usize) -> (usize, usize) {
        let first = bytes.as_ptr().addr().div_ceil(LINE);
        let lines = first + from / LINE..(bytes.as_ptr().addr() + bytes.len()) / LINE;
        (lines.clone().filter(|line| asked.contains(line)).count(), lines.len())
    }

    /// Whatever kernel takes so many rows: it asks for all codes and scales, at the distances that it is given.
    #[test]
    fn weights_are_asked_for_ahead() {
        let (rows, cols) = (128, 2048);
        for ty in [TensorType::Q4_0, TensorType::Q8_0, TensorType::Q4_K, TensorType::Q6_K, TensorType::Q5_K] {
            let layout = PackedLayout::new(ty, rows, cols).unwrap();
            let packed = vec![0; layout.total_bytes() + LINE];
            let start = packed.as_ptr().align_offset(LINE);
            let packed = &packed[start..][..layout.total_bytes()];
            let weights = Weights::new(layout, packed);
            let codes = &packed[..weights.groups() * layout.group_quant_bytes()];
            let first = codes.as_ptr().addr();
            let scales = &packed[layout.scales_offset()..];
            for kernels in Kernels::available() {
                for n in [1, 2, 3, 4, 5, 8, 12, 16, 40, 200] {
                    let tiles = kernels.tiles(&vec![1.0; n * cols], n, cols);
                    let asked = |ahead: Ahead| {
                        let kernels = kernels.tuned(kernels.tuning().with_ahead(ty, ahead));
                        let mut out = vec![0.0; n * rows];
                        let mut out = MatMut::new(&mut out, n, rows, rows);
                        asked::lines(|| {
                            kernels.matmul_quant(&weights, 0..8, &tiles, &mut Scratch::default(), &mut out);
                        })
                    };
                    for ahead in [Ahead { codes: 1 << 10, scales: 512 }, Ahead { codes: 8 << 10, scales: 2 << 10 }] {
                        let lines = asked(ahead);
                        let what = format!("{} {ty} {n} rows, {ahead:?}", kernels.isa());
                        // Full tiles ask for the scales of a whole group at once.
                        let scales_from = (ahead.scales as usize).max(layout.group_scale_bytes());
                        for (bytes, from) in [(codes, ahead.codes as usize), (scales, scales_from)] {
                            // Nobody asks for the head of the first pair's second group, and few lines are left out
                            // where a pair ends within eight blocks.
                            let (found, all) = found(&lines, bytes, from);
                            assert!(found + from / LINE + all / 10 >= all, "{what}: {found} of {all} lines");
                        }
                        let of_codes = |line: &&usize| (0..codes.len()).contains(&(*line * LINE).wrapping_sub(first));
                        let distance = lines.iter().find(of_codes).map(|line| line * LINE - first);
                        assert_eq!(distance, Some(ahead.codes as usize), "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn keys_and_values_are_asked_for_ahead() {
        for head_dim in [64, 128] {
            let len = SEGMENT * head_dim;
            let memory = vec![0u16; 4 * len + LINE];
            let memory = &memory[memory.as_ptr().align_offset(LINE)..][..4 * len];
            // The head's next keys are somewhere else.
            let (now, later) = memory.split_at(3 * len);
            let segment = Segment { keys: &now[..len], values: &now[len..2 * len], next: &later[..len] };
            for kernels in Kernels::available() {
                for rows in [1, 3, 4, 8, 64] {
                    for ahead in [2 << 10, 8 << 10] {
                        let kernels = kernels.tuned(kernels.tuning().with(&format!("kv_ahead={ahead}")).unwrap());
                        let q = vec![1.0; rows * head_dim];
                        let visible = vec![0..SEGMENT; rows];
                        let queries = Queries { q: &q, visible: &visible, head_dim, soft_cap: None };
                        let mut state = vec![0.0; rows * state_len(head_dim)];
                        let asked = asked::lines(|| {
                            kernels.attend_f16(queries, segment, true, &mut AttentionScratch::default(), &mut state);
                        });
                        let what = format!("{} {rows} rows of {head_dim}, {ahead} bytes", kernels.isa());
                        let lines = |x: &[u16]| {
                            let first = x.as_ptr().addr() / LINE;
                            first..first + size_of_val(x) / LINE
                        };
                        for line in lines(&now[ahead / 2..2 * len]).chain(lines(&later[..ahead / 2])) {
                            assert!(asked.contains(&line), "{what}");
                        }
                    }
                }
            }
        }
    }
}
