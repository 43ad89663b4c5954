//! The vocabulary of the generic kernels: one native vector and what can be done with it.
//!
//! The kernels in [`crate::ops`] are written once over this trait. Sixteen *lanes* (see the design) are `16 / LANES`
//! native vectors, so one source gives the same sums in the same order on every instruction set; an implementation only
//! says how wide its vectors are and which instruction does what.
//!
//! A value of an implementing type is the proof that this CPU has the instructions: it can be had only from a
//! constructor that checked. All methods are `inline(always)` and end up inside the `#[target_feature]` functions of
//! the ISA's table.

use crate::activations::{TILE_ROWS, Tile};
use crate::matrix::MatMut;
use crate::ops::elementwise;
use crate::ops::form::Form;
use crate::ops::matmul_quant;
use crate::ops::roof::{self, Int8Loop};
use crate::ops::scales::GroupScales;

/// A 32-byte run of activations against which eight lines of weights are multiplied.
pub(crate) type ActBlock = [i8; 32];

/// Four activations as one 32-bit lane.
///
/// Like the other helpers here it is spelled out: `array::map` and `from_fn` are functions of the standard library that
/// LLVM may leave out of line, and then they run without the ISA's features in the middle of the hottest loop.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn four(acts: &[i8; 4]) -> i32 {
    i32::from_le_bytes([acts[0] as u8, acts[1] as u8, acts[2] as u8, acts[3] as u8])
}

/// The sixteen 16-bit numbers at the head of `bytes`.
#[inline(always)]
pub(crate) fn u16s(bytes: &[u8]) -> [u16; 16] {
    let bytes: &[u8; 32] = bytes.first_chunk().expect("16 numbers");
    let mut out = [0; 16];
    for i in 0..16 {
        out[i] = u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
    }
    out
}

/// Bytes of one line: 16 output rows × 4 consecutive columns.
pub(crate) const LINE: usize = 64;

/// Work for [`Simd::call`].
pub(crate) trait Kernel {
    /// Does it; always inlined.
    fn run<S: Simd>(self, s: S);
}

/// [`Simd::call`] for the instruction set of `$cpu`, whose features are `$features`.
macro_rules! call_with {
    ($cpu:ty, $features:literal) => {
        #[inline(always)]
        fn call<K: Kernel>(cpu: $cpu, kernel: K) {
            #[target_feature(enable = $features)]
            #[inline(never)]
            fn call<K: Kernel>(cpu: $cpu, kernel: K) {
                kernel.run(cpu);
            }
            // SAFETY: `cpu` exists, so this CPU has the features.
            unsafe { call(cpu, kernel) }
        }
    };
}
pub(crate) use call_with;

/// One instruction set, seen as vectors of [`Simd::LANES`] 32-bit lanes.
pub(crate) trait Simd: Copy {
    /// 32-bit lanes of a native vector: 4, 8 or 16.
    const LANES: usize;
    /// Native vectors that make the design's sixteen lanes.
    const SUBS: usize = 16 / Self::LANES;
    /// Vector registers.
    const REGISTERS: usize;
    /// Whether it pays to have kernels for each common number of rows.
    const UNROLL: bool = true;
    /// Rows of a full tile: a power of two, [`TILE_ROWS`] or more.
    const FULL_TILE: usize = TILE_ROWS;
    /// What [`Simd::bytes`] adds to signed bytes to make codes for [`Simd::dot`].
    const BYTE_OFFSET: i32;

    /// `LANES` f32.
    type V: Copy;
    /// `LANES` i32.
    type I: Copy;
    /// A native vector's part of a line: `LANES` rows × 4 columns of codes.
    type Line: Copy;

    fn splat(self, x: f32) -> Self::V;
    /// The first `LANES` elements of `x`.
    fn load(self, x: &[f32]) -> Self::V;
    fn store(self, v: Self::V, out: &mut [f32]);
    /// The first `LANES` binary16 numbers of `x`, exactly.
    fn load_f16(self, x: &[u16]) -> Self::V;
    /// The first `LANES` bfloat16 numbers of `x`, exactly.
    fn load_bf16(self, x: &[u16]) -> Self::V;
    /// The first `LANES` bytes of `x`.
    fn load_u8(self, x: &[u8]) -> Self::V;
    /// The first `LANES` bytes of `x`, signed.
    fn load_i8(self, x: &[u8]) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of two finite numbers.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of two finite numbers.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `a < b ? 0 : v`, lane by lane.
    fn zero_if_less(self, a: Self::V, b: Self::V, v: Self::V) -> Self::V;
    /// `v · 2^n` for integral `n` with a normal result.
    fn scale_by_power_of_two(self, v: Self::V, n: Self::V) -> Self::V;

    fn splat_i32(self, x: i32) -> Self::I;
    /// `x · 2^by` in all lanes, for an `x` that comes from memory and a constant `by`; nothing is lost where that is
    /// negative.
    #[inline(always)]
    fn splat_shifted(self, x: i32, by: i32) -> Self::I {
        self.splat_i32(if by < 0 { x >> -by } else { x << by })
    }
    fn load_i32(self, x: &[i32]) -> Self::I;
    fn store_i32(self, v: Self::I, out: &mut [i32]);
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    /// To f32, rounded to nearest even.
    fn to_f32(self, a: Self::I) -> Self::V;
    /// Integral f32 to i32.
    fn to_i32(self, a: Self::V) -> Self::I;

    /// The largest magnitude of finite numbers.
    #[inline(always)]
    fn largest(self, x: &[f32; 32]) -> f32 {
        elementwise::largest(self, x)
    }
    /// `x · scale`, rounded to the nearest integer, ties to even, and at most 127 in magnitude; and the sums of both
    /// halves.
    #[inline(always)]
    fn round_block(self, x: &[f32; 32], scale: f32) -> (ActBlock, [i32; 2]) {
        elementwise::round_block(self, x, scale)
    }

    /// Part `sub` of the line at the head of `bytes`.
    fn line(self, bytes: &[u8], sub: usize) -> Self::Line;
    /// Stores part `sub` of a line.
    fn store_line(self, line: Self::Line, out: &mut [u8], sub: usize);
    /// `line & 15`, byte by byte.
    fn low_nibbles(self, line: Self::Line) -> Self::Line;
    /// `line >> 4`, byte by byte.
    fn high_nibbles(self, line: Self::Line) -> Self::Line;
    /// The `BITS` bits from position `shift` of each byte, alone.
    fn bits<const BITS: u32>(self, line: Self::Line, shift: u32) -> Self::Line;
    /// The `BITS` bits from position `shift` of each byte of `high`, put at bit `AT` of `line`, where that has zeros.
    fn or_bits<const BITS: u32, const AT: u32>(self, line: Self::Line, high: Self::Line, shift: u32) -> Self::Line;
    /// What the table has for each byte, all of them below 16.
    fn look_up(self, table: &[u8; 16], line: Self::Line) -> Self::Line;
    /// Signed bytes as codes for [`Simd::dot`] with `BITS = 8`: every byte plus [`Simd::BYTE_OFFSET`].
    fn bytes(self, line: Self::Line) -> Self::Line;

    /// `init + Σ` over lines `j` and bytes `i` of `lines[j][row][i] · acts[4j + i]`, per row. The codes are unsigned
    /// and below `2^BITS`; for `BITS = 8` they are what [`Simd::bytes`] made. `N` is 8 or 4 and `acts` has `4 N`
    /// elements.
    fn dot<const N: usize, const BITS: u32>(self, init: Self::I, lines: &[Self::Line; N], acts: &[i8]) -> Self::I;

    /// Whether quantised activations of a full tile stand in pairs of rows: see [`Tile::put`].
    const PAIRS_ROWS: bool = false;

    /// Whether full tiles have activations in 16 bits, too ([`Wide`](crate::activations::Wide)), and codes of 8 bits
    /// are widened to 16 for them by [`Simd::store_codes`].
    const WIDE: bool = false;

    /// Stores part `sub` of the lines of block `block`, which are codes of the form `F`, in `codes`, which has room for
    /// all blocks of a group, for [`Simd::group_tile`].
    #[inline(always)]
    fn store_codes<F: Form>(self, lines: &[Self::Line; 8], codes: &mut [u8], block: usize, sub: usize) {
        let codes = &mut codes[8 * LINE * block..][..8 * LINE];
        for j in 0..8 {
            self.store_line(lines[j], &mut codes[LINE * j..], sub);
        }
    }

    /// One group of 16 outputs for tiles of [`Simd::FULL_TILE`] rows where those are more than [`TILE_ROWS`]: their
    /// rows are those of `out`. `codes` are as [`Simd::store_codes`] stored them.
    #[inline(always)]
    fn large_tiles<F: Form>(self, codes: &[u8], scales: &GroupScales, tiles: &[Tile], out: &mut MatMut<'_>) {
        let _ = (codes, scales, tiles, out);
        unreachable!("no tile is larger than a full one");
    }

    /// Does `kernel` in a function of its own that is compiled for this instruction set. All else is inlined into the
    /// functions of the table; products have dozens of kernels, and LLVM takes far more time for one function with all
    /// of them than for each alone.
    fn call<K: Kernel>(self, kernel: K);

    /// [`roof::int8`], or a loop of what is faster.
    #[inline(always)]
    fn int8_loop(self, bits: u32, how: Int8Loop, rounds: usize) -> u64 {
        roof::int8(self, bits, how, rounds)
    }

    /// [`matmul_quant::group_tile`], or a kernel of this instruction set with the same result.
    #[inline(always)]
    fn group_tile<F: Form>(self, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        matmul_quant::group_tile::<Self, F>(self, codes, scales, tile, out);
    }
}
