//! F32, F16 and BF16 as bytes.

use half::{bf16, f16};

use crate::types::TensorType;

/// Little-endian values of float type `ty` to f32; the lengths fit together.
pub(super) fn decode(ty: TensorType, src: &[u8], dst: &mut [f32]) {
    match ty {
        TensorType::F32 => convert(src, dst, f32::from_le_bytes),
        TensorType::F16 => convert(src, dst, |b| f16::from_le_bytes(b).to_f32()),
        _ => convert(src, dst, |b| bf16::from_le_bytes(b).to_f32()),
    }
}

/// f32 to little-endian values of float type `ty`, rounded to nearest, ties to even; the lengths fit together.
pub(super) fn encode(ty: TensorType, src: &[f32], dst: &mut [u8]) {
    fn convert<const N: usize>(src: &[f32], dst: &mut [u8], f: impl Fn(f32) -> [u8; N]) {
        for (&x, bytes) in src.iter().zip(dst.as_chunks_mut().0) {
            *bytes = f(x);
        }
    }
    match ty {
        TensorType::F32 => convert(src, dst, f32::to_le_bytes),
        TensorType::F16 => convert(src, dst, |x| f16::from_f32(x).to_le_bytes()),
        _ => convert(src, dst, |x| bf16::from_f32(x).to_le_bytes()),
    }
}

fn convert<const N: usize>(src: &[u8], dst: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    for (&bytes, x) in src.as_chunks().0.iter().zip(dst) {
        *x = f(bytes);
    }
}

/// Whether no little-endian value of float type `ty` is NaN or infinite.
pub(crate) fn all_finite(ty: TensorType, src: &[u8]) -> bool {
    // All ones in the exponent are NaN or infinity. Without an early exit this is one pass at full speed.
    fn halves(src: &[u8], exponent: u16) -> bool {
        src.as_chunks().0.iter().fold(true, |all, &half| all & (u16::from_le_bytes(half) & exponent != exponent))
    }
    match ty {
        TensorType::F32 => src.as_chunks().0.iter().fold(true, |all, &x| all & f32::from_le_bytes(x).is_finite()),
        TensorType::F16 => halves(src, 0x7c00),
        _ => halves(src, 0x7f80),
    }
}
