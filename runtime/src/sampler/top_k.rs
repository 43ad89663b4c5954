//! Top-k (Fan et al., Hierarchical Neural Story Generation, 2018): the `k` likeliest tokens.

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

#[derive(Clone, Debug)]
struct TopK(usize);

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let idle = options.top_k == 0 || options.takes_likeliest();
    if idle { None } else { Some(Box::new(TopK(options.top_k))) }
}

impl Step for TopK {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        candidates.keep_likeliest(self.0);
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
