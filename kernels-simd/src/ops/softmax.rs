//! Sums of exponentials in f64, over all tokens of a vocabulary: for probabilities that somebody wants to know, not for
//! the forward pass.
//!
//! A vocabulary has up to 256 thousand tokens and a perplexity asks for all of them thousands of times, so the
//! exponential is one that the compiler can turn into vector instructions: products, sums and shifts, no table, no
//! branch. What it makes of that is rounded like the source, so nothing here differs between instruction sets but the
//! speed.

use crate::simd::Simd;

/// Sums run in this many lanes: lane `i` takes elements `i`, `i + 8`, …; then the lanes are summed in order.
const LANES: usize = 8;

/// `eˣ` for `x ≤ 0`, within 10⁻¹⁴ of the value; below −700 as if it were −700. NaN for NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ½·ln 2`, a Taylor polynomial for `eʳ` (its remainder is `r¹²/12!`, 6·10⁻¹⁵), and `n`
/// into the exponent.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // Added and taken away again it rounds to a whole number, whose bits stand at the low end meanwhile.
    const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
    // ln 2 in two parts; products of the first with whole numbers up to 2^20 are exact.
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const TAYLOR: [f64; 12] = [
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
        1.0,
        1.0,
    ];
    let x = if x < -700.0 { -700.0 } else { x };
    let rounded = x * std::f64::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut sum = TAYLOR[0];
    for c in &TAYLOR[1..] {
        sum = sum * r + c;
    }
    sum * f64::from_bits(rounded.to_bits().wrapping_add(1023) << 52)
}

/// `Σ exp(x − max)`, for `x` up to `max`.
#[inline(always)]
pub(crate) fn exp_sum<S: Simd>(_: S, x: &[f32], max: f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for i in 0..LANES {
            lanes[i] += exp(f64::from(chunk[i]) - max);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += exp(f64::from(x) - max);
    }
    lanes.iter().sum()
}

/// With `p = exp(base − max[0])` and `q = exp(model − max[1])`: `Σ p`, `Σ q` and `Σ p·(ln p − ln q)`.
#[inline(always)]
pub(crate) fn divergence_sums<S: Simd>(_: S, base: &[f32], model: &[f32], max: [f64; 2]) -> [f64; 3] {
    let mut sums = [[0.0; LANES]; 3];
    let ((base, base_rest), (model, model_rest)) = (base.as_chunks::<LANES>(), model.as_chunks::<LANES>());
    for (b, m) in base.iter().zip(model) {
        for i in 0..LANES {
            add(&mut sums, i, f64::from(b[i]) - max[0], f64::from(m[i]) - max[1]);
        }
    }
    for (i, (&b, &m)) in base_rest.iter().zip(model_rest).enumerate() {
        add(&mut sums, i, f64::from(b) - max[0], f64::from(m) - max[1]);
    }
    let [p, q, weighted] = sums;
    [p.iter().sum(), q.iter().sum(), weighted.iter().sum()]
}

#[inline(always)]
fn add(sums: &mut [[f64; LANES]; 3], lane: usize, log_p: f64, log_q: f64) {
    let p = exp(log_p);
    sums[0][lane] += p;
    sums[1][lane] += exp(log_q);
    sums[2][lane] += p * (log_p - log_q);
}
