//! The end of the chain: temperature and the draw.

use super::candidates::{Candidate, Candidates};
use super::error::SamplerError;
use super::options::{SamplerOptions, check};
use super::random::Xoshiro256PlusPlus;

/// Takes the likeliest token at temperature 0; otherwise draws one with probability ∝ exp(logit / temperature).
#[derive(Clone, Debug)]
pub(super) struct Draw {
    temperature: f64,
}

impl Draw {
    pub(super) fn new(options: &SamplerOptions) -> Result<Draw, SamplerError> {
        check("temperature", options.temperature, 0.0..=f32::MAX, "0 (greedy) or more")?;
        Ok(Draw { temperature: options.temperature.into() })
    }

    /// One of the candidates; `None` when there is none. A draw takes one random number.
    pub(super) fn draw(&self, candidates: &mut Candidates<'_>, random: &mut Xoshiro256PlusPlus) -> Option<u32> {
        if self.temperature == 0.0 {
            return candidates.likeliest();
        }
        let list = candidates.sorted();
        let max = f64::from(list.first()?.logit);
        let weight = |c: &Candidate| libm::exp((f64::from(c.logit) - max) / self.temperature);
        let target = random.uniform() * list.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let drawn = list.iter().find(|c| {
            sum += weight(c);
            sum > target
        });
        // Rounding may leave the sum a hair below the target; then it is the last one's turn.
        drawn.or(list.last()).map(|c| c.id)
    }
}
