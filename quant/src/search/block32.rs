//! Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 by search.

use half::f16;

use super::block::{Effort, Search, set_nearest_codes};
use super::fit::Group;
use crate::blocks::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, SUB};

/// Where the search starts: values that the code of the weight farthest from zero may take, as fractions of the code
/// farthest from zero. Beyond 1 that weight is clipped.
pub(super) const FRACTIONS: [f32; 8] = [0.88, 0.93, 0.97, 1.0, 1.04, 1.09, 1.16, 1.25];

/// The same for a brief search.
const BRIEF_FRACTIONS: [f32; 4] = [0.93, 1.0, 1.09, 1.16];

/// The same for Q8_0, where little is to be gained, and nothing far from the plain scale.
const FINE_FRACTIONS: [f32; 4] = [0.98, 0.99, 0.997, 1.002];

/// The starts for a search of this effort.
pub(super) fn fractions(effort: Effort) -> &'static [f32] {
    match effort {
        Effort::Full => &FRACTIONS,
        Effort::Brief => &BRIEF_FRACTIONS,
    }
}

fn group<'a>(x: &'a [f32], w: &'a [f32]) -> Group<'a, SUB> {
    let first = |v: &'a [f32]| v.first_chunk().expect("a block of 32");
    Group { x: first(x), w: first(w) }
}

/// The best scale. Both signs are tried: the weight farthest from zero may take the sign that has one code more, or the
/// other.
fn scale<B: Search>(x: &[f32], w: &[f32], effort: Effort) -> f16 {
    let fractions = fractions(effort);
    let mut starts = [0.0; 2 * FRACTIONS.len()];
    for (i, fraction) in fractions.iter().enumerate() {
        (starts[2 * i], starts[2 * i + 1]) = (fraction * B::CODES.lo, fraction * B::CODES.hi);
    }
    f16::from_f32(group(x, w).best_scale(B::CODES, &starts[..2 * fractions.len()], effort.steps()).d)
}

fn scale_and_min<B: Search>(x: &[f32], w: &[f32], effort: Effort) -> (f16, f16) {
    let fractions = fractions(effort);
    let mut starts = [0.0; FRACTIONS.len()];
    starts.iter_mut().zip(fractions).for_each(|(start, fraction)| *start = fraction * B::CODES.hi);
    let (d, min, _) = group(x, w).best_affine(B::CODES, &starts[..fractions.len()], effort.steps(), false);
    (f16::from_f32(d), f16::from_f32(min))
}

macro_rules! block_of_32 {
    ($block:ty, |$x:ident, $w:ident, $effort:ident, $b:ident| $scales:block) => {
        impl Search for $block {
            const COUNT_BY_SIZE: bool = true;

            fn search($x: &[f32], $w: &[f32], $effort: Effort) -> Self {
                let mut $b: Self = bytemuck::Zeroable::zeroed();
                $scales;
                if $effort == Effort::Full {
                    set_nearest_codes(&mut $b, $x);
                }
                $b
            }

            fn plain(x: &[f32]) -> Option<Self> {
                Some(Self::from_weights(x.first_chunk()?))
            }
        }
    };
}
block_of_32!(BlockQ4_0, |x, w, effort, b| { b.d = scale::<Self>(x, w, effort) });
block_of_32!(BlockQ5_0, |x, w, effort, b| { b.d = scale::<Self>(x, w, effort) });
block_of_32!(BlockQ4_1, |x, w, effort, b| { (b.d, b.m) = scale_and_min::<Self>(x, w, effort) });
block_of_32!(BlockQ5_1, |x, w, effort, b| { (b.d, b.m) = scale_and_min::<Self>(x, w, effort) });
block_of_32!(BlockQ8_0, |x, w, effort, b| {
    b.d = f16::from_f32(
        group(x, w).best_scale(Self::CODES, &FINE_FRACTIONS.map(|p| p * Self::CODES.hi), effort.steps()).d,
    )
});
