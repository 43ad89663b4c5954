//! Q2_K and Q3_K by search: what [`super_block`](super::super_block) does, for groups of 16.
//!
//! With so few bits the least squared error is not all that counts. Values found by least squares are a projection of
//! the weights, hence shorter than the weights, by as much as the relative error: a tenth for Q2_K. So all outputs are
//! smaller than they should be, and that does not average out as the rest of the error does.
//! What helps is measured in `docs/quantisation.md`.

use half::f16;

use super::block::{Effort, Search, set_nearest_codes, weighted_error};
use super::fit::Codes;
use super::super_block::{Groups, scales, scales_and_mins};
use crate::blocks::{Block, BlockQ2_K, BlockQ3_K};

impl Search for BlockQ2_K {
    const COUNT_BY_SIZE: bool = false;

    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
        let found = scales_and_mins::<16, 16>(&Groups::new(x, w), Self::CODES, 15.0, effort);
        let mut block: Self = bytemuck::Zeroable::zeroed();
        (block.d, block.dmin) = (found.d, found.dmin);
        for (to, (scale, min)) in block.scales.iter_mut().zip(found.scales.iter().zip(found.mins)) {
            *to = *scale as u8 | (min as u8) << 4;
        }
        set_nearest_codes(&mut block, x);
        lengthen(&mut block, x, w);
        block
    }
}

/// Scales the block so that its values, weighed like the squared errors, have the weights as their projection: `Σ
/// w·x·value = Σ w·x²`.
fn lengthen(block: &mut BlockQ2_K, x: &[f32], w: &[f32]) {
    /// Only blocks of which hardly anything is left would need a larger factor.
    const MOST: f32 = 1.25;
    let mut values = [0.0; 256];
    block.dequantize(&mut values);
    let (mut xx, mut xv) = (0.0, 0.0);
    for ((x, w), v) in x.iter().zip(w).zip(values) {
        xx += w * x * x;
        xv += w * x * v;
    }
    let factor = xx / xv;
    if (1.0..MOST).contains(&factor) {
        block.d = f16::from_f32(block.d.to_f32() * factor);
        block.dmin = f16::from_f32(block.dmin.to_f32() * factor);
    }
}

/// What the scale that fits Q3_K's weights best is multiplied by, before codes are rounded anew: fewer of the large
/// weights are cut off then.
const WIDER: f32 = 1.02;

/// The squared error that this may cost, as a multiple of the least. Weights that fit exactly stay as they are.
const DEARER: f64 = 1.1;

impl Search for BlockQ3_K {
    const COUNT_BY_SIZE: bool = false;

    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
        let (d, scales) = scales::<16, 16>(&Groups::new(x, w), Self::CODES, Codes { lo: -32.0, hi: 31.0 }, effort);
        let mut block: Self = bytemuck::Zeroable::zeroed();
        block.d = d;
        for (i, scale) in scales.into_iter().enumerate() {
            let scale = (scale as i8 + 32) as u8;
            block.scales[i % 8] |= (scale & 0x0f) << (4 * (i / 8));
            block.scales[8 + i % 4] |= scale >> 4 << (2 * (i / 4));
        }
        let mut wider = block;
        wider.d = f16::from_f32(d.to_f32() * WIDER);
        set_nearest_codes(&mut block, x);
        set_nearest_codes(&mut wider, x);
        if weighted_error(&wider, x, w) <= DEARER * weighted_error(&block, x, w) { wider } else { block }
    }
}
