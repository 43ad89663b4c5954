//! From codes and scales to blocks that have kernels.
//!
//! A code `c` becomes `q = (c + offset) / step`, a whole number for most types. Then `d · group · c` is `(step · d) ·
//! group · q − (offset · d) · group`: Q4_K with the same number as scale and minimum of a group, or Q6_K where there is
//! no offset.

use bytemuck::bytes_of;
use half::f16;

use super::block::{LARGEST, Scales, write_values};
use crate::blocks::{self, Block, BlockQ4_0, BlockQ4_K, BlockQ6_K, BlockTQ2_0, SUB};
use crate::search::pack_6_bits;
use crate::types::{StoredType, TensorType};

/// How a type is recoded.
#[allow(non_camel_case_types)]
enum Way {
    /// Codes from −1 to 2, no groups.
    TQ2_0,
    /// Codes from `−offset` to `15·step − offset`, groups of 32 with scales up to 63.
    Q4_K { step: f32, offset: f32 },
    /// Codes from `−32·step` to `31·step`, groups of 16 with scales up to 127.
    Q6_K { step: f32 },
    /// Codes from −8 to 7, no groups.
    Q4_0,
    /// The values are rounded by ggml's plain rule.
    Q8_0,
}

impl Way {
    const fn of(ty: StoredType) -> Way {
        use StoredType::*;
        match ty {
            // −9, −7, −1, 1, 7, 9.
            IQ1_S => Way::Q4_K { step: 2.0, offset: 9.0 },
            // Odd numbers up to 15.
            IQ3_S => Way::Q4_K { step: 2.0, offset: 15.0 },
            TQ1_0 => Way::TQ2_0,
            IQ1_M => Way::Q6_K { step: 1.0 },
            // Multiples of 4 up to 52, and 62.
            IQ3_XXS => Way::Q6_K { step: 2.0 },
            // 5, 16 and 27 for 8, 25 and 43, which loses least of all codes up to 31 on real matrices (with their
            // scales; 8 is the most common).
            IQ2_XXS | IQ2_XS | IQ2_S => Way::Q6_K { step: 1.581 },
            Q1_0 | Q2_0 => Way::Q4_0,
            // The scales of neighbouring groups have no small whole numbers in common.
            NVFP4 => Way::Q8_0,
        }
    }

    const fn target(&self) -> TensorType {
        match self {
            Way::TQ2_0 => TensorType::TQ2_0,
            Way::Q4_K { .. } => TensorType::Q4_K,
            Way::Q6_K { .. } => TensorType::Q6_K,
            Way::Q4_0 => TensorType::Q4_0,
            Way::Q8_0 => TensorType::Q8_0,
        }
    }
}

/// What is made here is what the table of types says.
const _: () = {
    let mut i = 0;
    while i < StoredType::ALL.len() {
        let ty = StoredType::ALL[i];
        assert!(Way::of(ty).target().id() == ty.runs_as().id());
        i += 1;
    }
};

/// Writes one block's weights as blocks of type `ty.runs_as()`.
pub(super) fn recode(ty: StoredType, scales: &Scales, codes: &[i8], out: &mut [u8]) {
    match Way::of(ty) {
        Way::TQ2_0 => out.copy_from_slice(bytes_of(&tq2_0(scales, codes))),
        Way::Q4_K { step, offset } => out.copy_from_slice(bytes_of(&q4_k(scales, codes, step, offset))),
        Way::Q6_K { step } => out.copy_from_slice(bytes_of(&q6_k(scales, codes, step))),
        Way::Q4_0 => blocks_of_32(codes, out, BlockQ4_0 { d: f16::from_f32(scales.d), qs: [0; 16] }),
        Way::Q8_0 => {
            let mut values = [0.0; LARGEST];
            let values = &mut values[..codes.len()];
            write_values(scales, codes, values);
            blocks::quantize(TensorType::Q8_0, values, out).expect("whole blocks of a type that has a plain rule");
        }
    }
}

fn tq2_0(scales: &Scales, codes: &[i8]) -> BlockTQ2_0 {
    let mut block = BlockTQ2_0 { qs: [0; 64], d: f16::from_f32(scales.d) };
    for (sub, codes) in codes.as_chunks::<SUB>().0.iter().enumerate() {
        block.set_codes(sub, &codes.map(|c| (c as u8).wrapping_add(BlockTQ2_0::ZERO)));
    }
    block
}

fn q4_k(scales: &Scales, codes: &[i8], step: f32, offset: f32) -> BlockQ4_K {
    let of_32 = std::array::from_fn(|sub| scales.groups[2 * sub] as f32);
    let mut block = BlockQ4_K {
        d: f16::from_f32(step * scales.d),
        dmin: f16::from_f32(offset * scales.d),
        scales: pack_6_bits(&of_32, &of_32),
        qs: [0; 128],
    };
    for (sub, codes) in codes.as_chunks::<SUB>().0.iter().enumerate() {
        block.set_codes(sub, &codes.map(|c| ((f32::from(c) + offset) / step).round() as u8));
    }
    block
}

fn q6_k(scales: &Scales, codes: &[i8], step: f32) -> BlockQ6_K {
    let d = f16::from_f32(step * scales.d);
    let mut block = BlockQ6_K { ql: [0; 128], qh: [0; 64], scales: scales.groups.map(|g| g as i8), d };
    for (sub, codes) in codes.as_chunks::<SUB>().0.iter().enumerate() {
        block.set_codes(sub, &codes.map(|c| ((f32::from(c) / step).round() as i8 as u8).wrapping_add(BlockQ6_K::ZERO)));
    }
    block
}

/// Blocks of 32 that take the codes as they are, and everything else from `block`.
fn blocks_of_32<B: Block>(codes: &[i8], out: &mut [u8], mut block: B) {
    for (codes, out) in codes.as_chunks::<SUB>().0.iter().zip(out.chunks_exact_mut(size_of::<B>())) {
        block.set_codes(0, &codes.map(|c| (c as u8).wrapping_add(B::ZERO)));
        out.copy_from_slice(bytes_of(&block));
    }
}
