//! TQ2_0 and MXFP4 by search: a single scale for 256 weights of three levels, and a power of two.

use half::f16;

use super::block::{Effort, Search, set_nearest_codes};
use super::fit::{Codes, Grid, Group};
use crate::blocks::{BlockMXFP4, BlockTQ2_0, E2M1_DOUBLED, SUB};

/// Where the search starts: values that the code of the weight farthest from zero may take before it is cut off. 1 fits
/// weights that have three levels already, 2 and more such that have none.
const STARTS: [f32; 7] = [0.8, 1.0, 1.4, 1.8, 2.3, 3.0, 4.0];

impl Search for BlockTQ2_0 {
    const COUNT_BY_SIZE: bool = false;
    // A fourth level is left alone: models of three levels are made for kernels that know no other.
    const CODES: Codes = Codes { lo: -1.0, hi: 1.0 };

    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
        let all = |v| <&[f32; 256]>::try_from(v).expect("a block of 256");
        let fit = Group { x: all(x), w: all(w) }.best_scale(Self::CODES, &STARTS, effort.steps());
        let mut block = BlockTQ2_0 { qs: [0; 64], d: f16::from_f32(fit.d) };
        if effort == Effort::Full {
            set_nearest_codes(&mut block, x);
        }
        block
    }
}

/// [`E2M1_DOUBLED`].
#[derive(Clone, Copy)]
struct Values;

/// The largest of them.
const LARGEST: f32 = 12.0;

impl Grid for Values {
    fn lo(self) -> f32 {
        -LARGEST
    }

    fn hi(self) -> f32 {
        LARGEST
    }

    /// The values are multiples of 1 up to 4, of 2 up to 8 and of 4 up to 12.
    #[inline(always)]
    fn nearest(self, v: f32) -> f32 {
        let size = v.abs();
        let size = if size < LARGEST { size } else { LARGEST };
        let step = if size < 4.0 {
            1.0
        } else if size < 8.0 {
            2.0
        } else {
            4.0
        };
        let integers = Codes { lo: 0.0, hi: 4.0 };
        (step * integers.nearest(size / step)).copysign(v)
    }
}

/// The code of a value: that of its size, and 8 for those below zero.
const fn code(value: i8) -> u8 {
    let mut code = 0;
    while code < 8 && E2M1_DOUBLED[code as usize] != value.abs() {
        code += 1;
    }
    if value < 0 { code + 8 } else { code }
}

/// [`code`] of the values from −12 to 12.
const CODE_OF: [u8; 25] = {
    let mut table = [0; 25];
    let mut i = 0;
    while i < table.len() {
        table[i] = code(i as i8 - LARGEST as i8) % 16;
        i += 1;
    }
    table
};

impl Search for BlockMXFP4 {
    const COUNT_BY_SIZE: bool = true;

    fn nearest(v: f32) -> f32 {
        Values.nearest(v)
    }

    fn code(q: f32) -> u8 {
        CODE_OF[(q + LARGEST) as usize % CODE_OF.len()]
    }

    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
        /// Powers of two that are tried, counted from the one under which the largest weight is from 8 to below 16, as
        /// ggml takes it.
        const STEPS: std::ops::RangeInclusive<i32> = -1..=2;
        let first = |v| <&[f32; SUB]>::try_from(v).expect("a block of 32");
        let group = Group { x: first(x), w: first(w) };
        let largest = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let exponent = (largest.to_bits() >> 23) as i32 - 127;
        let (mut best, mut least) = (BlockMXFP4 { e: 0, qs: [0; 16] }, f32::INFINITY);
        for step in STEPS {
            let e = (exponent - 3 + step + 128).clamp(0, 254);
            let error = group.error(2_f32.powi(e - 128), 0.0, Values);
            if error < least {
                (best.e, least) = (e as u8, error);
            }
        }
        if effort == Effort::Full {
            set_nearest_codes(&mut best, x);
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::Block;

    #[test]
    fn no_value_is_nearer() {
        for i in -1600..1600 {
            let v = i as f32 / 100.0 + 0.003;
            let least = E2M1_DOUBLED.iter().map(|&q| (f32::from(q) - v).abs()).fold(f32::INFINITY, f32::min);
            assert_eq!((Values.nearest(v) - v).abs(), least, "{v}: {}", Values.nearest(v));
        }
        for q in E2M1_DOUBLED {
            assert_eq!(BlockMXFP4::value(BlockMXFP4::code(f32::from(q))), q);
        }
        assert_eq!((Values.nearest(f32::INFINITY), Values.nearest(f32::NEG_INFINITY)), (LARGEST, -LARGEST));
        assert!(E2M1_DOUBLED.contains(&(Values.nearest(f32::NAN) as i8)));
    }
}
