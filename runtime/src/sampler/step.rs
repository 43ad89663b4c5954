//! What a step of the chain is.

use std::fmt::Debug;

use super::candidates::Candidates;
use super::random::Xoshiro256PlusPlus;

/// A step between the logits and the draw: it changes logits, or leaves candidates out.
pub(super) trait Step: Debug + Send + Sync {
    /// Is told each token of the text: those of the prompt, and then each one chosen.
    fn accept(&mut self, _token: u32) {}

    /// Does its part. Steps that draw take their random numbers from `random`.
    fn apply(&mut self, candidates: &mut Candidates<'_>, random: &mut Xoshiro256PlusPlus);

    /// Is told how likely the token was, among the candidates, that was drawn from what the steps left. It may yet be
    /// discarded: what is accepted counts.
    fn drawn(&mut self, _probability: f64) {}

    /// What it has learnt from draws, which the tokens of the text do not tell.
    fn learnt(&self) -> Option<f64> {
        None
    }

    /// Goes on with what such a step has learnt.
    fn recall(&mut self, _learnt: f64) {}

    /// A copy with all that the step remembers.
    fn copy(&self) -> Box<dyn Step>;
}

impl Clone for Box<dyn Step> {
    fn clone(&self) -> Self {
        (**self).copy()
    }
}
