//! The portable instruction set: plain Rust over arrays. It defines the results of all the others.

use half::{bf16, f16};

use crate::gemm::Gemm;
use crate::operands::activations::Tile;
use crate::operands::form::Form;
use crate::operands::matrix::MatMut;
use crate::operands::scales::GroupScales;
use crate::ops::blocks;
use crate::ops::roofline::Roofline;
use crate::simd::Simd;

/// Plain Rust; every CPU has it.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 16;

/// `f` for every index. (A loop, which LLVM turns into vectors more surely than `array::from_fn`.)
#[inline(always)]
fn lanes<T: Copy + Default, const N: usize>(f: impl Fn(usize) -> T) -> [T; N] {
    let mut out = [T::default(); N];
    for (i, out) in out.iter_mut().enumerate() {
        *out = f(i);
    }
    out
}

#[inline(always)]
fn map2<T: Copy + Default>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    lanes(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;
    // One instance reads better in a profile and compiles in a fraction of the time.
    const UNROLL: bool = false;

    type V = [f32; LANES];
    type I = [i32; LANES];
    type Line = [u8; 64];

    #[inline(always)]
    unsafe fn new_unchecked() -> Portable {
        Portable
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::V {
        *x.first_chunk().expect("16 elements")
    }
    #[inline(always)]
    fn store(self, v: Self::V, out: &mut [f32]) {
        out[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16]) -> Self::V {
        lanes(|i| f16::from_bits(x[i]).to_f32())
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16]) -> Self::V {
        lanes(|i| bf16::from_bits(x[i]).to_f32())
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> Self::V {
        lanes(|i| f32::from(x[i]))
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8]) -> Self::V {
        lanes(|i| f32::from(x[i] as i8))
    }
    #[inline(always)]
    fn load_nibbles<const HIGH: bool>(self, x: &[u8]) -> Self::V {
        lanes(|i| f32::from(if HIGH { x[i] >> 4 } else { x[i] & 15 }) - 8.0)
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanes(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: Self::V) -> Self::V {
        lanes(|i| a[i].abs())
    }
    #[inline(always)]
    fn round(self, a: Self::V) -> Self::V {
        lanes(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    fn zero_if_less(self, a: Self::V, b: Self::V, v: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { 0.0 } else { v[i] })
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, v: Self::V, n: Self::V) -> Self::V {
        map2(v, n, |v, n| f32::from_bits(v.to_bits().wrapping_add((n as i32 as u32) << 23)))
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> Self::I {
        *x.first_chunk().expect("16 elements")
    }
    #[inline(always)]
    fn store_i32(self, v: Self::I, out: &mut [i32]) {
        out[..LANES].copy_from_slice(&v);
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        map2(a, b, |a, b| a.wrapping_add(b))
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::V {
        lanes(|i| a[i] as f32)
    }
    #[inline(always)]
    fn to_i32(self, a: Self::V) -> Self::I {
        lanes(|i| a[i] as i32)
    }

    #[inline(always)]
    fn line(self, bytes: &[u8], _sub: usize) -> Self::Line {
        *bytes.first_chunk().expect("a line")
    }
    #[inline(always)]
    fn store_line(self, line: Self::Line, out: &mut [u8], _sub: usize) {
        out[..64].copy_from_slice(&line);
    }
    #[inline(always)]
    fn low_nibbles(self, line: Self::Line) -> Self::Line {
        lanes(|i| line[i] & 15)
    }
    #[inline(always)]
    fn high_nibbles(self, line: Self::Line) -> Self::Line {
        lanes(|i| line[i] >> 4)
    }
    #[inline(always)]
    fn bits<const BITS: u32>(self, line: Self::Line, shift: u32) -> Self::Line {
        lanes(|i| line[i] >> shift & ((1 << BITS) - 1))
    }
    #[inline(always)]
    fn or_bits<const BITS: u32, const AT: u32>(self, line: Self::Line, high: Self::Line, shift: u32) -> Self::Line {
        lanes(|i| line[i] | (high[i] >> shift & ((1 << BITS) - 1)) << AT)
    }
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], line: Self::Line) -> Self::Line {
        lanes(|i| table[usize::from(line[i]) % 16])
    }
}

impl Gemm for Portable {
    const BYTE_OFFSET: i32 = 0;

    #[inline(always)]
    fn bytes(self, line: Self::Line) -> Self::Line {
        line
    }
    #[inline(always)]
    fn dot<const N: usize, const BITS: u32>(self, init: Self::I, lines: &[Self::Line; N], acts: &[i8]) -> Self::I {
        dot_lines(init, lines, acts, BITS == 8)
    }
    #[inline(always)]
    fn group_tile<F: Form>(self, codes: &[u8], scales: &GroupScales, tile: &Tile, out: &mut MatMut<'_>) {
        blocks::group_tile::<Self, F>(self, codes, scales, tile, out);
    }
}

impl Roofline for Portable {}

/// See [`Gemm::dot`]; out of line, since unrolling it everywhere costs more compile time than it gains.
#[inline(never)]
fn dot_lines(init: [i32; LANES], lines: &[[u8; 64]], acts: &[i8], signed: bool) -> [i32; LANES] {
    let mut acc = init;
    for (line, acts) in lines.iter().zip(acts.as_chunks::<4>().0) {
        for row in 0..LANES {
            for i in 0..4 {
                let code = line[4 * row + i];
                let code = if signed { i32::from(code as i8) } else { i32::from(code) };
                acc[row] += code * i32::from(acts[i]);
            }
        }
    }
    acc
}
