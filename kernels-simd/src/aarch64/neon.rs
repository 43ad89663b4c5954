//! ARMv8.0 without the dot product: bytes are multiplied into i16 lanes (`smull`, `smlal`) and summed there for as long
//! as they fit.
//!
//! A native vector is 4 rows × 4 columns, so an i16 accumulator of eight lanes has two rows × 4 columns, and a lane
//! takes one product of each line.

use std::arch::{aarch64::*, asm};

use crate::operands::activations::Tile;
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::GroupScales;
use crate::simd::Simd;

use super::tile::{self, Block, Products, RowProducts};
use super::vectors::Arm;

/// Every AArch64 CPU.
pub(crate) type Neon = Arm<Smlal>;

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

/// i16 sums of rows 0 and 1, and of rows 2 and 3: for each row four columns.
type Narrow = [int16x8_t; 2];

/// The products of two lines with the activations `4·AT..4·AT + 8` of `acts`, summed.
///
/// In assembly, because the compiler would copy the activations of several lines before it multiplies, more than the
/// registers hold.
#[inline(always)]
fn two_lines<const AT: usize>(lines: [int8x16_t; 2], acts: int8x16_t) -> Narrow {
    let (bottom, top);
    // SAFETY: registers only, and NEON is part of every AArch64 target of this crate.
    unsafe {
        asm!(
            "dup {a:v}.4s, {acts:v}.s[{at}]",
            "dup {b:v}.4s, {acts:v}.s[{next}]",
            "smull {bottom:v}.8h, {l0:v}.8b, {a:v}.8b",
            "smull2 {top:v}.8h, {l0:v}.16b, {a:v}.16b",
            "smlal {bottom:v}.8h, {l1:v}.8b, {b:v}.8b",
            "smlal2 {top:v}.8h, {l1:v}.16b, {b:v}.16b",
            a = out(vreg) _,
            b = out(vreg) _,
            bottom = out(vreg) bottom,
            top = out(vreg) top,
            acts = in(vreg) acts,
            l0 = in(vreg) lines[0],
            l1 = in(vreg) lines[1],
            at = const AT,
            next = const AT + 1,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [bottom, top]
}

/// `sums` and the same for two more lines.
#[inline(always)]
fn two_more_lines<const AT: usize>(sums: Narrow, lines: [int8x16_t; 2], acts: int8x16_t) -> Narrow {
    let [mut bottom, mut top] = sums;
    // SAFETY: as in `two_lines`.
    unsafe {
        asm!(
            "dup {a:v}.4s, {acts:v}.s[{at}]",
            "dup {b:v}.4s, {acts:v}.s[{next}]",
            "smlal {bottom:v}.8h, {l0:v}.8b, {a:v}.8b",
            "smlal2 {top:v}.8h, {l0:v}.16b, {a:v}.16b",
            "smlal {bottom:v}.8h, {l1:v}.8b, {b:v}.8b",
            "smlal2 {top:v}.8h, {l1:v}.16b, {b:v}.16b",
            a = out(vreg) _,
            b = out(vreg) _,
            bottom = inout(vreg) bottom,
            top = inout(vreg) top,
            acts = in(vreg) acts,
            l0 = in(vreg) lines[0],
            l1 = in(vreg) lines[1],
            at = const AT,
            next = const AT + 1,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    [bottom, top]
}

/// i32 sums on the way from [`Narrow`] ones to one for each row.
#[derive(Clone, Copy)]
enum Sums {
    /// Two sums for each row: rows 0 and 1, rows 2 and 3.
    Halves([int32x4_t; 2]),
    Rows(int32x4_t),
}

/// `wide` and the sums of `narrow`, to which `lines` lines have gone; no code has a magnitude above `max`.
#[inline(always)]
fn widen(wide: Option<Sums>, narrow: Narrow, lines: usize, max: i32) -> Sums {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
    unsafe {
        let add = |sum: Option<int32x4_t>, narrow| match sum {
            None => vpaddlq_s16(narrow),
            Some(sum) => vpadalq_s16(sum, narrow),
        };
        // Where two lanes fit into one, neighbours are added before they are widened, which is once instead of twice.
        if 2 * lines <= lines_per_i16(max) {
            let pairs = vpaddq_s16(narrow[0], narrow[1]);
            return Sums::Rows(match wide {
                None => add(None, pairs),
                Some(Sums::Rows(sum)) => add(Some(sum), pairs),
                Some(Sums::Halves([low, high])) => add(Some(vpaddq_s32(low, high)), pairs),
            });
        }
        match wide {
            None => Sums::Halves([add(None, narrow[0]), add(None, narrow[1])]),
            Some(Sums::Halves([low, high])) => Sums::Halves([add(Some(low), narrow[0]), add(Some(high), narrow[1])]),
            Some(Sums::Rows(sum)) => {
                Sums::Rows(vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(narrow[0]), vpaddlq_s16(narrow[1]))))
            }
        }
    }
}

/// `wide` and the products of four lines with 16 activations each; no code has a magnitude above `max`.
#[inline(always)]
fn four_lines(wide: Option<Sums>, lines: &[int8x16_t; 4], acts: int8x16_t, max: i32) -> Sums {
    let [l0, l1, l2, l3] = *lines;
    let narrow = two_lines::<0>([l0, l1], acts);
    if lines_per_i16(max) < 4 {
        let wide = widen(wide, narrow, 2, max);
        return widen(Some(wide), two_lines::<2>([l2, l3], acts), 2, max);
    }
    widen(wide, two_more_lines::<2>(narrow, [l2, l3], acts), 4, max)
}

/// The same for eight lines.
#[inline(always)]
fn eight_lines(first: &[int8x16_t; 4], next: &[int8x16_t; 4], acts: [int8x16_t; 2], max: i32) -> Sums {
    if lines_per_i16(max) < 8 {
        return four_lines(Some(four_lines(None, first, acts[0], max)), next, acts[1], max);
    }
    let narrow = two_lines::<0>([first[0], first[1]], acts[0]);
    let narrow = two_more_lines::<2>(narrow, [first[2], first[3]], acts[0]);
    let narrow = two_more_lines::<0>(narrow, [next[0], next[1]], acts[1]);
    widen(None, two_more_lines::<2>(narrow, [next[2], next[3]], acts[1]), 8, max)
}

/// One sum for each row.
#[inline(always)]
fn rows(wide: Sums) -> int32x4_t {
    match wide {
        Sums::Rows(sum) => sum,
        // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
        Sums::Halves([low, high]) => unsafe { vpaddq_s32(low, high) },
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
        let max = if BITS == 8 { 128 } else { (1 << BITS) - 1 };
        let (acts, _) = acts.as_chunks::<16>();
        // SAFETY: NEON is part of every AArch64 target of this crate; each of `acts` is 16 readable bytes.
        unsafe {
            let mut signed = [[vdupq_n_s8(0); 4]; 2];
            for j in 0..N {
                signed[j / 4][j % 4] = vreinterpretq_s8_u8(lines[j]);
            }
            let load = |i: usize| vld1q_s8(acts[i].as_ptr());
            let sum = match N {
                4 => four_lines(None, &signed[0], load(0), max),
                _ => eight_lines(&signed[0], &signed[1], [load(0), load(1)], max),
            };
            vaddq_s32(init, rows(sum))
        }
    }

    #[inline(always)]
    unsafe fn group_tile<F: Form>(cpu: Neon, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        // SAFETY: for the caller to see to.
        unsafe { tile::by_rows::<Smlal, F>(cpu, codes, scales, tile, out) }
    }
}

impl RowProducts for Smlal {
    #[inline(always)]
    unsafe fn row<F: Form, const FROM: usize, const LANE: i32>(
        cpu: Neon,
        acc: float32x4_t,
        block: &Block<'_>,
        d: float32x4_t,
        weighted: [float32x4_t; 2],
    ) -> float32x4_t {
        let max = const { tile::magnitude::<F>() };
        let acts = &block.acts.as_flattened()[FROM..];
        let [v0, v1, v2, v3, v4, v5, v6, v7] = block.values;
        let (first, next) = ([v0, v1, v2, v3], [v4, v5, v6, v7]);
        // SAFETY: NEON is part of every AArch64 target of this crate; reads the 32 bytes of the row.
        unsafe {
            let acts = [vld1q_s8(acts[..16].as_ptr()), vld1q_s8(acts[16..32].as_ptr())];
            let mut acc = if F::SCALES == 2 {
                let exact = |lines, acts| cpu.to_f32(rows(four_lines(None, lines, acts, max)));
                let sum = vmulq_f32(exact(&first, acts[0]), block.scales[0]);
                let sum = vfmaq_f32(sum, exact(&next, acts[1]), block.scales[1]);
                vfmaq_laneq_f32::<LANE>(acc, sum, d)
            } else {
                let sum = cpu.to_f32(rows(eight_lines(&first, &next, acts, max)));
                vfmaq_f32(acc, vmulq_laneq_f32::<LANE>(block.scales[0], d), sum)
            };
            for i in 0..F::MINS {
                acc = vfmaq_laneq_f32::<LANE>(acc, block.mins[i], weighted[i]);
            }
            acc
        }
    }
}
