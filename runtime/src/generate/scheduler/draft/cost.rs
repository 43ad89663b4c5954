//! What steps have cost on this machine by the tokens in them, and how many guesses are worth it.

use std::time::Duration;

use crate::generate::scheduler::pace::Recent;

/// The most tokens of a step whose cost is remembered, and so the most of a step with guesses.
const MOST_ROWS: usize = 32;

/// What a token more is thought to cost where nothing was measured, as a share of the step.
const FIRST_THOUGHT: f64 = 0.03;

/// After this many steps a measurement counts for nothing less than [`FADED`] of itself: it may have been bad luck, and
/// what looks cheaper is tried again.
const FADES: f64 = 600.0;
const FADED: f64 = 0.3;

/// How much faster guesses must promise to be.
const WORTH: f64 = 1.01;

/// Seconds of steps by the number of their tokens.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    rows: Vec<(Recent, u64)>,
    steps: u64,
}

impl Costs {
    pub(crate) fn new() -> Costs {
        Costs { rows: vec![(Recent::default(), 0); MOST_ROWS + 1], steps: 0 }
    }

    /// Notes what a step of so many tokens has cost.
    pub(crate) fn observe(&mut self, rows: usize, time: Duration) {
        self.steps += 1;
        if let Some((recent, at)) = self.rows.get_mut(rows) {
            recent.push(time.as_secs_f64());
            *at = self.steps;
        }
    }

    /// What was measured for so many tokens.
    fn measured(&self, rows: usize) -> Option<f64> {
        let (recent, at) = &self.rows[rows];
        let age = (self.steps - at) as f64;
        recent.median().map(|median| median * (1.0 - FADED * (age / FADES).min(1.0)))
    }

    /// Seconds of a step of so many tokens: measured, between what was measured, or a guess.
    fn estimate(&self, rows: usize) -> f64 {
        let below = (0..=rows).rev().find_map(|r| Some((r, self.measured(r)?)));
        let above = (rows..=MOST_ROWS).find_map(|r| Some((r, self.measured(r)?)));
        match (below, above) {
            (Some((r, cost)), _) if r == rows => cost,
            (Some((low, less)), Some((high, more))) => less + (more - less) * (rows - low) as f64 / (high - low) as f64,
            (Some((low, less)), None) => less * (1.0 + FIRST_THOUGHT * (rows - low) as f64),
            (None, Some((_, more))) => more,
            (None, None) => 1.0 + FIRST_THOUGHT * rows as f64,
        }
    }

    /// How many of the guesses are worth it beside `rows` tokens that are read anyway. `chances` of being right are
    /// in descending order.
    pub(crate) fn worth(&self, rows: usize, chances: impl Iterator<Item = f64>) -> usize {
        if rows == 0 || rows > MOST_ROWS {
            return 0;
        }
        let mut best = (WORTH * rows as f64 / self.estimate(rows), 0);
        let mut tokens = rows as f64;
        for (i, chance) in chances.take(MOST_ROWS - rows).enumerate() {
            tokens += chance;
            let speed = tokens / self.estimate(rows + i + 1);
            if speed > best.0 {
                best = (speed, i + 1);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose steps cost `base` and `row` for each token.
    fn costs(base: f64, row: f64, measured: &[usize]) -> Costs {
        let mut costs = Costs::new();
        for _ in 0..7 {
            measured.iter().for_each(|&rows| costs.observe(rows, Duration::from_secs_f64(base + row * rows as f64)));
        }
        costs
    }

    #[test]
    fn guesses_are_taken_where_they_pay() {
        let all: Vec<usize> = (1..=MOST_ROWS).collect();
        let chances = |p: f64| (1..=15).map(move |i| p.powi(i));
        // Where memory is all, good guesses are all taken, and bad ones only as far as they are likely.
        let memory = costs(0.02, 1e-5, &all);
        assert_eq!(memory.worth(1, chances(0.99)), 15);
        assert!((1..8).contains(&memory.worth(1, chances(0.3))));
        assert_eq!(memory.worth(1, chances(0.001)), 0);
        // Where every token costs its own, none.
        let arithmetic = costs(0.0, 0.02, &all);
        assert_eq!(arithmetic.worth(1, chances(0.95)), 0);
        assert_eq!(memory.worth(MOST_ROWS, chances(0.99)), 0);
        assert_eq!(memory.worth(0, chances(0.99)), 0);
    }

    #[test]
    fn what_was_not_measured_is_tried_and_what_was_bad_is_tried_again() {
        assert!(Costs::new().worth(1, [0.9, 0.8].into_iter()) > 0);
        let mut costs = costs(0.02, 1e-5, &[1]);
        assert_eq!(costs.worth(1, [0.5].into_iter()), 1);
        (0..7).for_each(|_| costs.observe(2, Duration::from_millis(40)));
        assert_eq!(costs.worth(1, [0.5].into_iter()), 0);
        assert_eq!(costs.worth(1, [0.9].into_iter()), 0);
        (0..600).for_each(|_| costs.observe(1, Duration::from_millis(20)));
        assert_eq!(costs.worth(1, [0.9].into_iter()), 1);
    }
}
