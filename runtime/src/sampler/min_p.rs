//! Min-p (Nguyen et al., 2024): the tokens that have at least a given share of the likeliest one's probability.

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

#[derive(Clone, Debug)]
struct MinP(f64);

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let idle = options.min_p == 0.0 || options.takes_likeliest();
    if idle { None } else { Some(Box::new(MinP(options.min_p.into()))) }
}

impl Step for MinP {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let least = candidates.softmax().logit(self.0);
        candidates.list().retain(|c| f64::from(c.logit) >= least);
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
