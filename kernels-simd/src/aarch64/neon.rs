//! ARMv8.0 without the dot product: bytes are multiplied into i16 lanes (`smull`, `smlal`) and summed there for as long as they
//! fit.
//!
//! A native vector is 4 rows × 4 columns, so an i16 accumulator of eight lanes has two rows × 4 columns, and a lane takes one
//! product of each line.

use std::arch::aarch64::*;

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

/// The largest magnitude of a code.
const fn max_code(bits: u32) -> i32 {
    match bits {
        8 => 128,
        _ => (1 << bits) - 1,
    }
}
/// Lines whose products fit one i16 lane.
const fn lines_per_i16(bits: u32) -> usize {
    match bits {
        4 | 5 => 8,
        6 => 4,
        _ => 2,
    }
}
/// Whether so many lines fit one i16 lane.
const fn fit(lines: usize, bits: u32) -> bool {
    lines as i32 * max_code(bits) * MAX_ACT <= i16::MAX as i32
}
const _: () = assert!(fit(lines_per_i16(4), 4) && fit(lines_per_i16(5), 5));
const _: () = assert!(fit(lines_per_i16(6), 6) && fit(lines_per_i16(8), 8));
/// Whether two lanes may even be added as i16.
const fn pairs_fit(bits: u32) -> bool {
    fit(2 * lines_per_i16(bits), bits)
}
const _: () = assert!(pairs_fit(4));

// SAFETY: only instructions that every AArch64 CPU has.
unsafe impl Products for Smlal {
    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(
        _: Neon,
        init: int32x4_t,
        lines: &[uint8x16_t; N],
        acts: &[i8],
    ) -> int32x4_t {
        let acts: &[[i8; 4]; N] = acts.as_chunks::<4>().0.first_chunk().expect("4 activations per line");
        // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
        unsafe {
            let (mut low, mut high) = (vdupq_n_s32(0), vdupq_n_s32(0));
            let mut sum = init;
            let mut j = 0;
            while j < N {
                // Rows 0 and 1, rows 2 and 3.
                let mut narrow = [vdupq_n_s16(0); 2];
                for l in j..(j + lines_per_i16(BITS)).min(N) {
                    let a = vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(acts[l].map(|x| x as u8))));
                    let line = vreinterpretq_s8_u8(lines[l]);
                    if l == j {
                        narrow = [vmull_s8(vget_low_s8(line), vget_low_s8(a)), vmull_high_s8(line, a)];
                    } else {
                        narrow[0] = vmlal_s8(narrow[0], vget_low_s8(line), vget_low_s8(a));
                        narrow[1] = vmlal_high_s8(narrow[1], line, a);
                    }
                }
                if pairs_fit(BITS) {
                    sum = vpadalq_s16(sum, vpaddq_s16(narrow[0], narrow[1]));
                } else {
                    low = vpadalq_s16(low, narrow[0]);
                    high = vpadalq_s16(high, narrow[1]);
                }
                j += lines_per_i16(BITS);
            }
            if !pairs_fit(BITS) {
                sum = vaddq_s32(sum, vpaddq_s32(low, high));
            }
            sum
        }
    }
}
