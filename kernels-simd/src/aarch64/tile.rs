//! Products of the AArch64 instruction sets, which differ in how they multiply bytes ([`Products`]); above all full
//! tiles: eight rows of activations, which is where the time of a prompt goes.
//!
//! The generic kernel takes a block for all sixteen output rows, so its sums do not fit into the registers. These go
//! through all columns with four output rows: eight lines of codes, one sum for each row of activations, and room to
//! multiply in.
//!
//! Their codes ([`store_codes`]) are values already, without an offset, and stand in the order in which they are read.

use std::arch::{aarch64::*, asm};

use crate::gemm::{Gemm, offset};
use crate::operands::activations::{TILE_ROWS, Tile};
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::{GroupScales, RowScales};
use crate::ops::roofline::Roofline;
use crate::simd::{ActBlock, LINE, Simd};

use super::vectors::Arm;

/// How an instruction set multiplies codes by activations.
pub(crate) trait Products: Copy {
    /// See [`Gemm::PAIRS_ROWS`].
    const PAIRS_ROWS: bool = false;

    /// See [`Gemm::dot`].
    fn dot<const N: usize, const BITS: u32>(
        cpu: Arm<Self>,
        init: int32x4_t,
        lines: &[uint8x16_t; N],
        acts: &[i8],
    ) -> int32x4_t;

    /// Four rows of a block as the kernel of full tiles multiplies them.
    #[inline(always)]
    fn operands(lines: Operands) -> Operands {
        lines
    }

    /// See [`Gemm::group_tile`].
    ///
    /// # Safety
    /// What `cpu` stands for is enabled where this is inlined.
    unsafe fn group_tile<F: Form>(
        cpu: Arm<Self>,
        codes: &[u8],
        scales: &GroupScales,
        tile: &Tile,
        out: &mut MatMut<'_>,
    );
}

impl<P: Products> Gemm for Arm<P> {
    const PAIRS_ROWS: bool = P::PAIRS_ROWS;
    // The byte products of all three sets are of signed numbers.
    const BYTE_OFFSET: i32 = 0;

    #[inline(always)]
    fn bytes(self, line: uint8x16_t) -> uint8x16_t {
        line
    }
    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(self, init: int32x4_t, lines: &[uint8x16_t; N], acts: &[i8]) -> int32x4_t {
        P::dot::<N, BITS>(self, init, lines, acts)
    }
    #[inline(always)]
    fn store_codes<F: Form>(self, lines: &[uint8x16_t; 8], codes: &mut [u8], block: usize, sub: usize) {
        store_codes::<P>(lines, const { offset::<Self, F>() }, codes, block, sub);
    }
    #[inline(always)]
    fn group_tile<F: Form>(self, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        // SAFETY: an `Arm<P>` exists, so this CPU has the instructions; kernels are inlined where they are enabled.
        unsafe { P::group_tile::<F>(self, codes, scales, tile, out) };
    }
}

impl<P: Products> Roofline for Arm<P> {}

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
fn store_codes<P: Products>(lines: &[uint8x16_t; 8], offset: i32, codes: &mut [u8], block: usize, sub: usize) {
    let blocks = codes.len() / (8 * LINE);
    let part: &mut [u8; PART] = codes[PART * (sub * blocks + block)..].first_chunk_mut().expect("room for the part");
    let operands = P::operands(values(lines, offset));
    for j in 0..8 {
        // SAFETY: `part` is 128 writable bytes.
        unsafe { vst1q_s8(part[16 * j..].as_mut_ptr().cast(), operands[j]) };
    }
}

/// What a kernel of full tiles reads, for four output rows.
///
/// All slices are as long as there are blocks, so the compiler sees that no index is outside.
pub(super) struct Blocks<'a> {
    values: &'a [[u8; PART]],
    acts: &'a [[ActBlock; TILE_ROWS]],
    d: &'a [[f32; TILE_ROWS]],
    /// For each block as many as there are minima, like `mins`.
    weighted: &'a [[f32; TILE_ROWS]],
    /// For each block as many as there are scales.
    scales: &'a [RowScales],
    mins: &'a [RowScales],
    sub: usize,
}

/// One of [`Blocks`]. What a type does not have is a copy of something else.
pub(super) struct Block<'a> {
    /// The values of the weights.
    pub(super) values: Operands,
    /// 32 activations for each row.
    pub(super) acts: &'a [ActBlock; TILE_ROWS],
    /// A scale for each row of activations.
    pub(super) d: [float32x4_t; 2],
    /// For each minimum and row of activations what that is multiplied by.
    pub(super) weighted: [[float32x4_t; 2]; 2],
    /// The scales of the weights: one, or one for each half of the block.
    pub(super) scales: [float32x4_t; 2],
    /// Their minima: one, or one for each half of the block.
    pub(super) mins: [float32x4_t; 2],
    /// The first half's scale times `-`[`MAGIC`], exactly: takes off what a sum that is [`MAGIC`] too large adds to a
    /// product with that scale. In memory, to be loaded for each row, since a copy of a register would take a pipe that
    /// multiplies. (An infinite scale, which only a broken file has, makes this NaN, where decoding and other
    /// instruction sets may have an infinity; and −0 becomes +0, which sums swallow.)
    pub(super) cancel: &'a float32x4_t,
    /// [`MAGIC`].
    pub(super) magic: float32x4_t,
}

impl<'a> Blocks<'a> {
    /// Part `sub` of all blocks of a group, and a full tile.
    ///
    /// # Panics
    /// When the operands do not fit together.
    #[inline(always)]
    pub(super) fn new<F: Form>(codes: &'a [u8], scales: &'a GroupScales, tile: &'a Tile, sub: usize) -> Blocks<'a> {
        let n = tile.blocks;
        assert!(sub < 4 && codes.len() == n * 8 * LINE);
        let (acts, rest) = tile.q.as_chunks();
        assert!(tile.rows == TILE_ROWS && rest.is_empty() && acts.len() == n);
        Blocks {
            values: &codes.as_chunks().0[sub * n..][..n],
            acts: &acts[..n],
            d: &tile.d.as_chunks().0[..n],
            weighted: &tile.weighted::<F>().as_chunks().0[..F::MINS * n],
            scales: &scales.d[..F::SCALES * n],
            mins: &scales.m[..F::MINS * n],
            sub,
        }
    }

    /// How many there are.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.acts.len()
    }

    /// Block `b`; `cancel` is the memory for [`Block::cancel`].
    #[inline(always)]
    pub(super) fn block<'b, P: Products, F: Form>(
        &'b self,
        cpu: Arm<P>,
        b: usize,
        cancel: &'b mut float32x4_t,
    ) -> Block<'b> {
        let rows = |x: &RowScales| cpu.load(&x.as_chunks::<4>().0[self.sub]);
        let acts_rows = |x: &[f32; TILE_ROWS]| [cpu.load(x), cpu.load(&x[4..])];
        let d = acts_rows(&self.d[b]);
        let mut scales = [rows(&self.scales[F::SCALES * b]); 2];
        if F::SCALES == 2 {
            scales[1] = rows(&self.scales[2 * b + 1]);
            *cancel = cpu.mul(scales[0], cpu.splat(-MAGIC));
        }
        let (mut weighted, mut mins) = ([d; 2], scales);
        for i in 0..F::MINS {
            weighted[i] = acts_rows(&self.weighted[F::MINS * b + i]);
            mins[i] = rows(&self.mins[F::MINS * b + i]);
        }
        Block {
            values: self.values(b),
            acts: &self.acts[b],
            d,
            weighted,
            scales,
            mins,
            cancel,
            magic: cpu.splat(MAGIC),
        }
    }

    #[inline(always)]
    fn values(&self, b: usize) -> Operands {
        let part: &[u8; PART] = &self.values[b];
        let (v0, v1, v2, v3, v4, v5, v6, v7);
        // SAFETY: reads the 128 bytes of `part`.
        unsafe {
            // Pairs of registers would be loaded with fewer instructions, but that takes a Cortex-A76 more slots.
            asm!(
                "ldur {v0:q}, [{part}]",
                "ldur {v1:q}, [{part}, #16]",
                "ldur {v2:q}, [{part}, #32]",
                "ldur {v3:q}, [{part}, #48]",
                "ldur {v4:q}, [{part}, #64]",
                "ldur {v5:q}, [{part}, #80]",
                "ldur {v6:q}, [{part}, #96]",
                "ldur {v7:q}, [{part}, #112]",
                part = in(reg) part.as_ptr(),
                v0 = out(vreg) v0,
                v1 = out(vreg) v1,
                v2 = out(vreg) v2,
                v3 = out(vreg) v3,
                v4 = out(vreg) v4,
                v5 = out(vreg) v5,
                v6 = out(vreg) v6,
                v7 = out(vreg) v7,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        [v0, v1, v2, v3, v4, v5, v6, v7]
    }
}

/// The largest magnitude of a value.
pub(super) const fn magnitude<F: Form>() -> i32 {
    match F::BITS {
        _ if F::MINS > 0 => (1 << F::BITS) - 1,
        bits => 1 << (bits - 1),
    }
}

/// Products by rows of activations.
pub(super) trait RowProducts: Products {
    /// `acc` and the products of `block` for the row of activations that begins at byte `FROM` and whose numbers are
    /// `LANE` in `d` and, for each minimum, `weighted`.
    ///
    /// # Safety
    /// What `cpu` stands for is enabled where this is inlined.
    unsafe fn row<F: Form, const FROM: usize, const LANE: i32>(
        cpu: Arm<Self>,
        acc: float32x4_t,
        block: &Block<'_>,
        d: float32x4_t,
        weighted: [float32x4_t; 2],
    ) -> float32x4_t;
}

/// One group of 16 outputs for a full tile.
///
/// # Safety
/// As [`RowProducts::row`].
#[inline(always)]
pub(super) unsafe fn by_rows<P: RowProducts, F: Form>(
    cpu: Arm<P>,
    codes: &[u8],
    scales: &GroupScales,
    tile: &Tile,
    out: &mut MatMut<'_>,
) {
    for sub in 0..4 {
        let blocks = Blocks::new::<F>(codes, scales, tile, sub);
        let mut acc = [cpu.splat(0.0); TILE_ROWS];
        let mut cancel = cpu.splat(0.0);
        for b in 0..blocks.len() {
            let x = blocks.block::<P, F>(cpu, b, &mut cancel);
            macro_rules! row {
                ($m:literal, $lane:literal) => {
                    let (d, weighted) = (x.d[$m / 4], [x.weighted[0][$m / 4], x.weighted[1][$m / 4]]);
                    // SAFETY: for the caller to see to.
                    acc[$m] = unsafe { P::row::<F, { 32 * $m }, $lane>(cpu, acc[$m], &x, d, weighted) };
                };
            }
            row!(0, 0);
            row!(1, 1);
            row!(2, 2);
            row!(3, 3);
            row!(4, 0);
            row!(5, 1);
            row!(6, 2);
            row!(7, 3);
        }
        for m in 0..TILE_ROWS {
            cpu.store(acc[m], &mut out.row(m)[4 * sub..]);
        }
    }
}

/// 1.5 · 2²³: the f32 from 2²³ to 2²⁴ are 1 apart, so an integer of magnitude up to 2²² that is added to the bits of
/// this number is added to its value.
const MAGIC: f32 = 12_582_912.0;
const _: () = assert!(32 * 128 * 127 <= 1 << 22);

/// Sixteen bytes that begin a register.
#[repr(align(16))]
pub(super) struct Aligned(#[expect(dead_code, reason = "read through a pointer")] [i32; 4]);

/// The bits of [`MAGIC`] in all lanes, for an integer sum to start from. Loaded each time, since the pipes that load
/// have time and those that could copy a register are the ones that multiply.
pub(super) static MAGIC_BITS: Aligned = Aligned([MAGIC.to_bits() as i32; 4]);

/// The integer that was summed up from [`MAGIC_BITS`].
#[inline(always)]
pub(super) fn from_magic<P: Products>(cpu: Arm<P>, sum: int32x4_t) -> float32x4_t {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operand is a value.
    cpu.sub(unsafe { vreinterpretq_f32_s32(sum) }, cpu.splat(MAGIC))
}
