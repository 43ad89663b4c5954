//! NEON's four lanes, the same for all AArch64 instruction sets. How these multiply bytes is in `tile`.

use std::arch::{aarch64::*, asm};
use std::marker::PhantomData;

use crate::simd::Simd;

/// A CPU that has NEON and what `P` multiplies with.
#[derive(Clone, Copy)]
pub(crate) struct Arm<P>(PhantomData<P>);

/// Bytes moved up by `up` bits, or down if that is negative. (A shift by a register would take more time and one more
/// instruction.)
#[inline(always)]
fn shifted(bytes: uint8x16_t, up: i32) -> uint8x16_t {
    // SAFETY: NEON is part of every AArch64 target of this crate; the operand is a value.
    unsafe {
        match up {
            4.. => vshlq_n_u8::<4>(bytes),
            3 => vshlq_n_u8::<3>(bytes),
            2 => vshlq_n_u8::<2>(bytes),
            1 => vshlq_n_u8::<1>(bytes),
            0 => bytes,
            -1 => vshrq_n_u8::<1>(bytes),
            -2 => vshrq_n_u8::<2>(bytes),
            -3 => vshrq_n_u8::<3>(bytes),
            -4 => vshrq_n_u8::<4>(bytes),
            -5 => vshrq_n_u8::<5>(bytes),
            -6 => vshrq_n_u8::<6>(bytes),
            _ => vshrq_n_u8::<7>(bytes),
        }
    }
}

/// Wraps intrinsics in methods.
macro_rules! ops {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: NEON is part of every AArch64 target of this crate; the operands are values, not addresses.
            unsafe { $body }
        }
    )*};
}

impl<P: Copy> Simd for Arm<P> {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    type V = float32x4_t;
    type I = int32x4_t;
    type Line = uint8x16_t;

    ops! {
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmaxq_f32(a, b);
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vminq_f32(a, b);
        abs(a: float32x4_t) -> float32x4_t = vabsq_f32(a);
        round(a: float32x4_t) -> float32x4_t = vrndnq_f32(a);
        zero_if_less(a: float32x4_t, b: float32x4_t, v: float32x4_t) -> float32x4_t =
            vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vcltq_f32(a, b)));
        scale_by_power_of_two(v: float32x4_t, n: float32x4_t) -> float32x4_t =
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(v), vshlq_n_s32::<23>(vcvtq_s32_f32(n))));
        splat_i32(x: i32) -> int32x4_t = vdupq_n_s32(x);
        add_i32(a: int32x4_t, b: int32x4_t) -> int32x4_t = vaddq_s32(a, b);
        to_f32(a: int32x4_t) -> float32x4_t = vcvtq_f32_s32(a);
        to_i32(a: float32x4_t) -> int32x4_t = vcvtq_s32_f32(a);
        low_nibbles(line: uint8x16_t) -> uint8x16_t = vandq_u8(line, vdupq_n_u8(15));
        high_nibbles(line: uint8x16_t) -> uint8x16_t = vshrq_n_u8::<4>(line);
    }

    #[inline(always)]
    unsafe fn new_unchecked() -> Arm<P> {
        Arm(PhantomData)
    }
    #[inline(always)]
    fn ask_for(self, line: *const u8) {
        // SAFETY: a prefetch may be of any address and does not fault. (The intrinsic is not stable.)
        unsafe {
            asm!(
                "prfm pldl1keep, [{line}]",
                line = in(reg) line,
                options(readonly, nostack, preserves_flags),
            );
        }
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> float32x4_t {
        let x: &[f32; 4] = x.first_chunk().expect("4 elements");
        // SAFETY: `x` is 16 readable bytes.
        unsafe { vld1q_f32(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: float32x4_t, out: &mut [f32]) {
        let out: &mut [f32; 4] = out.first_chunk_mut().expect("4 elements");
        // SAFETY: `out` is 16 writable bytes.
        unsafe { vst1q_f32(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16]) -> float32x4_t {
        let x: &[u16; 4] = x.first_chunk().expect("4 elements");
        // SAFETY: `x` is 8 readable bytes.
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x.as_ptr()))) }
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16]) -> float32x4_t {
        let x: &[u16; 4] = x.first_chunk().expect("4 elements");
        // SAFETY: `x` is 8 readable bytes.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(x.as_ptr()))) }
    }
    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> float32x4_t {
        let x: &[u8; 4] = x.first_chunk().expect("4 elements");
        // SAFETY: NEON; the operands are values.
        unsafe {
            let bytes = vreinterpret_u8_u32(vdup_n_u32(u32::from_le_bytes(*x)));
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8]) -> float32x4_t {
        let x: &[u8; 4] = x.first_chunk().expect("4 elements");
        // SAFETY: NEON; the operands are values.
        unsafe {
            let bytes = vreinterpret_s8_u32(vdup_n_u32(u32::from_le_bytes(*x)));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
        }
    }
    #[inline(always)]
    fn load_nibbles<const HIGH: bool>(self, x: &[u8]) -> float32x4_t {
        let x: &[u8; 4] = x.first_chunk().expect("4 elements");
        // SAFETY: NEON; the operands are values.
        unsafe {
            let bytes = vreinterpret_u8_u32(vdup_n_u32(u32::from_le_bytes(*x)));
            let codes = if HIGH { vshr_n_u8::<4>(bytes) } else { vand_u8(bytes, vdup_n_u8(15)) };
            let codes = vsub_s8(vreinterpret_s8_u8(codes), vdup_n_s8(8));
            vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(codes))))
        }
    }
    #[inline(always)]
    fn load_i32(self, x: &[i32]) -> int32x4_t {
        let x: &[i32; 4] = x.first_chunk().expect("4 elements");
        // SAFETY: `x` is 16 readable bytes.
        unsafe { vld1q_s32(x.as_ptr()) }
    }
    #[inline(always)]
    fn store_i32(self, v: int32x4_t, out: &mut [i32]) {
        let out: &mut [i32; 4] = out.first_chunk_mut().expect("4 elements");
        // SAFETY: `out` is 16 writable bytes.
        unsafe { vst1q_s32(out.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn line(self, bytes: &[u8], sub: usize) -> uint8x16_t {
        let part: &[u8; 16] = bytes[16 * sub..].first_chunk().expect("a line");
        // SAFETY: `part` is 16 readable bytes.
        unsafe { vld1q_u8(part.as_ptr()) }
    }
    #[inline(always)]
    fn store_line(self, line: uint8x16_t, out: &mut [u8], sub: usize) {
        let part: &mut [u8; 16] = out[16 * sub..].first_chunk_mut().expect("a line");
        // SAFETY: `part` is 16 writable bytes.
        unsafe { vst1q_u8(part.as_mut_ptr(), line) }
    }
    #[inline(always)]
    fn bits<const BITS: u32>(self, line: uint8x16_t, shift: u32) -> uint8x16_t {
        // SAFETY: NEON; the operands are values.
        unsafe { vandq_u8(shifted(line, -(shift as i32)), vdupq_n_u8((1 << BITS) - 1)) }
    }
    #[inline(always)]
    fn or_bits<const BITS: u32, const AT: u32>(self, line: uint8x16_t, high: uint8x16_t, shift: u32) -> uint8x16_t {
        // SAFETY: NEON; the operands are values.
        unsafe { vbslq_u8(vdupq_n_u8(((1 << BITS) - 1) << AT), shifted(high, AT as i32 - shift as i32), line) }
    }
    #[inline(always)]
    fn look_up(self, table: &[u8; 16], line: uint8x16_t) -> uint8x16_t {
        // SAFETY: `table` is 16 readable bytes.
        unsafe { vqtbl1q_u8(vld1q_u8(table.as_ptr()), line) }
    }
}
