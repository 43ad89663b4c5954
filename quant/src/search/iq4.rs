//! IQ4_NL and IQ4_XS by search: the same fits, over values that are not evenly spaced.

use half::f16;

use super::block::{Effort, Search, set_nearest_codes};
use super::block32;
use super::fit::{Codes, Grid, Group};
use super::super_block::{Groups, scales};
use crate::blocks::{BlockIQ4_NL, BlockIQ4_XS, IQ4_VALUES, SUB};

/// [`IQ4_VALUES`].
#[derive(Clone, Copy)]
pub(crate) struct Values;

const LO: f32 = IQ4_VALUES[0] as f32;
const HI: f32 = IQ4_VALUES[15] as f32;

/// Entry `i` is the code whose value is nearest to the numbers in the half-open interval `i/2..(i+1)/2`, counted from
/// the least value. The midpoints between neighbouring values are multiples of 1/2, so one code is nearest to all of an
/// interval.
const NEAREST: [u8; 512] = {
    let mut table = [0; 512];
    let mut i = 0;
    while i < 512 {
        let mut code = 0;
        while code < 15 {
            // Twice the border between this value and the next, less twice the least value.
            let border = IQ4_VALUES[code] as i32 + IQ4_VALUES[code + 1] as i32 - 2 * IQ4_VALUES[0] as i32;
            if (i as i32) < border {
                break;
            }
            code += 1;
        }
        table[i] = code as u8;
        i += 1;
    }
    table
};

/// The code whose value is nearest to `v`.
#[inline(always)]
fn nearest_code(v: f32) -> u8 {
    /// An f32 from 2²³ on has its integer part in its lowest bits; those of this one are zero.
    const INTEGERS: f32 = 12_582_912.0;
    let v = if v > LO { v } else { LO };
    let v = if v < HI { v } else { HI };
    // Half units from the least value, less the half that makes rounding to nearest rounding down.
    let half_units = ((2.0 * v - (2.0 * LO + 0.5)) + INTEGERS).to_bits();
    NEAREST[half_units as usize % NEAREST.len()]
}

impl Grid for Values {
    fn lo(self) -> f32 {
        LO
    }

    fn hi(self) -> f32 {
        HI
    }

    #[inline(always)]
    fn nearest(self, v: f32) -> f32 {
        f32::from(IQ4_VALUES[usize::from(nearest_code(v))])
    }
}

impl Search for BlockIQ4_NL {
    const COUNT_BY_SIZE: bool = true;

    fn nearest(v: f32) -> f32 {
        Values.nearest(v)
    }

    fn code(q: f32) -> u8 {
        nearest_code(q)
    }

    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
        let first = |v| <&[f32; SUB]>::try_from(v).expect("a block of 32");
        let fractions = block32::fractions(effort);
        let mut starts = [0.0; 2 * block32::FRACTIONS.len()];
        for (i, fraction) in fractions.iter().enumerate() {
            (starts[2 * i], starts[2 * i + 1]) = (fraction * LO, fraction * HI);
        }
        let mut block: Self = bytemuck::Zeroable::zeroed();
        let group = Group { x: first(x), w: first(w) };
        block.d = f16::from_f32(group.best_scale(Values, &starts[..2 * fractions.len()], effort.steps()).d);
        if effort == Effort::Full {
            set_nearest_codes(&mut block, x);
        }
        block
    }
}

impl Search for BlockIQ4_XS {
    const COUNT_BY_SIZE: bool = false;

    fn nearest(v: f32) -> f32 {
        Values.nearest(v)
    }

    fn code(q: f32) -> u8 {
        nearest_code(q)
    }

    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
        let (d, scales) = scales::<8, SUB>(&Groups::new(x, w), Values, Codes { lo: -32.0, hi: 31.0 }, effort);
        let mut block: Self = bytemuck::Zeroable::zeroed();
        block.d = d;
        for (sub, scale) in scales.into_iter().enumerate() {
            block.set_scale(sub, scale as i8);
        }
        if effort == Effort::Full {
            set_nearest_codes(&mut block, x);
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_is_nearer() {
        for i in -16_000..16_000 {
            let v = i as f32 / 100.0 + 0.003;
            let least = IQ4_VALUES.iter().map(|&q| (f32::from(q) - v).abs()).fold(f32::INFINITY, f32::min);
            assert_eq!((Values.nearest(v) - v).abs(), least, "{v}: {}", Values.nearest(v));
        }
        for q in IQ4_VALUES {
            assert_eq!(IQ4_VALUES[usize::from(nearest_code(f32::from(q)))], q);
        }
        assert_eq!((Values.nearest(f32::INFINITY), Values.nearest(f32::NEG_INFINITY)), (HI, LO));
        assert!(IQ4_VALUES.contains(&(Values.nearest(f32::NAN) as i8)));
    }
}
