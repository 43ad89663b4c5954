//! Temperature, and the dynamic one: the less a model is sure, the more it is let wander.

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// Divides the logits by `T`; 0 takes the likeliest token.
///
/// With a range `r` (entropy sampling by kalomaze, 2023, llama.cpp's pull request 4972): `T = a + (b − a)·h^e`, where
/// `a = max(T₀ − r, 0)`, `b = T₀ + r`, and `h = H / ln n` is the entropy of the `n` candidates as a share of the
/// greatest possible. One candidate alone is left as it is.
#[derive(Clone, Debug)]
struct Temperature {
    temperature: f64,
    range: f64,
    exponent: f64,
}

/// The step, if it changes anything.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let (temperature, range) = (options.temperature.into(), options.dynatemp_range.into());
    let exponent = options.dynatemp_exponent.into();
    let idle = temperature == 1.0 && range == 0.0;
    if idle { None } else { Some(Box::new(Temperature { temperature, range, exponent })) }
}

impl Step for Temperature {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        let mut temperature = self.temperature;
        if self.range > 0.0 {
            let softmax = candidates.softmax();
            let list = candidates.list();
            if list.len() <= 1 {
                return;
            }
            let (_, entropy) = softmax.entropy(list);
            // Rounding may leave it a hair outside.
            let share = (entropy / libm::log(list.len() as f64)).clamp(0.0, 1.0);
            let (least, most) = ((self.temperature - self.range).max(0.0), self.temperature + self.range);
            temperature = least + (most - least) * libm::pow(share, self.exponent);
        }
        candidates.divide_by(temperature);
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
