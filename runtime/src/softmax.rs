//! Probabilities of tokens, in f64: for whoever wants to know them, not for the forward pass.
//!
//! A vocabulary has up to 256 thousand entries and a perplexity asks for all of them thousands of times, so the exponential is one that the
//! compiler can turn into vector instructions: products, sums and shifts, no table, no branch. All of it is the same on every machine.

/// Sums run in this many lanes: lane `i` takes elements `i`, `i + 8`, …; then the lanes are summed in order.
pub const LANES: usize = 8;

/// `eˣ` for `x ≤ 0`, within 10⁻¹⁴ of the value; below −700 as if it were −700. NaN for NaN.
///
/// `x = n·ln 2 + r` with `|r| ≤ ½·ln 2`, a Taylor polynomial for `eʳ` (its remainder is `r¹²/12!`, 6·10⁻¹⁵), and `n` into the exponent.
#[inline]
pub fn exp(x: f64) -> f64 {
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

/// The largest logit; NaN does not count. −∞ when there is none.
pub fn largest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in logits.chunks(LANES) {
        for (lane, &l) in lanes.iter_mut().zip(chunk) {
            *lane = if l > *lane { l } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// `ln Σ exp(logits)`: what to take from a logit to get a log probability.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(largest(logits));
    if max == f64::NEG_INFINITY {
        return max;
    }
    let mut lanes = [0.0; LANES];
    let (whole, rest) = logits.as_chunks::<LANES>();
    for chunk in whole {
        for i in 0..LANES {
            lanes[i] += exp(f64::from(chunk[i]) - max);
        }
    }
    for (lane, &l) in lanes.iter_mut().zip(rest) {
        *lane += exp(f64::from(l) - max);
    }
    max + libm::log(lanes.iter().sum())
}

/// The natural logarithm of the probability of token `id` under the softmax of `logits`. NaN when `id` has no logit.
pub fn log_probability(logits: &[f32], id: u32) -> f64 {
    match logits.get(id as usize) {
        Some(&logit) => f64::from(logit) - log_sum_exp(logits),
        None => f64::NAN,
    }
}

/// The Kullback-Leibler divergence `Σ p·(ln p − ln q)` of the softmax `q` of `model` from the softmax `p` of `base`, in nats. Both have the same
/// length and finite values.
pub fn divergence(base: &[f32], model: &[f32]) -> f64 {
    let (max_p, max_q) = (f64::from(largest(base)), f64::from(largest(model)));
    let (mut sum_p, mut sum_q, mut weighted) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let mut add = |i: usize, b: f32, m: f32| {
        let (b, m) = (f64::from(b) - max_p, f64::from(m) - max_q);
        let p = exp(b);
        sum_p[i] += p;
        sum_q[i] += exp(m);
        weighted[i] += p * (b - m);
    };
    let ((base, base_rest), (model, model_rest)) = (base.as_chunks::<LANES>(), model.as_chunks::<LANES>());
    for (b, m) in base.iter().zip(model) {
        for i in 0..LANES {
            add(i, b[i], m[i]);
        }
    }
    for (i, (&b, &m)) in base_rest.iter().zip(model_rest).enumerate() {
        add(i, b, m);
    }
    let [sum_p, sum_q, weighted] = [sum_p, sum_q, weighted].map(|lanes| lanes.iter().sum::<f64>());
    // Never negative but for rounding.
    (weighted / sum_p - libm::log(sum_p) + libm::log(sum_q)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_libms() {
        for i in 0..2_000_000 {
            let x = f64::from(i) * -0.00035;
            let (found, expected) = (exp(x), libm::exp(x));
            assert!((found / expected - 1.0).abs() < 1e-14, "{x}: {found:e} and {expected:e}");
        }
        assert_eq!((exp(0.0), exp(f64::NEG_INFINITY)), (1.0, exp(-700.0)));
        assert!(exp(f64::NAN).is_nan());
    }

    #[test]
    fn sums_are_those_of_every_element() {
        for n in [1, 7, 8, 9, 1000, 1003] {
            let logits: Vec<f32> = (0..n).map(|i| (i * 7919 % 613) as f32 / 31.0 - 9.0).collect();
            let expected = logits.iter().map(|&l| libm::exp(l.into())).sum::<f64>();
            assert!((log_sum_exp(&logits) - libm::log(expected)).abs() < 1e-12, "{n}");
            assert_eq!(largest(&logits), logits.iter().copied().fold(f32::MIN, f32::max));
            assert_eq!(divergence(&logits, &logits), 0.0);
        }
        assert!((log_sum_exp(&[3.0; 1 << 15]) - (3.0 + 15.0 * std::f64::consts::LN_2)).abs() < 1e-12);
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
        assert!(log_sum_exp(&[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn divergence_of_known_distributions() {
        let logits = |p: &[f64]| p.iter().map(|p| p.ln() as f32 + 7.0).collect::<Vec<_>>();
        let (p, q) = (logits(&[0.5, 0.25, 0.25]), logits(&[0.25, 0.5, 0.25]));
        // ½·ln 2 − ¼·ln 2.
        assert!((divergence(&p, &q) - 0.25 * std::f64::consts::LN_2).abs() < 1e-6);
    }
}
