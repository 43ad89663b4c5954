//! Q4_K, Q5_K, Q6_K by search: the small integers that scale the groups, and the f16 that scales them, together.
//!
//! Each group is fitted by itself first. Then two steps take turns: for a given f16 scale the integers with the least
//! error are found, codes being rounded anew for each integer that is tried; for given integers and codes the f16 scale
//! is the least-squares solution. Two rounds settle it.

use half::f16;

use super::block::{Effort, Search, set_nearest_codes};
use super::fit::{Codes, Grid, Group, Moments, ScaleFit, inverse};
use crate::blocks::{BlockQ4_K, BlockQ5_K, BlockQ6_K};

/// Rounds of integers and scale in turn. The first gains most, a third would gain hardly anything.
const ROUNDS: usize = 2;

/// Where the search for a group with a minimum starts: values of the largest weight's code, as fractions of the largest
/// code.
const AFFINE_FRACTIONS: [f32; 8] = [0.92, 0.96, 0.99, 1.02, 1.05, 1.09, 1.14, 1.2];

/// The same for a brief search.
const BRIEF_AFFINE_FRACTIONS: [f32; 2] = [1.02, 1.12];

/// The same for a group with a scale alone, for both signs of the farthest weight.
const SCALE_FRACTIONS: [f32; 5] = [0.92, 0.97, 1.0, 1.03, 1.08];

/// The same for a brief search.
const BRIEF_SCALE_FRACTIONS: [f32; 1] = [1.0];

/// `G` groups of `N` weights.
pub(super) struct Groups<'a, const G: usize, const N: usize> {
    x: &'a [[f32; N]; G],
    w: &'a [[f32; N]; G],
}

impl<'a, const G: usize, const N: usize> Groups<'a, G, N> {
    pub(super) fn new(x: &'a [f32], w: &'a [f32]) -> Self {
        let split = |v: &'a [f32]| v.as_chunks::<N>().0.first_chunk::<G>().expect("a block of 256");
        Groups { x: split(x), w: split(w) }
    }

    fn group(&self, g: usize) -> Group<'a, N> {
        Group { x: &self.x[g], w: &self.w[g] }
    }
}

/// Scales and minima of a block: those of group `g` are `d · scales[g]` and `−dmin · mins[g]`.
pub(super) struct ScalesAndMins<const G: usize> {
    pub(super) d: f16,
    pub(super) dmin: f16,
    pub(super) scales: [f32; G],
    pub(super) mins: [f32; G],
}

/// Scales and minima for codes from 0 to `codes.hi` with integers from 0 to `top`.
pub(super) fn scales_and_mins<const G: usize, const N: usize>(
    groups: &Groups<'_, G, N>,
    codes: Codes,
    top: f32,
    effort: Effort,
) -> ScalesAndMins<G> {
    let fractions: &[f32] = if effort == Effort::Full { &AFFINE_FRACTIONS } else { &BRIEF_AFFINE_FRACTIONS };
    let mut starts = [0.0; AFFINE_FRACTIONS.len()];
    starts.iter_mut().zip(fractions).for_each(|(start, fraction)| *start = fraction * codes.hi);
    let mut fits = [(0.0, 0.0, Moments::default()); G];
    for (g, fit) in fits.iter_mut().enumerate() {
        *fit = groups.group(g).best_affine(codes, &starts[..fractions.len()], effort.steps(), true);
    }
    let integers = Codes { lo: 0.0, hi: top };
    let mut d = fits.iter().map(|f| f.0).fold(0.0, f32::max) / top;
    let mut dmin = fits.iter().map(|f| -f.1).fold(0.0, f32::max) / top;
    if effort == Effort::Brief {
        return brief(&fits, integers, d, dmin);
    }
    let mut best = ScalesAndMins { d: f16::ZERO, dmin: f16::ZERO, scales: [0.0; G], mins: [0.0; G] };
    let mut least = f32::INFINITY;
    for _ in 0..ROUNDS {
        let mut now =
            ScalesAndMins { d: f16::from_f32(d), dmin: f16::from_f32(dmin), scales: [0.0; G], mins: [0.0; G] };
        let (d16, dmin16) = (now.d.to_f32(), now.dmin.to_f32());
        let (to_scale, to_min) = (inverse(d16), inverse(dmin16));
        let mut error = 0.0;
        let mut equations = Equations::default();
        for (g, (fit_d, fit_min, fit)) in fits.iter().enumerate() {
            let group = groups.group(g);
            let ideal = integers.nearest(fit_d * to_scale);
            let mut group_error = f32::INFINITY;
            for step in [0.0, -1.0, 1.0] {
                let scale = integers.nearest(ideal + step);
                // The minimum that suits this scale, if the codes stay.
                let min = if fit.q > 0.0 { (fit.x - d16 * scale * fit.q) / fit.w } else { *fit_min };
                let ideal = integers.nearest(-min * to_min);
                for step in [0.0, -1.0, 1.0] {
                    let min = integers.nearest(ideal + step);
                    let e = group.error(d16 * scale, -dmin16 * min, codes);
                    if e < group_error {
                        (group_error, now.scales[g], now.mins[g]) = (e, scale, min);
                    }
                }
            }
            error += group_error;
            let (scale, min) = (now.scales[g], now.mins[g]);
            let m = group.moments(-dmin16 * min, inverse(d16 * scale), codes);
            equations.add(scale, min, &m);
        }
        if error < least {
            (least, best) = (error, now);
        }
        (d, dmin) = equations.solve(d, dmin);
    }
    best
}

/// The integers for `(d, dmin)`, then the `d` and `dmin` that suit these integers best. The codes are not rounded anew:
/// those of the fits stand in for the final ones.
fn brief<const G: usize>(fits: &[(f32, f32, Moments); G], integers: Codes, d: f32, dmin: f32) -> ScalesAndMins<G> {
    let mut found = ScalesAndMins { d: f16::from_f32(d), dmin: f16::from_f32(dmin), scales: [0.0; G], mins: [0.0; G] };
    let (d16, dmin16) = (found.d.to_f32(), found.dmin.to_f32());
    let (to_scale, to_min) = (inverse(d16), inverse(dmin16));
    let mut equations = Equations::default();
    for (g, (fit_d, fit_min, fit)) in fits.iter().enumerate() {
        let scale = integers.nearest(fit_d * to_scale);
        let min = if fit.q > 0.0 { (fit.x - d16 * scale * fit.q) / fit.w } else { *fit_min };
        let min = integers.nearest(-min * to_min);
        (found.scales[g], found.mins[g]) = (scale, min);
        equations.add(scale, min, fit);
    }
    let (d, dmin) = equations.solve(d, dmin);
    (found.d, found.dmin) = (f16::from_f32(d), f16::from_f32(dmin));
    found
}

/// The normal equations of least squares for `d` and `dmin`, summed over the groups.
#[derive(Default)]
struct Equations {
    dd: f32,
    dm: f32,
    mm: f32,
    dx: f32,
    mx: f32,
}

impl Equations {
    /// A group with these integers and the moments of its codes.
    fn add(&mut self, scale: f32, min: f32, m: &Moments) {
        self.dd += scale * scale * m.qq;
        self.dm -= scale * min * m.q;
        self.mm += min * min * m.w;
        self.dx += scale * m.xq;
        self.mx -= min * m.x;
    }

    /// The solution; of `d` and `dmin` that stays as it was which the equations do not determine.
    fn solve(&self, d: f32, dmin: f32) -> (f32, f32) {
        let Equations { dd, dm, mm, dx, mx } = *self;
        let det = dd * mm - dm * dm;
        if det > 0.0 {
            ((dx * mm - mx * dm) / det, (dd * mx - dm * dx) / det)
        } else if dd > 0.0 {
            (dx / dd, dmin)
        } else {
            (d, dmin)
        }
    }
}

/// The scale, and for each group the integer from `integers` that scales it.
pub(super) fn scales<const G: usize, const N: usize>(
    groups: &Groups<'_, G, N>,
    codes: impl Grid,
    integers: Codes,
    effort: Effort,
) -> (f16, [f32; G]) {
    let fractions: &[f32] = if effort == Effort::Full { &SCALE_FRACTIONS } else { &BRIEF_SCALE_FRACTIONS };
    let mut starts = [0.0; 2 * SCALE_FRACTIONS.len()];
    for (i, fraction) in fractions.iter().enumerate() {
        (starts[2 * i], starts[2 * i + 1]) = (fraction * codes.lo(), fraction * codes.hi());
    }
    let mut fits = [ScaleFit::default(); G];
    for (g, fit) in fits.iter_mut().enumerate() {
        *fit = groups.group(g).best_scale(codes, &starts[..2 * fractions.len()], effort.steps());
    }
    // The scale farthest from zero takes the integer farthest from zero.
    let far = fits.iter().fold(0.0, |far: f32, fit| if fit.d.abs() > far.abs() { fit.d } else { far });
    let mut d = far / integers.lo;
    if effort == Effort::Brief {
        // The codes of the fits stand in for the final ones.
        let (mut scales, mut dd, mut dx) = ([0.0; G], 0.0, 0.0);
        let to_scale = inverse(f16::from_f32(d).to_f32());
        for (scale, fit) in scales.iter_mut().zip(&fits) {
            *scale = integers.nearest(fit.d * to_scale);
            dd += *scale * *scale * fit.qq;
            dx += *scale * fit.xq;
        }
        return (f16::from_f32(if dd > 0.0 { dx / dd } else { d }), scales);
    }
    let (mut best, mut least) = ((f16::ZERO, [0.0; G]), f32::INFINITY);
    for _ in 0..ROUNDS {
        let mut now = (f16::from_f32(d), [0.0; G]);
        let d16 = now.0.to_f32();
        let (mut error, mut dd, mut dx) = (0.0, 0.0, 0.0);
        for (g, fit) in fits.iter().enumerate() {
            let group = groups.group(g);
            let ideal = integers.nearest(fit.d * inverse(d16));
            let mut group_error = f32::INFINITY;
            for step in [0.0, -1.0, 1.0] {
                let scale = integers.nearest(ideal + step);
                let e = group.error(d16 * scale, 0.0, codes);
                if e < group_error {
                    (group_error, now.1[g]) = (e, scale);
                }
            }
            error += group_error;
            let m = group.moments(0.0, inverse(d16 * now.1[g]), codes);
            dd += now.1[g] * now.1[g] * m.qq;
            dx += now.1[g] * m.xq;
        }
        if error < least {
            (least, best) = (error, now);
        }
        if dd > 0.0 {
            d = dx / dd;
        }
    }
    best
}

/// The 12 bytes that hold the 6-bit scales and minima of Q4_K and Q5_K: numbers 0..4 in bytes 0..4 and 4..8; of 4..8
/// the low halves in bytes 8..12, the rest at the top of the others.
pub(crate) fn pack_6_bits(scales: &[f32; 8], mins: &[f32; 8]) -> [u8; 12] {
    let (s, m) = (scales.map(|s| s as u8), mins.map(|m| m as u8));
    let mut packed = [0; 12];
    for i in 0..4 {
        packed[i] = s[i] | s[i + 4] >> 4 << 6;
        packed[i + 4] = m[i] | m[i + 4] >> 4 << 6;
        packed[i + 8] = s[i + 4] & 15 | m[i + 4] << 4;
    }
    packed
}

macro_rules! scales_and_mins_of_6_bits {
    ($block:ty) => {
        impl Search for $block {
            const COUNT_BY_SIZE: bool = false;

            fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
                let found = scales_and_mins::<8, 32>(&Groups::new(x, w), Self::CODES, 63.0, effort);
                let mut block: Self = bytemuck::Zeroable::zeroed();
                (block.d, block.dmin) = (found.d, found.dmin);
                block.scales = pack_6_bits(&found.scales, &found.mins);
                if effort == Effort::Full {
                    set_nearest_codes(&mut block, x);
                }
                block
            }
        }
    };
}
scales_and_mins_of_6_bits!(BlockQ4_K);
scales_and_mins_of_6_bits!(BlockQ5_K);

impl Search for BlockQ6_K {
    const COUNT_BY_SIZE: bool = false;

    fn search(x: &[f32], w: &[f32], effort: Effort) -> Self {
        let (d, scales) = scales::<16, 16>(&Groups::new(x, w), Self::CODES, Codes { lo: -128.0, hi: 127.0 }, effort);
        let mut block: Self = bytemuck::Zeroable::zeroed();
        (block.d, block.scales) = (d, scales.map(|s| s as i8));
        if effort == Effort::Full {
            set_nearest_codes(&mut block, x);
        }
        block
    }
}
