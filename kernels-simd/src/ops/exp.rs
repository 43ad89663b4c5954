//! The exponential function and what is made of it, one polynomial for every instruction set.

use crate::simd::Simd;

/// Below this `exp` is 0 (the true value is under 1.2e-38, the smallest normal number).
const LOW: f32 = -87.336_54;
/// Arguments are cut off here, so that `2^n` stays finite.
const HIGH: f32 = 88.376_26;
/// ln 2 in two parts: the first has few enough bits that `n · LN2_HIGH` is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `(eʳ − 1 − r) / r²` on |r| ≤ ln 2 / 2: a least-maximum fit in f64 (iteratively reweighted least squares on Chebyshev
/// points), rounded to f32. Error of the fit relative to eʳ: 3.1e-9.
const POLY: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9];

/// With `x = n·ln 2 + r` and |r| ≤ ln 2 / 2: `eʳ − 1` and `n`, for an `x` between [`LOW`] and [`HIGH`].
#[inline(always)]
fn reduced<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let mut p = s.splat(POLY[4]);
    for c in [POLY[3], POLY[2], POLY[1], POLY[0]] {
        p = s.fma(p, r, s.splat(c));
    }
    (s.fma(p, s.mul(r, r), r), n)
}

/// `eˣ`. Largest error against f64 over [-87.3, 88.3]: below 1 unit in the last place (see the test).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let low = s.splat(LOW);
    let (e_minus_1, n) = reduced(s, s.min(s.max(x, low), s.splat(HIGH)));
    let e = s.add(e_minus_1, s.splat(1.0));
    s.zero_if_less(x, low, s.scale_by_power_of_two(e, n))
}

/// `tanh x = (e²ˣ − 1) / (e²ˣ − 1 + 2)`. Nothing is cancelled near 0, since `e²ˣ − 1` is computed as such; beyond ±20,
/// where the value is ±1, `x` is cut off. Largest error against f64: below 4 units in the last place (see the test).
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let twice = s.min(s.max(s.add(x, x), s.splat(-40.0)), s.splat(40.0));
    let (e_minus_1, n) = reduced(s, twice);
    let (one, two) = (s.splat(1.0), s.splat(2.0));
    let power = s.scale_by_power_of_two(one, n);
    let m = s.fma(e_minus_1, power, s.sub(power, one));
    s.div(m, s.add(m, two))
}

/// `Φ(−x)·e^(x²/2)` as a polynomial of `t = 1 / (1 + 0.3·x)` without a constant part, `t¹` first, for `x ≥ 0`: a
/// least-maximum fit, as [`POLY`]. Error of the fit relative to the value: 1.5e-7.
const TAIL: [f32; 8] =
    [0.119_629_3, 0.120_753_97, 0.099_913_45, 0.128_561_78, -0.053_683_966, 0.206_353_87, -0.157_203_3, 0.035_674_83];

/// `Φ(−x)·e^(x²/2)` for `x ≥ 0`: the share of a normal distribution beyond `x`, but for its exponential.
#[inline(always)]
pub(crate) fn normal_tail<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    let t = s.div(one, s.fma(x, s.splat(0.3), one));
    let mut p = s.splat(TAIL[7]);
    for c in [TAIL[6], TAIL[5], TAIL[4], TAIL[3], TAIL[2], TAIL[1], TAIL[0]] {
        p = s.fma(p, t, s.splat(c));
    }
    s.mul(p, t)
}
