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
