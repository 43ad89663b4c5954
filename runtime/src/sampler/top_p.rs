//! Top-p, or nucleus sampling (Holtzman et al., 2020): the fewest likeliest tokens that have a probability together.

use super::candidates::{Candidate, Candidates};
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

#[derive(Clone, Debug)]
struct TopP(f64);

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let idle = options.top_p == 1.0 || options.takes_likeliest();
    if idle { None } else { Some(Box::new(TopP(options.top_p.into()))) }
}

impl Step for TopP {
    /// Most of a vocabulary need not be sorted. The tokens left out have at most the probability 1 − p together; of `n`
    /// candidates, those below (1 − p) / n each have less than that together, so they are dropped before the sort.
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let softmax = candidates.softmax();
        let weight = |c: &Candidate| softmax.weight(c);
        let list = candidates.list();
        let total: f64 = list.iter().map(weight).sum();
        // Half of it, so that rounding has no say.
        let least = softmax.logit(0.5 * (1.0 - self.0) * total / list.len() as f64);
        list.retain(|c| f64::from(c.logit) >= least);
        let (target, mut sum) = (self.0 * total, 0.0);
        let list = candidates.sorted();
        let enough = list.iter().position(|c| {
            sum += weight(c);
            sum >= target
        });
        list.truncate(enough.map_or(usize::MAX, |last| last + 1));
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
