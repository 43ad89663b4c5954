//! Top-p, or nucleus sampling (Holtzman et al., 2020): the fewest likeliest tokens that have a probability together.

use super::candidates::{Candidate, Candidates};
use super::error::SamplerError;
use super::options::{SamplerOptions, check};
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

#[derive(Clone, Debug)]
struct TopP(f64);

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Result<Option<Box<dyn Step>>, SamplerError> {
    check("top_p", options.top_p, 0.0..=1.0, "from 0 to 1")?;
    let idle = options.top_p == 1.0 || options.is_greedy();
    Ok(if idle { None } else { Some(Box::new(TopP(options.top_p.into()))) })
}

impl Step for TopP {
    /// Most of a vocabulary need not be sorted. The tokens left out have at most the probability 1 − p together; of `n`
    /// candidates, those below (1 − p) / n each have less than that together, so they are dropped before the sort.
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let max = f64::from(candidates.largest());
        let weight = |c: &Candidate| libm::exp(f64::from(c.logit) - max);
        let list = candidates.list();
        let total: f64 = list.iter().map(weight).sum();
        // Half of it, so that rounding has no say.
        let negligible = 0.5 * (1.0 - self.0) * total / list.len() as f64;
        let least = max + libm::log(negligible);
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
