//! Q2_K and Q3_K by search: what [`super_block`](super::super_block) does, for groups of 16.

use super::fit::Codes;
use super::super_block::{Groups, scales, scales_and_mins};
use super::{Search, set_nearest_codes};
use crate::blocks::{BlockQ2_K, BlockQ3_K};

impl Search for BlockQ2_K {
    const COUNT_BY_SIZE: bool = false;

    fn search(x: &[f32], w: &[f32]) -> Self {
        let found = scales_and_mins::<16, 16>(&Groups::new(x, w), Self::CODES, 15.0);
        let mut block: Self = bytemuck::Zeroable::zeroed();
        (block.d, block.dmin) = (found.d, found.dmin);
        for (to, (scale, min)) in block.scales.iter_mut().zip(found.scales.iter().zip(found.mins)) {
            *to = *scale as u8 | (min as u8) << 4;
        }
        set_nearest_codes(&mut block, x);
        block
    }
}

impl Search for BlockQ3_K {
    const COUNT_BY_SIZE: bool = false;

    fn search(x: &[f32], w: &[f32]) -> Self {
        let (d, scales) = scales::<16, 16>(&Groups::new(x, w), Self::CODES, Codes { lo: -32.0, hi: 31.0 });
        let mut block: Self = bytemuck::Zeroable::zeroed();
        block.d = d;
        for (i, scale) in scales.into_iter().enumerate() {
            let scale = (scale as i8 + 32) as u8;
            block.scales[i % 8] |= (scale & 0x0f) << (4 * (i / 8));
            block.scales[8 + i % 4] |= scale >> 4 << (2 * (i / 4));
        }
        set_nearest_codes(&mut block, x);
        block
    }
}
