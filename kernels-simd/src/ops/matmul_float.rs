//! F32, F16 and BF16 weights × f32 activations: `acc ← fma(w_k, x_k, acc)`, `k` ascending, lanes are output rows.

use quipu_quant::TensorType;

use crate::operands::matrix::{MatMut, Weights};
use crate::simd::{Simd, u16s};

/// One number type of weights, 16 rows wide.
trait Element {
    const BYTES: usize;
    /// `LANES` weights from position `at` of the 16 at the head of `bytes`.
    fn load<S: Simd>(s: S, bytes: &[u8], at: usize) -> S::V;
}

struct Single;
impl Element for Single {
    const BYTES: usize = 4;
    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8], at: usize) -> S::V {
        let bytes: &[u8; 64] = bytes.first_chunk().expect("16 numbers");
        let mut x = [0.0; 16];
        for i in 0..16 {
            x[i] = f32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
        }
        s.load(&x[at..])
    }
}

struct Half;
impl Element for Half {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8], at: usize) -> S::V {
        s.load_f16(&u16s(bytes)[at..])
    }
}

struct Brain;
impl Element for Brain {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Simd>(s: S, bytes: &[u8], at: usize) -> S::V {
        s.load_bf16(&u16s(bytes)[at..])
    }
}

/// Groups `GROUPS` × rows `M` at once: as many independent chains as hide the latency of an fma.
#[inline(always)]
fn block<S: Simd, E: Element, const GROUPS: usize, const M: usize>(
    s: S,
    quants: [&[u8]; GROUPS],
    x: [&[f32]; M],
    out: &mut MatMut<'_>,
) {
    let cols = x[0].len();
    assert!(x.iter().all(|x| x.len() == cols) && quants.iter().all(|q| q.len() == cols * 16 * E::BYTES));
    for sub in 0..S::SUBS {
        let at = sub * S::LANES;
        let mut acc = [[s.splat(0.0); M]; GROUPS];
        for k in 0..cols {
            let mut xk = [s.splat(0.0); M];
            for m in 0..M {
                xk[m] = s.splat(x[m][k]);
            }
            for g in 0..GROUPS {
                let w = E::load(s, &quants[g][k * 16 * E::BYTES..], at);
                for m in 0..M {
                    acc[g][m] = s.fma(w, xk[m], acc[g][m]);
                }
            }
        }
        for m in 0..M {
            let row = out.row(m);
            for g in 0..GROUPS {
                s.store(acc[g][m], &mut row[16 * g + at..]);
            }
        }
    }
}

#[inline(always)]
fn groups<S: Simd, E: Element, const GROUPS: usize>(
    s: S,
    quants: [&[u8]; GROUPS],
    x: &[f32],
    stride: usize,
    cols: usize,
    out: &mut MatMut<'_>,
    col: usize,
) {
    let row = |r: usize| &x[r * stride..][..cols];
    let rows = out.rows();
    let mut r = 0;
    while r < rows {
        let tile = if rows - r >= 4 { 4 } else { 1 };
        let mut out = out.part(r..r + tile, col..col + 16 * GROUPS);
        if tile == 4 {
            block::<S, E, GROUPS, 4>(s, quants, std::array::from_fn(|m| row(r + m)), &mut out);
        } else {
            block::<S, E, GROUPS, 1>(s, quants, [row(r)], &mut out);
        }
        r += tile;
    }
}

#[inline(always)]
fn matmul_of<S: Simd, E: Element>(
    s: S,
    w: &Weights<'_>,
    range: std::ops::Range<usize>,
    x: &[f32],
    stride: usize,
    out: &mut MatMut<'_>,
) {
    let cols = w.cols();
    let (mut g, mut col) = (range.start, 0);
    while g < range.end {
        if range.end - g >= 4 {
            groups::<S, E, 4>(s, std::array::from_fn(|i| w.group(g + i).0), x, stride, cols, out, col);
            g += 4;
            col += 64;
        } else {
            groups::<S, E, 1>(s, [w.group(g).0], x, stride, cols, out, col);
            g += 1;
            col += 16;
        }
    }
}

/// `out[row][16·i + lane] = weights[16·(groups.start + i) + lane] · x[row]` for float weights; rows of `x` are `stride`
/// apart.
#[inline(always)]
pub(crate) fn matmul<S: Simd>(
    s: S,
    w: &Weights<'_>,
    groups: std::ops::Range<usize>,
    x: &[f32],
    stride: usize,
    out: &mut MatMut<'_>,
) {
    match w.ty() {
        TensorType::F32 => matmul_of::<S, Single>(s, w, groups, x, stride, out),
        TensorType::F16 => matmul_of::<S, Half>(s, w, groups, x, stride, out),
        TensorType::BF16 => matmul_of::<S, Brain>(s, w, groups, x, stride, out),
        _ => unreachable!("quantised weights go through matmul_quant"),
    }
}
