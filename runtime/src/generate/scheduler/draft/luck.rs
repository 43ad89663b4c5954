//! How often guesses have been right: chances. Those from the text by how many tokens had matched before them, those of
//! a draft model by themselves.

use crate::generate::request::Drafted;

/// Classes of matches: 2 tokens, 3 and 4, 5 to 8, more.
const CLASSES: usize = 4;

/// What is thought before anything was tried.
const BEFORE: [f64; CLASSES] = [0.4, 0.5, 0.7, 0.85];

/// What is left of earlier guesses of a class after each new one,
const KEPT: f64 = 0.9;

/// and after each token of the text: who was wrong all the time has another chance after some hundred.
const KEPT_A_TOKEN: f64 = 0.99;

/// The guesses of a text so far, those of long ago counting less.
#[derive(Clone, Debug, Default)]
pub(super) struct Luck {
    tried: [f64; CLASSES],
    right: [f64; CLASSES],
}

fn class(matched: usize) -> usize {
    match matched {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    }
}

impl Luck {
    /// How likely a guess is right when so many tokens before it are the same.
    pub(super) fn chance(&self, matched: usize) -> f64 {
        let class = class(matched);
        (self.right[class] + BEFORE[class]) / (self.tried[class] + 1.0)
    }

    /// Notes whether a guess was right.
    pub(super) fn note(&mut self, matched: usize, right: bool) {
        let class = class(matched);
        self.tried[class] = self.tried[class] * KEPT + 1.0;
        self.right[class] = self.right[class] * KEPT + f64::from(u8::from(right));
    }

    /// One more token is there.
    pub(super) fn forget_a_little(&mut self) {
        self.tried.iter_mut().chain(&mut self.right).for_each(|count| *count *= KEPT_A_TOKEN);
    }
}

/// How often guesses of a draft model were right, those of long ago counting less.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    tried: f64,
    right: f64,
}

impl Rate {
    /// How likely a guess is right, if `before` is thought where nothing was tried, with the weight of so many guesses.
    pub(crate) fn chance(&self, before: f64, weight: f64) -> f64 {
        (self.right + before * weight) / (self.tried + weight)
    }

    /// Notes some guesses; after each of them the earlier ones keep so much of their weight.
    pub(crate) fn note(&mut self, guesses: Drafted, kept: f64) {
        let (tried, right) = (guesses.tokens as f64, guesses.accepted as f64);
        self.fade(kept.powf(tried));
        self.tried += tried;
        self.right += right;
    }

    /// All guesses so far keep so much of their weight.
    pub(crate) fn fade(&mut self, kept: f64) {
        self.tried *= kept;
        self.right *= kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_follow_what_happens_and_come_back_in_time() {
        let mut luck = Luck::default();
        assert_eq!((luck.chance(2), luck.chance(30)), (BEFORE[0], BEFORE[3]));
        (0..20).for_each(|_| luck.note(2, false));
        assert!(luck.chance(2) < 0.05 && luck.chance(3) == BEFORE[1]);
        (0..300).for_each(|_| luck.forget_a_little());
        assert!(luck.chance(2) > 0.25);
        (0..20).for_each(|_| luck.note(2, true));
        assert!(luck.chance(2) > 0.9);
    }

    #[test]
    fn a_rate_follows_what_happens() {
        let mut rate = Rate::default();
        assert_eq!(rate.chance(0.7, 2.0), 0.7);
        (0..300).for_each(|i| rate.note(Drafted { tokens: 2, accepted: i % 2 }, 0.97));
        assert!((rate.chance(0.7, 2.0) - 0.25).abs() < 0.05);
        rate.fade(0.01);
        assert!(rate.chance(0.7, 2.0) > 0.5);
    }
}
