//! Full tiles: eight rows of activations, which is where the time of a prompt goes.
//!
//! The generic kernel takes a block for all sixteen output rows, so its sums do not fit into the registers. These go through all
//! columns with four output rows: eight lines of codes, one sum for each row of activations, and room to multiply in.
//!
//! Expanded codes ([`store_codes`]) are values already, without an offset, and stand in the order in which they are read.

use std::arch::aarch64::*;

use crate::activations::{TILE_ROWS, Tile};
use crate::matrix::MatMut;
use crate::ops::matmul_quant::{Codes, Scaling, offset};
use crate::ops::scales::GroupScales;
use crate::simd::{LINE, Simd};

use super::vectors::{Arm, Products};

/// The values of four output rows × 32 columns.
pub(crate) type Operands = [int8x16_t; 8];

/// Bytes of [`Operands`].
const PART: usize = 128;

/// Codes without their offset.
#[inline(always)]
fn values(lines: &[uint8x16_t; 8], offset: i32) -> Operands {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
    unsafe {
        let mut values = [vdupq_n_s8(0); 8];
        for j in 0..8 {
            values[j] = vreinterpretq_s8_u8(vsubq_u8(lines[j], vdupq_n_u8(offset as u8)));
        }
        values
    }
}

/// Stores part `sub` of block `block` in `codes`, which has room for all blocks: first all blocks of part 0.
#[inline(always)]
pub(super) fn store_codes<P: Products>(
    lines: &[uint8x16_t; 8],
    offset: i32,
    codes: &mut [u8],
    block: usize,
    sub: usize,
) {
    let blocks = codes.len() / (8 * LINE);
    let part: &mut [u8; PART] = codes[PART * (sub * blocks + block)..].first_chunk_mut().expect("room for the part");
    let operands = P::operands(values(lines, offset));
    for j in 0..8 {
        // SAFETY: `part` is 128 writable bytes.
        unsafe { vst1q_s8(part[16 * j..].as_mut_ptr().cast(), operands[j]) };
    }
}

/// Part `sub` of block `block` of `blocks`.
#[inline(always)]
pub(super) fn operands<P: Products, C: Codes, K: Scaling>(
    cpu: Arm<P>,
    codes: &[u8],
    blocks: usize,
    block: usize,
    sub: usize,
) -> Operands {
    if !C::EXPANDED {
        let lines = C::lines(cpu, &codes[C::BYTES * block..][..C::BYTES], sub);
        return P::operands(values(&lines, const { offset::<Arm<P>, C, K>() }));
    }
    let part: &[u8; PART] = codes[PART * (sub * blocks + block)..].first_chunk().expect("the part");
    // SAFETY: `part` is 128 readable bytes; NEON is part of every AArch64 target of this crate.
    unsafe {
        let mut operands = [vdupq_n_s8(0); 8];
        for j in 0..8 {
            operands[j] = vld1q_s8(part[16 * j..].as_ptr().cast());
        }
        operands
    }
}

/// The largest magnitude of a value.
pub(super) const fn magnitude<C: Codes, K: Scaling>() -> i32 {
    match C::BITS {
        _ if K::MIN => (1 << C::BITS) - 1,
        bits => 1 << (bits - 1),
    }
}

/// Panics unless the operands fit together: what makes the loops below free of surprises.
#[inline(always)]
pub(super) fn check<C: Codes, K: Scaling>(codes: &[u8], scales: &GroupScales, tile: &Tile) {
    let blocks = tile.blocks;
    assert!(tile.rows == TILE_ROWS && tile.q.len() == blocks * TILE_ROWS && tile.d.len() == blocks * TILE_ROWS);
    assert!(!K::MIN || tile.weighted.len() == blocks * TILE_ROWS);
    assert!(codes.len() == blocks * C::BYTES && scales.d.len() == blocks);
    assert!((!K::MIN || scales.m.len() == blocks) && (!K::HALVES || scales.halves.len() == blocks));
}

/// Products by rows of activations.
pub(super) trait RowProducts: Products {
    /// The exact sum over the columns of `values`, `acts` having as many, as f32; no value has a magnitude above `max`.
    ///
    /// # Safety
    /// `cpu` says what the CPU has; it must be enabled where this is inlined.
    unsafe fn exact<const N: usize>(cpu: Arm<Self>, values: &[int8x16_t; N], acts: &[i8], max: i32) -> float32x4_t;
}

/// One group of 16 outputs for a full tile.
///
/// # Safety
/// As [`RowProducts::exact`].
#[inline(always)]
pub(super) unsafe fn by_rows<P: RowProducts, C: Codes, K: Scaling>(
    cpu: Arm<P>,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    check::<C, K>(codes, scales, tile);
    let blocks = tile.blocks;
    for sub in 0..4 {
        let mut acc = [cpu.splat(0.0); TILE_ROWS];
        for b in 0..blocks {
            let values = operands::<P, C, K>(cpu, codes, blocks, b, sub);
            let dw = cpu.load(&scales.d[b][4 * sub..]);
            let [d0, d1] = eight(cpu, &tile.d[TILE_ROWS * b..]);
            macro_rules! row {
                ($m:literal, $lane:literal, $d:ident) => {
                    let acts = &tile.q[TILE_ROWS * b + $m];
                    // SAFETY: NEON is part of every AArch64 target of this crate; the rest is for the caller to see to.
                    unsafe {
                        let max = const { magnitude::<C, K>() };
                        let sum = if K::HALVES {
                            let [first, second] = &scales.halves[b];
                            let (low, high) = (values.first_chunk::<4>(), values.last_chunk::<4>());
                            let (Some(low), Some(high)) = (low, high) else { unreachable!("eight lines") };
                            scaled_halves(
                                P::exact::<4>(cpu, low, &acts[..16], max),
                                P::exact::<4>(cpu, high, &acts[16..], max),
                                cpu.to_f32(cpu.load_i32(&first[4 * sub..])),
                                cpu.to_f32(cpu.load_i32(&second[4 * sub..])),
                            )
                        } else {
                            P::exact::<8>(cpu, &values, acts, max)
                        };
                        acc[$m] = vfmaq_f32(acc[$m], vmulq_laneq_f32::<$lane>(dw, $d), sum);
                    }
                };
            }
            row!(0, 0, d0);
            row!(1, 1, d0);
            row!(2, 2, d0);
            row!(3, 3, d0);
            row!(4, 0, d1);
            row!(5, 1, d1);
            row!(6, 2, d1);
            row!(7, 3, d1);
            if K::MIN {
                let mw = cpu.load(&scales.m[b][4 * sub..]);
                let [w0, w1] = eight(cpu, &tile.weighted[TILE_ROWS * b..]);
                // SAFETY: as above.
                unsafe {
                    acc[0] = vfmaq_laneq_f32::<0>(acc[0], mw, w0);
                    acc[1] = vfmaq_laneq_f32::<1>(acc[1], mw, w0);
                    acc[2] = vfmaq_laneq_f32::<2>(acc[2], mw, w0);
                    acc[3] = vfmaq_laneq_f32::<3>(acc[3], mw, w0);
                    acc[4] = vfmaq_laneq_f32::<0>(acc[4], mw, w1);
                    acc[5] = vfmaq_laneq_f32::<1>(acc[5], mw, w1);
                    acc[6] = vfmaq_laneq_f32::<2>(acc[6], mw, w1);
                    acc[7] = vfmaq_laneq_f32::<3>(acc[7], mw, w1);
                }
            }
        }
        for m in 0..TILE_ROWS {
            cpu.store(acc[m], &mut out.row(m)[4 * sub..]);
        }
    }
}

/// One number for each row of a tile.
#[inline(always)]
fn eight<P: Products>(cpu: Arm<P>, x: &[f32]) -> [float32x4_t; 2] {
    let x: &[f32; TILE_ROWS] = x.first_chunk().expect("a number per row");
    [cpu.load(x), cpu.load(&x[4..])]
}

/// `s0 · scale0 + s1 · scale1`. All are integers and the result is at most 2²⁴ (see `quipu_quant::dot`), so nothing is rounded, and
/// f32 is faster here than i32, whose products fewer pipes have.
///
/// # Safety
/// None but that of NEON.
#[inline(always)]
pub(super) unsafe fn scaled_halves(
    s0: float32x4_t,
    s1: float32x4_t,
    scale0: float32x4_t,
    scale1: float32x4_t,
) -> float32x4_t {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values.
    unsafe { vfmaq_f32(vmulq_f32(s1, scale1), s0, scale0) }
}

/// 1.5 · 2²³: the f32 from here to 2²⁴ are 1 apart, so an integer of magnitude up to 2²² that is added to the bits of this number
/// is added to its value.
pub(super) const MAGIC: f32 = 12_582_912.0;
const _: () = assert!(32 * 128 * 127 <= 1 << 22);

/// The bits of [`MAGIC`] in all lanes, for an integer sum to start from. Read from memory each time, since the pipes that load have
/// time and those that could copy a register are the ones that multiply.
#[inline(always)]
pub(super) fn magic_bits() -> int32x4_t {
    #[repr(align(16))]
    struct Aligned([i32; 4]);
    static BITS: Aligned = Aligned([MAGIC.to_bits() as i32; 4]);
    // SAFETY: sixteen aligned readable bytes. Volatile only so that the compiler reads again.
    unsafe { std::ptr::from_ref(&BITS.0).cast::<int32x4_t>().read_volatile() }
}

/// The integer that was summed up from [`magic_bits`].
#[inline(always)]
pub(super) fn from_magic<P: Products>(cpu: Arm<P>, sum: int32x4_t) -> float32x4_t {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operand is a value.
    cpu.sub(unsafe { vreinterpretq_f32_s32(sum) }, cpu.splat(MAGIC))
}
