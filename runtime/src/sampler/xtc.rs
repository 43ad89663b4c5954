//! XTC, "exclude top choices" (Philipp Emanuel Weidmann, 2024, text-generation-webui's pull request 6335).

use super::candidates::{Candidate, Candidates, by_likelihood};
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// With a given chance, of the tokens that have at least the probability `threshold` all but the least likely are left
/// out. Each time takes one random number, whatever the candidates.
#[derive(Clone, Debug)]
struct Xtc {
    chance: f64,
    threshold: f64,
}

/// The step, if it changes anything: above ½ no two tokens can reach the threshold.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    if options.is_xtc_off() {
        return None;
    }
    let (chance, threshold) = (options.xtc_probability.into(), options.xtc_threshold.into());
    Some(Box::new(Xtc { chance, threshold }))
}

impl Step for Xtc {
    fn apply(&mut self, candidates: &mut Candidates<'_>, random: &mut Xoshiro256PlusPlus) {
        if random.uniform() >= self.chance {
            return;
        }
        let softmax = candidates.softmax();
        let list = candidates.list();
        let bar = self.threshold * list.iter().map(|c| softmax.weight(c)).sum::<f64>();
        let is_top = |c: &Candidate| softmax.weight(c) >= bar;
        let least = list.iter().filter(|c| is_top(c)).max_by(|a, b| by_likelihood(a, b)).map(|c| c.id);
        list.retain(|c| Some(c.id) == least || !is_top(c));
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
