//! Steps on rows of activations. Rows are padded with zeros to a multiple of 16.

use crate::gemm::Gemm;
use crate::operands::activations::{TILE_ROWS, Tile};
use crate::simd::{Simd, fold};

use super::exp::{exp, normal_tail, tanh};

/// RMSNorm (Zhang & Sennrich 2019): `out = x · w / √(mean(x²) + eps)`, the mean over the first `n` elements.
#[inline(always)]
pub(crate) fn rms_norm<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, n: usize, out: &mut [f32]) {
    let scale = s.splat(1.0 / (sum_of_squares(s, x) / n as f32 + eps).sqrt());
    for ((x, w), out) in x.chunks_exact(S::LANES).zip(weight.chunks_exact(S::LANES)).zip(out.chunks_exact_mut(S::LANES))
    {
        s.store(s.mul(s.mul(s.load(x), scale), s.load(w)), out);
    }
}

/// RMSNorm of every head by itself: `x` is heads × head_dim, the heads side by side, `weight` as long as one of them.
/// The products are rounded one by one, as [`rms_norm`]'s are.
#[inline(always)]
pub(crate) fn rms_norm_heads<S: Simd>(s: S, x: &mut [f32], head_dim: usize, weight: &[f32], eps: f32) {
    for head in x.chunks_exact_mut(head_dim) {
        let scale = 1.0 / (sum_of_squares(s, head) / head_dim as f32 + eps).sqrt();
        for (x, w) in head.iter_mut().zip(weight) {
            *x = *x * scale * w;
        }
    }
}

/// `into ← into + rms_norm(x)`.
#[inline(always)]
pub(crate) fn add_rms_norm<S: Simd>(s: S, x: &[f32], weight: &[f32], eps: f32, n: usize, into: &mut [f32]) {
    let scale = s.splat(1.0 / (sum_of_squares(s, x) / n as f32 + eps).sqrt());
    let rows = x.chunks_exact(S::LANES).zip(weight.chunks_exact(S::LANES));
    for ((x, w), into) in rows.zip(into.chunks_exact_mut(S::LANES)) {
        let normed = s.mul(s.mul(s.load(x), scale), s.load(w));
        s.store(s.add(s.load(into), normed), into);
    }
}

/// LayerNorm (Ba et al. 2016): `x ← (x − mean) / √(mean((x − mean)²) + eps) · w + b`, the means over the first `n`
/// elements, the product with the weight and the bias in one rounding.
#[inline(always)]
pub(crate) fn layer_norm<S: Simd>(s: S, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32, n: usize) {
    let mean = sum(s, &x[..n]) / n as f32;
    let means = s.splat(mean);
    for x in x.chunks_exact_mut(S::LANES) {
        s.store(s.sub(s.load(x), means), x);
    }
    let scale = s.splat(1.0 / (sum_of_squares(s, &x[..n]) / n as f32 + eps).sqrt());
    let parameters = weight.chunks_exact(S::LANES).zip(bias.chunks_exact(S::LANES));
    for (x, (w, b)) in x.chunks_exact_mut(S::LANES).zip(parameters) {
        s.store(s.fma(s.mul(s.load(x), scale), s.load(w), s.load(b)), x);
    }
}

/// The sum of `x`, in sixteen lanes; what is missing of the last sixteen elements counts as zero.
#[inline(always)]
fn sum<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let (whole, rest) = x.as_chunks::<16>();
    for x in whole {
        for sub in 0..S::SUBS {
            sums[sub] = s.add(sums[sub], s.load(&x[sub * S::LANES..]));
        }
    }
    let mut lanes = [0.0; 16];
    for sub in 0..S::SUBS {
        s.store(sums[sub], &mut lanes[sub * S::LANES..]);
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    fold(&mut lanes, |a, b| a + b)
}

/// The sum of the squares of `x`, in sixteen lanes; what is missing of the last sixteen elements counts as zero.
#[inline(always)]
fn sum_of_squares<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut squares = [s.splat(0.0); 4];
    let (whole, rest) = x.as_chunks::<16>();
    for x in whole {
        add_squares(s, x, &mut squares);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; 16];
        padded[..rest.len()].copy_from_slice(rest);
        add_squares(s, &padded, &mut squares);
    }
    let mut lanes = [0.0; 16];
    for sub in 0..S::SUBS {
        s.store(squares[sub], &mut lanes[sub * S::LANES..]);
    }
    fold(&mut lanes, |a, b| a + b)
}

#[inline(always)]
fn add_squares<S: Simd>(s: S, x: &[f32; 16], squares: &mut [S::V; 4]) {
    for sub in 0..S::SUBS {
        let v = s.load(&x[sub * S::LANES..]);
        squares[sub] = s.fma(v, v, squares[sub]);
    }
}

/// SwiGLU (Shazeer 2020): `gate ← gate / (1 + e^(−gate)) · up`.
#[inline(always)]
pub(crate) fn silu_mul<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    let one = s.splat(1.0);
    for (gate, up) in gate.chunks_exact_mut(S::LANES).zip(up.chunks_exact(S::LANES)) {
        let g = s.load(gate);
        let e = exp(s, s.sub(s.splat(0.0), g));
        s.store(s.mul(s.div(g, s.add(one, e)), s.load(up)), gate);
    }
}

/// GeGLU (Shazeer 2020) with GELU's approximation by tanh (Hendrycks & Gimpel 2016): `gate ← gelu(gate) · up`, where
/// `gelu(x) = ½·x·(1 + tanh u) = x / (1 + e^(−2u))` and `u = √(2/π)·(x + 0.044715·x³)`.
#[inline(always)]
pub(crate) fn gelu_mul<S: Simd>(s: S, gate: &mut [f32], up: &[f32]) {
    // −2·√(2/π), and 0.044715 times that.
    let (linear, cubic) = (s.splat(-1.595_769), s.splat(-0.071_354_814));
    let one = s.splat(1.0);
    for (gate, up) in gate.chunks_exact_mut(S::LANES).zip(up.chunks_exact(S::LANES)) {
        let g = s.load(gate);
        let e = exp(s, s.mul(g, s.fma(s.mul(g, g), cubic, linear)));
        s.store(s.mul(s.div(g, s.add(one, e)), s.load(up)), gate);
    }
}

/// `x ← max(x, 0)` (Nair & Hinton 2010).
#[inline(always)]
pub(crate) fn relu<S: Simd>(s: S, x: &mut [f32]) {
    let zero = s.splat(0.0);
    for x in x.chunks_exact_mut(S::LANES) {
        let v = s.load(x);
        s.store(s.zero_if_less(v, zero, v), x);
    }
}

/// GELU (Hendrycks & Gimpel 2016): `x ← x·Φ(x)`, with the share `Φ` of a normal distribution below `x`. It is computed
/// as `max(x, 0) − |x|·Φ(−|x|)`, so that nothing is cancelled where `Φ` is small.
#[inline(always)]
pub(crate) fn gelu<S: Simd>(s: S, x: &mut [f32]) {
    let (zero, half) = (s.splat(0.0), s.splat(-0.5));
    for x in x.chunks_exact_mut(S::LANES) {
        let v = s.load(x);
        let size = s.abs(v);
        let below = s.mul(exp(s, s.mul(s.mul(v, v), half)), normal_tail(s, size));
        s.store(s.sub(s.zero_if_less(v, zero, v), s.mul(size, below)), x);
    }
}

/// `x ← cap · tanh(x / cap)` (Bello et al. 2017; Gemma 2), the quotient by the rounded inverse of `cap`.
#[inline(always)]
pub(crate) fn soft_cap<S: Simd>(s: S, x: &mut [f32], cap: f32) {
    let (cap, inverse) = (s.splat(cap), s.splat(1.0 / cap));
    for x in x.chunks_exact_mut(S::LANES) {
        s.store(s.mul(tanh(s, s.mul(s.load(x), inverse)), cap), x);
    }
}

/// `x ← x + factor · y`, rounded once.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(s: S, x: &mut [f32], y: &[f32], factor: f32) {
    let factor = s.splat(factor);
    for (x, y) in x.chunks_exact_mut(S::LANES).zip(y.chunks_exact(S::LANES)) {
        s.store(s.fma(s.load(y), factor, s.load(x)), x);
    }
}

/// `x ← x + y`.
#[inline(always)]
pub(crate) fn add<S: Simd>(s: S, x: &mut [f32], y: &[f32]) {
    for (x, y) in x.chunks_exact_mut(S::LANES).zip(y.chunks_exact(S::LANES)) {
        s.store(s.add(s.load(x), s.load(y)), x);
    }
}

/// Whether all magnitudes are below `limit`; NaN is below nothing.
#[inline(always)]
pub(crate) fn within<S: Simd>(s: S, x: &[f32], limit: f32) -> bool {
    let (one, limits) = (s.splat(1.0), s.splat(limit));
    let (whole, rest) = x.as_chunks::<16>();
    let mut beyond = [s.splat(0.0); 4];
    for x in whole {
        for sub in 0..S::SUBS {
            let v = s.abs(s.load(&x[sub * S::LANES..]));
            beyond[sub] = s.add(beyond[sub], s.zero_if_less(v, limits, one));
        }
    }
    let mut lanes = [0.0; 16];
    for sub in 0..S::SUBS {
        s.store(beyond[sub], &mut lanes[sub * S::LANES..]);
    }
    lanes.iter().all(|&count| count == 0.0) && rest.iter().all(|x| x.abs() < limit)
}

/// RoPE (Su et al. 2021) on interleaved pairs: `(a, b) ← (a·cos − b·sin, a·sin + b·cos)`, then `· scale`.
///
/// `x` is heads × head_dim; `angles` holds (cos, sin) for each of the first pairs of a head, the rest stays as it is.
/// Products and sums are rounded one by one, so any vectorisation by the compiler gives the same bits.
#[inline(always)]
pub(crate) fn rope(x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
    for head in x.chunks_exact_mut(head_dim) {
        for (pair, &[cos, sin]) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
            let [a, b] = *pair;
            *pair = [a * cos - b * sin, a * sin + b * cos];
        }
        for x in head {
            *x *= scale;
        }
    }
}

/// RoPE on pairs half a turned part apart: element `i` of a head turns with element `i + angles.len()`. Otherwise as
/// [`rope`]: the first 2 · angles of each head turn, and the whole head takes the factor.
#[inline(always)]
pub(crate) fn rope_halves(x: &mut [f32], head_dim: usize, angles: &[[f32; 2]], scale: f32) {
    for head in x.chunks_exact_mut(head_dim) {
        let (first, rest) = head.split_at_mut(angles.len());
        for ((a, b), &[cos, sin]) in first.iter_mut().zip(rest).zip(angles) {
            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        }
        for x in head {
            *x *= scale;
        }
    }
}

/// Quantises up to eight rows, `stride` apart in `x`, to the form of `quipu_quant::activations`.
#[inline(always)]
pub(crate) fn quantize<S: Gemm>(s: S, x: &[f32], stride: usize, tile: &mut Tile) {
    let rows = tile.rows;
    let in_pairs = S::PAIRS_ROWS && rows == TILE_ROWS;
    tile.resize_more(in_pairs, S::WIDE && rows >= S::ADDED_TILE.min(TILE_ROWS));
    for r in 0..rows {
        let row = &x[r * stride..];
        for (b, x) in row.as_chunks::<32>().0.iter().take(tile.blocks).enumerate() {
            let d = s.largest(x) / 127.0;
            if d < f32::MIN_POSITIVE {
                tile.put(b, r, [0; 32], 0.0, [0; 2], in_pairs);
                continue;
            }
            let (bytes, halves) = s.round_block(x, 1.0 / d);
            tile.put(b, r, bytes, d, halves, in_pairs);
        }
    }
}

/// Hadamard's matrix times parts of `x`, as long as the largest power of two that divides `head_dim`, over its square
/// root: `(a, b) ← (a + b, a − b)` for elements 1, 2, 4, … apart, then one multiplication.
#[inline(always)]
pub(crate) fn hadamard(x: &mut [f32], head_dim: usize) {
    let n = 1 << head_dim.trailing_zeros();
    let scale = (1.0 / (n as f64).sqrt()) as f32;
    for part in x.chunks_exact_mut(n) {
        let mut apart = 1;
        while apart < n {
            for both in part.chunks_exact_mut(2 * apart) {
                let (left, right) = both.split_at_mut(apart);
                for (a, b) in left.iter_mut().zip(right) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            apart *= 2;
        }
        part.iter_mut().for_each(|x| *x *= scale);
    }
}
