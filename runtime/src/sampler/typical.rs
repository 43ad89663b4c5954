//! Locally typical sampling (Meister, Pimentel, Wiher and Cotterell, 2023): tokens about as surprising as one expects.

use super::candidates::{Candidate, Candidates, by_likelihood};
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// Orders the tokens by `|−ln p − H|`, where `H = −Σ p·ln p`, and keeps the fewest first ones whose probabilities reach
/// `τ` together. Among equals the likelier comes first.
#[derive(Clone, Debug)]
struct Typical(f64);

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    if options.typical_p == 1.0 { None } else { Some(Box::new(Typical(options.typical_p.into()))) }
}

impl Step for Typical {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let softmax = candidates.softmax();
        let list = candidates.reorder();
        let (total, entropy) = softmax.entropy(list);
        let distance = |c: &Candidate| (libm::log(total) - softmax.log_weight(c) - entropy).abs();
        let mut order: Vec<(f64, Candidate)> = list.iter().map(|c| (distance(c), *c)).collect();
        order.sort_unstable_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| by_likelihood(x, y)));
        let (target, mut sum) = (self.0 * total, 0.0);
        let enough = order.iter().position(|(_, c)| {
            sum += softmax.weight(c);
            sum >= target
        });
        order.truncate(enough.map_or(usize::MAX, |last| last + 1));
        list.clear();
        list.extend(order.into_iter().map(|(_, c)| c));
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
