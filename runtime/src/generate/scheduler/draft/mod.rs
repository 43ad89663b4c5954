//! Tokens that are read before anybody knows that they come: guesses.
//!
//! A step reads every weight once, for one token of a text or for several: more tokens cost little. So a text's next
//! tokens are guessed, read together with the one before them, and drawn from the logits as ever, one after the other.
//! While what is drawn is what was guessed, the logits after it are there already; what follows the first wrong guess
//! is forgotten. Nothing but time depends on guesses: every token is drawn from the same logits, by the same random
//! numbers, as without them.
//!
//! Guesses come from what the text has said before (`lookup`), which costs nothing, or from a smaller model (`model`;
//! `vocabulary`: whether it is one; `simulated`: what if it were right more often). How many are worth a step is
//! decided by what they have been worth in this text (`luck`) and by what steps, also those of the smaller model, have
//! cost on this machine (`cost`).

mod cost;
mod lookup;
mod luck;
mod model;
mod simulated;
mod vocabulary;

use crate::generate::request::Drafted;
pub(super) use cost::{Costs, Offer, Plan};
use lookup::Lookup;
use luck::Luck;
pub(super) use luck::Rate;
pub(super) use model::{DraftModel, NEAR, Task};
pub(super) use simulated::Simulated;
pub use vocabulary::DraftModelError;
pub(super) use vocabulary::check;

/// The most guesses for a text in a step.
pub(super) const MOST: usize = 15;

/// What is left of earlier guesses of the draft model after each new one, and after each token of the text.
const KEPT: f64 = 0.97;
const KEPT_A_TOKEN: f64 = 0.998;

/// How many guesses what is known from all texts counts as.
const OTHERS: f64 = 2.0;

/// Where guesses come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Text,
    /// A grammar that lets no others come.
    Grammar,
    Model,
}

/// The guesses of one text.
#[derive(Clone, Debug, Default)]
pub(super) struct Drafter {
    lookup: Lookup,
    luck: Luck,
    rate: Rate,
    /// What was guessed last, and after how many tokens that had been seen before.
    draft: Vec<u32>,
    source: Source,
    matched: usize,
    /// It has read what the model can't compute: no more of that.
    pub(super) off: bool,
    /// The draft model can't read the text.
    pub(super) unreadable: bool,
    /// What the last guesses say of the draft model.
    pub(super) judged: Drafted,
    pub(super) total: Drafted,
}

impl Drafter {
    /// Looks for up to `most` tokens that may come after `tokens` in what has been said, and tells for each how likely
    /// it and all before it are right.
    pub(super) fn look_up(&mut self, tokens: &[u32], most: usize, mut chance: impl FnMut(f64)) {
        self.draft.clear();
        self.source = Source::Text;
        self.luck.forget_a_little();
        self.rate.fade(KEPT_A_TOKEN);
        self.lookup.add(tokens);
        let Some(found) = self.lookup.find(tokens).filter(|_| most > 0 && !self.off) else { return };
        self.matched = found.matched;
        let mut all = 1.0;
        for i in 0..most.min(MOST) {
            // Beyond the end of the text its own guesses go on: a text that repeats itself.
            let at = found.next + i;
            let token = tokens.get(at).or_else(|| self.draft.get(at - tokens.len())).copied();
            self.draft.extend(token);
            all *= self.luck.chance(self.matched + i);
            chance(all);
        }
    }

    /// Takes tokens that come for certain for guesses, so that each is drawn from logits of its own.
    pub(super) fn foretell(&mut self, mut tokens: Vec<u32>, mut chance: impl FnMut(f64)) {
        tokens.truncate(if self.off { 0 } else { MOST });
        tokens.iter().for_each(|_| chance(1.0));
        (self.draft, self.source) = (tokens, Source::Grammar);
    }

    /// How likely a guess of the draft model is right, if guesses in all texts are right so often.
    pub(super) fn chance(&self, everywhere: f64) -> f64 {
        self.rate.chance(everywhere, OTHERS)
    }

    /// Takes guesses of the draft model instead of those that were looked up.
    pub(super) fn take(&mut self, guesses: Vec<u32>) {
        (self.draft, self.source) = (guesses, Source::Model);
    }

    /// What was guessed last.
    pub(super) fn draft(&self) -> &[u32] {
        &self.draft
    }

    /// Notes that `read` guesses were read, of which the first `right` ones were right; the text may have ended with
    /// them.
    pub(super) fn learn(&mut self, read: usize, right: usize, ended: bool) {
        // What follows the first wrong one was never drawn.
        let judged = read.min(right + usize::from(!ended));
        match self.source {
            // That was known.
            Source::Grammar => return,
            Source::Text => (0..judged).for_each(|i| self.luck.note(self.matched + i, i < right)),
            Source::Model => {
                self.judged = Drafted { tokens: judged, accepted: right };
                self.rate.note(self.judged, KEPT);
            }
        }
        self.total.tokens += read;
        self.total.accepted += right;
    }
}
