//! Scores of a few queries with keys in few bits: to the bit what `matmul_quant` gives, but all positions of a segment
//! in one function. A head has few columns, so a function for each row group would cost as much as its arithmetic.

use std::marker::PhantomData;
use std::ops::Range;

use quipu_quant::TensorType;

use crate::call::{Call, Kernel};
use crate::gemm::{Codes, Gemm, offset, start};
use crate::operands::activations::Tile;
use crate::operands::form::{Form, Scaled};
use crate::operands::matrix::Weights;
use crate::simd::{LINE, u16s};

use super::attention::SEGMENT;
use super::codes::{Packed4, Packed8};

/// Bytes of the scales of a block of sixteen rows.
const SCALES: usize = 32;

/// All row groups that have one of `positions`, times a tile of `R` rows.
struct Scores<'a, 'o, C, F, const R: usize> {
    keys: &'a Weights<'a>,
    positions: Range<usize>,
    tile: &'a Tile,
    ahead: usize,
    out: &'o mut [[f32; SEGMENT]],
    ty: PhantomData<(C, F)>,
}

/// Part `sub` of the sums of a row group, of which `codes` and `scales` are all blocks.
#[inline(always)]
fn part<S: Gemm, C: Codes, F: Form, const R: usize>(
    s: S,
    codes: &[u8],
    scales: &[u8],
    tile: &Tile,
    sub: usize,
    ahead: usize,
    sums: [&mut [f32]; R],
) {
    let offset = const { offset::<S, F>() };
    let mut acc = [s.splat(0.0); R];
    let acts = tile.q.chunks_exact(R).zip(tile.d.chunks_exact(R)).zip(tile.minus.chunks_exact(R));
    let blocks = codes.chunks_exact(C::BYTES).zip(scales.chunks_exact(SCALES));
    for ((codes, scales), ((q, d), minus)) in blocks.zip(acts) {
        if sub == 0 {
            for line in 0..C::BYTES / LINE {
                s.prefetch(&codes[line * LINE..], ahead);
            }
        }
        let lines = C::lines(s, codes, sub);
        let scale = s.load_f16(&u16s(scales)[sub * S::LANES..]);
        for r in 0..R {
            let start = start::<S, F>(s, minus[r], offset);
            let sum = match F::BITS {
                4 => s.dot::<8, 4>(start, &lines, &q[r]),
                _ => s.dot::<8, 8>(start, &lines, &q[r]),
            };
            acc[r] = s.fma(s.mul(scale, s.splat(d[r])), s.to_f32(sum), acc[r]);
        }
    }
    for r in 0..R {
        s.store(acc[r], &mut sums[r][sub * S::LANES..]);
    }
}

impl<S: Gemm, C: Codes, F: Form, const R: usize> Kernel<S> for Scores<'_, '_, C, F, R> {
    #[inline(always)]
    fn run(self, s: S) {
        let Scores { keys, positions, tile, ahead, out, .. } = self;
        assert!(tile.rows == R && tile.q.len() == tile.blocks * R && out.len() >= R);
        let (out, _) = out.as_chunks_mut::<R>();
        for g in positions.start / 16..positions.end.div_ceil(16) {
            let (codes, scales) = keys.group(g);
            macro_rules! part {
                ($sub:literal) => {
                    if $sub < S::SUBS {
                        let sums = out[0].each_mut().map(|row| &mut row[16 * g..]);
                        part::<S, C, F, R>(s, codes, scales, tile, $sub, ahead, sums);
                    }
                };
            }
            part!(0);
            part!(1);
            part!(2);
            part!(3);
        }
    }
}

/// Scores of the rows of `tile` with `positions` of `keys`, which are Q8_0 or Q4_0, into as many rows of `out`; whole
/// groups of 16 positions. Returns whether there is a kernel for so many rows.
#[inline(always)]
pub(crate) fn scores<S: Gemm + Call>(
    s: S,
    keys: &Weights<'_>,
    positions: Range<usize>,
    tile: &Tile,
    ahead: usize,
    out: &mut [[f32; SEGMENT]],
) -> bool {
    macro_rules! rows {
        ($rows:literal) => {
            match keys.ty() {
                TensorType::Q8_0 => rows!($rows, Packed8, Scaled<8>),
                _ => rows!($rows, Packed4, Scaled<4>),
            }
        };
        ($rows:literal, $codes:ty, $form:ty) => {{
            let ty = PhantomData::<($codes, $form)>;
            s.attend(Scores::<$codes, $form, $rows> { keys, positions, tile, ahead, out, ty });
            true
        }};
    }
    match tile.rows {
        _ if !S::UNROLL => false,
        1 => rows!(1),
        2 => rows!(2),
        3 => rows!(3),
        4 => rows!(4),
        _ => false,
    }
}
