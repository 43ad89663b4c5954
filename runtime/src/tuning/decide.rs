//! What follows from measurements: whether a candidate is better than what is in use, and when that counts.
//!
//! A machine that does something else meanwhile, or whose memory changes its speed (on virtual machines by half, within
//! seconds), must not lead to a choice that is regretted later. So a candidate has to be clearly better by two measures
//! that are misled by different things, and to be found so twice, some time apart.

/// A candidate takes the default's place if it is faster by this factor.
const GAIN: f64 = 1.05;

/// Candidates within this factor of the best are as good: the first of them is taken.
const EQUAL: f64 = 0.98;

/// A look in which any candidate's typical measurement is so far below its best one was disturbed.
const SETTLED: f64 = 0.75;

/// So many looks have to agree before their finding counts.
const AGREEING: u32 = 2;

/// After so many looks that found no agreement, the default stays.
const MOST_LOOKS: u32 = 8;

/// What a look at the candidates found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// What is in use is right.
    Keep,
    /// Candidate number so and so is better.
    Change(usize),
    /// The machine was too busy to tell.
    Disturbed,
}

/// Judges `rates`, by candidate and then by round, in which the candidates took turns; at least one of each. Numbers
/// `default` and `used` are the default and what is in use.
pub(super) fn judge(rates: &[Vec<f64>], default: usize, used: usize) -> Verdict {
    // Where the machine gave a candidate most of its time once, it can do that.
    let best: Vec<f64> = rates.iter().map(|rates| rates.iter().copied().fold(0.0, f64::max)).collect();
    let top = best.iter().copied().fold(0.0, f64::max);
    let Some(found) = best.iter().position(|&rate| rate >= EQUAL * top) else { return Verdict::Disturbed };
    if rates.iter().zip(&best).any(|(rates, best)| median(rates.iter().copied()) < SETTLED * best) {
        return Verdict::Disturbed;
    }
    let is_clearly_faster = |a: usize, b: usize| {
        // Side by side in time, so that a change of the memory's speed between rounds cancels out.
        let beside = median(rates[a].iter().zip(&rates[b]).map(|(a, b)| a / b));
        best[a] > GAIN * best[b] && beside > GAIN
    };
    let choice = match () {
        () if is_clearly_faster(used, default) && !is_clearly_faster(found, used) => used,
        () if is_clearly_faster(found, default) => found,
        () => default,
    };
    if choice == used { Verdict::Keep } else { Verdict::Change(choice) }
}

/// The median of at least one number, the lower one of two.
fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers[(numbers.len() - 1) / 2]
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Looks in a row that found the same.
    pub(super) agreeing: u32,
    /// All looks.
    pub(super) looks: u32,
}

impl Standing {
    /// After one more look.
    pub(super) fn after(self, verdict: Verdict) -> Standing {
        let agreeing = match verdict {
            Verdict::Keep => self.agreeing + 1,
            Verdict::Change(_) => 1,
            Verdict::Disturbed => self.agreeing,
        };
        Standing { agreeing, looks: self.looks + 1 }
    }

    /// Whether the finding counts; until then the default does.
    pub(super) fn counts(self) -> bool {
        self.agreeing >= AGREEING
    }

    /// Whether there is no need for another look.
    pub(super) fn is_final(self) -> bool {
        self.counts() || self.looks >= MOST_LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 (splitmix64).
    struct Random(u64);
    impl Random {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31) as f64 / u64::MAX as f64
        }
    }

    /// A machine on which the candidates have these speeds. What disturbs it: a share of slices that other programs
    /// slow down, up to four times; and memory that changes between two speeds.
    struct Machine {
        speeds: Vec<f64>,
        busy: f64,
        flips: f64,
        slow: bool,
        random: Random,
    }

    impl Machine {
        fn look(&mut self, used: usize) -> Verdict {
            let mut rates = vec![Vec::new(); self.speeds.len()];
            for _ in 0..5 {
                for (speed, rates) in self.speeds.iter().zip(&mut rates) {
                    if self.random.next() < self.flips {
                        self.slow = !self.slow;
                    }
                    let memory = if self.slow { 0.6 } else { 1.0 };
                    let others = if self.random.next() < self.busy { 1.0 + 3.0 * self.random.next() } else { 1.0 };
                    rates.push(speed * memory / others * (0.99 + 0.02 * self.random.next()));
                }
            }
            judge(&rates, 0, used)
        }

        /// The speed of what is in use in the end, when the first is the default.
        fn choose(&mut self) -> f64 {
            let (mut used, mut standing) = (0, Standing::default());
            while !standing.is_final() {
                let verdict = self.look(used);
                if let Verdict::Change(found) = verdict {
                    assert!(found < self.speeds.len());
                    used = found;
                }
                standing = standing.after(verdict);
            }
            self.speeds[if standing.counts() { used } else { 0 }]
        }
    }

    /// The choices of 1000 machines that differ in chance alone, relative to the default and to the best.
    fn choices(speeds: &[f64], busy: f64, flips: f64) -> (f64, f64) {
        let best = speeds.iter().copied().fold(0.0, f64::max);
        let chosen = (0..1000u64).map(|seed| {
            let random = Random(seed << 32);
            Machine { speeds: speeds.to_vec(), busy, flips, slow: seed % 2 == 0, random }.choose()
        });
        let least = chosen.fold(f64::INFINITY, f64::min);
        (least / speeds[0], least / best)
    }

    const MACHINES: [[f64; 5]; 5] = [
        [45.0, 30.0, 38.0, 43.0, 45.0],
        [40.0, 47.0, 44.0, 41.0, 36.0],
        [40.0, 40.5, 39.5, 40.0, 40.2],
        [30.0, 45.0, 45.0, 50.0, 33.0],
        [50.0, 47.0, 44.0, 41.0, 25.0],
    ];

    #[test]
    fn a_quiet_machine_gets_its_best() {
        for speeds in &MACHINES {
            let (_, of_best) = choices(speeds, 0.0, 0.0);
            assert!(of_best > 0.95, "{speeds:?}: {of_best}");
        }
    }

    #[test]
    fn memory_that_changes_its_speed_leads_to_no_bad_choice() {
        for speeds in &MACHINES {
            let (of_default, _) = choices(speeds, 0.0, 0.04);
            assert!(of_default > 0.95, "{speeds:?}: {of_default}");
        }
    }

    #[test]
    fn a_loaded_machine_loses_nothing_by_looking() {
        for speeds in &MACHINES {
            for busy in [0.05, 0.2, 0.5, 0.9, 1.0] {
                for flips in [0.0, 0.04] {
                    let (of_default, _) = choices(speeds, busy, flips);
                    assert!(of_default > 0.95, "{speeds:?}, {busy} of the slices disturbed: {of_default}");
                }
            }
        }
    }

    #[test]
    fn what_is_in_use_stays_unless_it_is_clearly_worse() {
        let rates = |speeds: [f64; 3]| speeds.map(|speed| vec![speed; 5]);
        assert_eq!(judge(&rates([100.0, 104.9, 103.0]), 0, 0), Verdict::Keep);
        assert_eq!(judge(&rates([100.0, 105.1, 90.0]), 0, 0), Verdict::Change(1));
        // As good as the best, and earlier.
        assert_eq!(judge(&rates([100.0, 119.0, 120.0]), 0, 0), Verdict::Change(1));
        // In use is what was found before: it stays while it is clearly faster than the default.
        assert_eq!(judge(&rates([100.0, 120.0, 116.0]), 0, 2), Verdict::Keep);
        assert_eq!(judge(&rates([100.0, 130.0, 116.0]), 0, 2), Verdict::Change(1));
        assert_eq!(judge(&rates([100.0, 104.0, 103.0]), 0, 2), Verdict::Change(0));
        assert_eq!(judge(&rates([120.0, 119.0, 100.0]), 0, 2), Verdict::Change(0));
    }

    #[test]
    fn a_finding_counts_when_it_was_found_twice() {
        let looks = |verdicts: &[Verdict]| verdicts.iter().fold(Standing::default(), |s, &v| s.after(v));
        use Verdict::*;
        for (verdicts, counts) in [
            (&[Keep][..], false),
            (&[Keep, Keep], true),
            (&[Change(1)], false),
            (&[Change(1), Keep], true),
            (&[Change(1), Change(2)], false),
            (&[Keep, Change(1)], false),
            (&[Change(1), Disturbed, Keep], true),
            (&[Disturbed; 8], false),
        ] {
            assert_eq!(looks(verdicts).counts(), counts, "{verdicts:?}");
        }
        assert!(looks(&[Disturbed; 8]).is_final() && !looks(&[Disturbed; 7]).is_final());
    }
}
