//! Mirostat (Basu, Ramachandran, Keskar and Varshney, "Mirostat: A Neural Text Decoding Algorithm that Directly
//! Controls Perplexity", 2021), its first algorithm and its second.

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// How many of the likeliest tokens the first algorithm estimates Zipf's exponent from: the authors' number.
const ESTIMATED_FROM: usize = 100;

/// Keeps tokens so that their surprise `S = −log₂ p` comes out near `τ` on average. `μ`, at first `2τ`, says how far
/// down tokens may go; after each one `μ ← μ − η·(S − τ)`. As in llama.cpp, `S` is that among the tokens kept; the
/// authors' code takes it from the whole distribution.
///
/// 1. With Zipf's exponent `ŝ = Σ t·b / Σ t²` estimated over the likeliest tokens, where `tᵢ = ln((i + 1) / i)` and
///    `bᵢ = ln(pᵢ / pᵢ₊₁)`, keeps the `k = ((ε·2^μ) / (1 − N^−ε))^(1/ŝ)` likeliest, where `ε = ŝ − 1` and `N` is the
///    size of the vocabulary.
/// 2. Keeps the tokens with a surprise of at most `μ`.
///
/// At least the likeliest one stays.
#[derive(Clone, Debug)]
struct Mirostat {
    first: bool,
    tau: f64,
    eta: f64,
    mu: f64,
    /// What μ becomes when the token drawn is accepted.
    next_mu: Option<f64>,
}

/// The step, if it changes anything. It takes the place of all that truncates.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let mirostat = options.mirostat;
    if mirostat.is_off() {
        return None;
    }
    let (tau, eta) = (f64::from(mirostat.tau), mirostat.eta.into());
    Some(Box::new(Mirostat { first: mirostat.version == 1, tau, eta, mu: 2.0 * tau, next_mu: None }))
}

impl Step for Mirostat {
    fn accept(&mut self, _: u32) {
        self.mu = self.next_mu.take().unwrap_or(self.mu);
    }

    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let (softmax, vocabulary) = (candidates.softmax(), candidates.vocabulary());
        let list = candidates.sorted();
        let keep = if self.first {
            let logs = list.iter().take(ESTIMATED_FROM).map(|c| softmax.log_weight(c));
            let logs: Vec<f64> = logs.collect();
            zipf_length(zipf_exponent(&logs), self.mu, vocabulary)
        } else {
            let total: f64 = list.iter().map(|c| softmax.weight(c)).sum();
            let most = self.mu * std::f64::consts::LN_2;
            list.iter().take_while(|c| libm::log(total) - softmax.log_weight(c) <= most).count()
        };
        list.truncate(keep.max(1));
    }

    fn drawn(&mut self, probability: f64) {
        let surprise = -libm::log2(probability);
        // A token of probability 0 may be drawn by rounding alone.
        let surprise = surprise.clamp(0.0, f64::from(f32::MAX));
        self.next_mu = Some(self.mu - self.eta * (surprise - self.tau));
    }

    fn learnt(&self) -> Option<f64> {
        Some(self.mu)
    }

    fn recall(&mut self, learnt: f64) {
        (self.mu, self.next_mu) = (learnt, None);
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}

/// The exponent of Zipf's law from the logarithms of probabilities, the greatest first; 0 if there is but one.
fn zipf_exponent(logs: &[f64]) -> f64 {
    let (mut product, mut square) = (0.0, 0.0);
    for (pair, i) in logs.windows(2).zip(1..) {
        let t = libm::log(f64::from(i + 1) / f64::from(i));
        product += t * (pair[0] - pair[1]);
        square += t * t;
    }
    if square > 0.0 { product / square } else { 0.0 }
}

/// How many tokens of a vocabulary that follows Zipf's law come to a surprise of `mu` bits.
fn zipf_length(exponent: f64, mu: f64, vocabulary: usize) -> usize {
    let epsilon = exponent - 1.0;
    // Towards ε = 0, (1 − N^−ε) / ε becomes ln N.
    let size = vocabulary as f64;
    let sum = if epsilon == 0.0 { libm::log(size) } else { (1.0 - libm::pow(size, -epsilon)) / epsilon };
    let length = libm::pow(libm::exp2(mu) / sum, 1.0 / exponent);
    // A cast saturates, and makes 0 of what is no number.
    length as usize
}
