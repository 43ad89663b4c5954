//! ARMv8.0 without the dot product: bytes are multiplied into i16 lanes (`smull`, `smlal`) and summed there for as long as they
//! fit.
//!
//! A native vector is 4 rows × 4 columns, so an i16 accumulator of eight lanes has two rows × 4 columns, and a lane takes one
//! product of each line.

use std::arch::aarch64::*;

use crate::activations::{TILE_ROWS, Tile};
use crate::matrix::MatMut;
use crate::ops::matmul_quant::{self, Codes, Scaling};
use crate::ops::scales::GroupScales;
use crate::simd::Simd;

use super::tile::{self, RowProducts};
use super::vectors::{Arm, Products};

/// Every AArch64 CPU.
pub(crate) type Neon = Arm<Smlal>;

impl Neon {
    /// The proof: always there.
    pub(crate) fn detect() -> Option<Neon> {
        Arm::when(true)
    }
}

/// Multiplication by `smull` and `smlal`.
#[derive(Clone, Copy)]
pub(crate) struct Smlal;

/// The largest magnitude of a quantised activation.
const MAX_ACT: i32 = 127;

/// Lines whose products fit one i16 lane when no code has a magnitude above `max`.
const fn lines_per_i16(max: i32) -> usize {
    (i16::MAX as i32 / (max * MAX_ACT)) as usize
}
// Eight lines of 4 and 5 bits, four of 6 bits, two of signed bytes; as signed values even eight of 6 bits.
const _: () = assert!(lines_per_i16(15) >= 8 && lines_per_i16(31) >= 8 && lines_per_i16(63) >= 4);
const _: () = assert!(lines_per_i16(128) == 2 && lines_per_i16(32) >= 8);

/// `init + Σ` over lines `j` and bytes `i` of `lines[j][row][i] · acts[4j + i]`, per row; no code has a magnitude above `max`.
#[inline(always)]
fn sum<const N: usize>(init: Option<int32x4_t>, lines: &[int8x16_t; N], acts: &[i8], max: i32) -> int32x4_t {
    let run = lines_per_i16(max).min(N);
    // Whether two lanes may even be added as i16.
    let pairs_fit = lines_per_i16(max) >= 2 * run;
    let acts: &[[i8; 16]] = &acts.as_chunks().0[..N / 4];
    // SAFETY: NEON is part of every AArch64 target of this crate; `acts` are readable bytes.
    unsafe {
        let mut splat = [vdupq_n_s8(0); N];
        for (acts, splat) in acts.iter().zip(splat.as_chunks_mut::<4>().0) {
            let acts = vreinterpretq_s32_s8(vld1q_s8(acts.as_ptr()));
            splat[0] = vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(acts));
            splat[1] = vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(acts));
            splat[2] = vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(acts));
            splat[3] = vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(acts));
        }
        let widen = |sum: Option<int32x4_t>, narrow| match sum {
            None => vpaddlq_s16(narrow),
            Some(sum) => vpadalq_s16(sum, narrow),
        };
        let (mut sum, mut low, mut high) = (init, None, None);
        let mut j = 0;
        while j < N {
            // Rows 0 and 1, rows 2 and 3.
            let mut top = vmull_high_s8(lines[j], splat[j]);
            let mut bottom = vmull_s8(vget_low_s8(lines[j]), vget_low_s8(splat[j]));
            for l in j + 1..j + run {
                top = vmlal_high_s8(top, lines[l], splat[l]);
                bottom = vmlal_s8(bottom, vget_low_s8(lines[l]), vget_low_s8(splat[l]));
            }
            if pairs_fit {
                sum = Some(widen(sum, vpaddq_s16(bottom, top)));
            } else {
                low = Some(widen(low, bottom));
                high = Some(widen(high, top));
            }
            j += run;
        }
        match (low, high, sum) {
            (Some(low), Some(high), None) => vpaddq_s32(low, high),
            (Some(low), Some(high), Some(sum)) => vaddq_s32(sum, vpaddq_s32(low, high)),
            (_, _, sum) => sum.unwrap_or(vdupq_n_s32(0)),
        }
    }
}

impl Products for Smlal {
    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(
        _: Neon,
        init: int32x4_t,
        lines: &[uint8x16_t; N],
        acts: &[i8],
    ) -> int32x4_t {
        // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
        let mut signed = [unsafe { vdupq_n_s8(0) }; N];
        for j in 0..N {
            // SAFETY: as above.
            signed[j] = unsafe { vreinterpretq_s8_u8(lines[j]) };
        }
        sum(Some(init), &signed, acts, if BITS == 8 { 128 } else { (1 << BITS) - 1 })
    }

    #[inline(never)]
    fn group_tile<C: Codes, K: Scaling, const M: usize>(
        cpu: Neon,
        codes: &[u8],
        scales: &GroupScales,
        tile: &Tile,
        out: &mut MatMut<'_>,
    ) {
        if M == TILE_ROWS {
            // SAFETY: nothing but NEON is needed.
            unsafe { tile::by_rows::<Smlal, C, K>(cpu, codes, scales, tile, out) }
        } else {
            matmul_quant::group_tile::<Neon, C, K, M>(cpu, codes, scales, tile, out);
        }
    }
}

impl RowProducts for Smlal {
    #[inline(always)]
    unsafe fn exact<const N: usize>(cpu: Neon, values: &[int8x16_t; N], acts: &[i8], max: i32) -> float32x4_t {
        cpu.to_f32(sum(None, values, acts, max))
    }
}
