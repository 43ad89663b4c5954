//! Tokens that are read before anybody knows that they come: guesses.
//!
//! A step reads every weight once, for one token of a text or for several: more tokens cost little. So a text's next
//! tokens are guessed (`lookup`), read together with the one before them, and drawn from the logits as ever, one after
//! the other. While what is drawn is what was guessed, the logits after it are there already; what follows the first
//! wrong guess is forgotten. Nothing but time depends on guesses: every token is drawn from the same logits, by the
//! same random numbers, as without them.
//!
//! How many are worth a step is decided by what they have been worth in this text (`luck`) and by what steps have cost
//! on this machine (`cost`).

mod cost;
mod lookup;
mod luck;

use crate::generate::request::Drafted;
pub(super) use cost::Costs;
use lookup::Lookup;
use luck::Luck;

/// The most guesses for a text in a step.
pub(super) const MOST: usize = 15;

/// The guesses of one text.
#[derive(Clone, Debug, Default)]
pub(super) struct Drafter {
    lookup: Lookup,
    luck: Luck,
    /// What was guessed last, and after how many tokens that had been seen before.
    draft: Vec<u32>,
    matched: usize,
    /// Whether that was known, and no guess.
    certain: bool,
    /// It has read what the model can't compute: no more of that.
    pub(super) off: bool,
    pub(super) total: Drafted,
}

impl Drafter {
    /// Guesses up to `most` tokens after `tokens`, and tells for each how likely it and all before it are right.
    pub(super) fn guess(&mut self, tokens: &[u32], most: usize, mut chance: impl FnMut(f64)) {
        self.draft.clear();
        self.certain = false;
        self.luck.forget_a_little();
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
        (self.draft, self.certain) = (tokens, true);
    }

    /// What was guessed last.
    pub(super) fn draft(&self) -> &[u32] {
        &self.draft
    }

    /// Notes that `read` guesses were read, of which the first `right` ones were right; the text may have ended with
    /// them.
    pub(super) fn learn(&mut self, read: usize, right: usize, ended: bool) {
        if self.certain {
            return;
        }
        for i in 0..read.min(right + usize::from(!ended)) {
            self.luck.note(self.matched + i, i < right);
        }
        self.total.tokens += read;
        self.total.accepted += right;
    }
}
