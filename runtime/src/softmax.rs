//! Probabilities of tokens, in f64, the same on every machine.

use quipu_kernels::{Isa, Kernels};

/// What sums are computed with: they are the same on every instruction set, so on the best.
fn kernels() -> &'static Kernels {
    Isa::best().kernels().expect("kernels of an instruction set that is available")
}

/// The largest logit; NaN does not count. −∞ when there is none.
pub fn largest(logits: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 8];
    for chunk in logits.chunks(8) {
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
    max + libm::log(kernels().exp_sum(logits, max))
}

/// The natural logarithm of the probability of token `id` under the softmax of `logits`. NaN when `id` has no logit.
pub fn log_probability(logits: &[f32], id: u32) -> f64 {
    match logits.get(id as usize) {
        Some(&logit) => f64::from(logit) - log_sum_exp(logits),
        None => f64::NAN,
    }
}

/// The Kullback-Leibler divergence `Σ p·(ln p − ln q)` of the softmax `q` of `model` from the softmax `p` of `base`, in
/// nats. Both have the same length and finite values.
pub fn divergence(base: &[f32], model: &[f32]) -> f64 {
    let max = [base, model].map(|logits| f64::from(largest(logits)));
    let [sum_p, sum_q, weighted] = kernels().divergence_sums(base, model, max);
    // Never negative but for rounding.
    (weighted / sum_p - libm::log(sum_p) + libm::log(sum_q)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_libms() {
        let exp = |x: f32| kernels().exp_sum(&[x], 0.0);
        for i in 0..2_000_000 {
            let x = i as f32 * -0.00035;
            let (found, expected) = (exp(x), libm::exp(x.into()));
            assert!((found / expected - 1.0).abs() < 1e-14, "{x}: {found:e} and {expected:e}");
        }
        assert_eq!((exp(0.0), exp(f32::NEG_INFINITY)), (1.0, exp(-700.0)));
        assert!(exp(f32::NAN).is_nan());
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
