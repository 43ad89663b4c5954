//! What a caller adds to the logits of tokens, to have them more often, less often, or never.

use std::collections::HashMap;
use std::sync::Arc;

use super::candidates::Candidates;
use super::options::SamplerOptions;
use super::random::Xoshiro256PlusPlus;
use super::step::Step;

/// OpenAI's `logit_bias`: `l ← l + bias`.
#[derive(Clone, Debug)]
struct LogitBias(Arc<HashMap<u32, f32>>);

/// The step, if it changes anything. Of several numbers for a token the last one counts.
pub(super) fn step(options: &SamplerOptions) -> Option<Box<dyn Step>> {
    let biases: HashMap<u32, f32> = options.logit_bias.iter().copied().collect();
    (!biases.is_empty()).then(|| Box::new(LogitBias(biases.into())) as Box<dyn Step>)
}

impl Step for LogitBias {
    fn apply(&mut self, candidates: &mut Candidates<'_>, _: &mut Xoshiro256PlusPlus) {
        // No sum of two finite numbers may become +∞.
        candidates.adjust(&self.0, |logit, bias| (logit + bias).min(f32::MAX));
    }

    fn copy(&self) -> Box<dyn Step> {
        Box::new(self.clone())
    }
}
