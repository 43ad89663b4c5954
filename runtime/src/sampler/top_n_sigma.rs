//! Top-nσ (Tang, Liu, Wan, Xu and others, "Top-nσ: Not All Logits Are You Need", 2024): the tokens whose logits stand
//! out from the noise.

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// Keeps the logits of at least `max − n·σ`, where `σ` is the standard deviation of all logits above −∞ (the square
/// root of their mean squared distance from the mean). The temperature cancels out.
#[derive(Clone, Debug)]
struct TopNSigma(f64);

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let idle = options.top_n_sigma <= 0.0 || options.takes_likeliest();
    if idle { None } else { Some(Box::new(TopNSigma(options.top_n_sigma.into()))) }
}

impl Step for TopNSigma {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let list = candidates.list();
        let count = list.len() as f64;
        let (mut max, mut sum) = (f64::NEG_INFINITY, 0.0);
        for candidate in list.iter() {
            let logit = f64::from(candidate.logit);
            sum += logit;
            max = max.max(logit);
        }
        let mean = sum / count;
        let squares: f64 = list.iter().map(|c| (f64::from(c.logit) - mean) * (f64::from(c.logit) - mean)).sum();
        let least = max - self.0 * (squares / count).sqrt();
        list.retain(|c| f64::from(c.logit) >= least);
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
