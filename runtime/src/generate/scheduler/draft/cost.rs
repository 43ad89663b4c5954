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

/// A guess that a step may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// How likely it is right, with those before it.
    pub(crate) chance: f64,
    /// Number of its text.
    pub(crate) text: usize,
    /// If a draft model makes it: the number of that model's step, and how many tokens it reads there for it.
    pub(crate) draft: Option<(usize, usize)>,
}

/// Which guesses to take: the first so many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) take: usize,
    /// Tokens per second with them, and without.
    pub(crate) speed: f64,
    pub(crate) plain: f64,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs { rows: vec![(Recent::default(), 0); MOST_ROWS + 1], steps: 0 }
    }
}

impl Costs {
    /// Notes what a step of so many tokens has cost.
    pub(crate) fn observe(&mut self, rows: usize, time: Duration) {
        self.steps += 1;
        if let Some((recent, at)) = self.rows.get_mut(rows) {
            recent.push(time.as_secs_f64());
            *at = self.steps;
        }
    }

    /// A step has gone by without one of these: what was measured grows older.
    pub(crate) fn age(&mut self) {
        self.steps += 1;
    }

    /// What was measured for so many tokens.
    fn measured(&self, rows: usize) -> Option<f64> {
        let (recent, at) = self.rows.get(rows)?;
        let age = (self.steps - at) as f64;
        recent.settled().map(|cost| cost * (1.0 - FADED * (age / FADES).min(1.0)))
    }

    /// Whether anything was measured for so many tokens or fewer.
    pub(crate) fn knows(&self, rows: usize) -> bool {
        (1..=rows).any(|rows| self.measured(rows).is_some())
    }

    /// Seconds of a step of so many tokens: measured, between what was measured, or a guess.
    pub(crate) fn estimate(&self, rows: usize) -> f64 {
        let below = (0..=rows.min(MOST_ROWS)).rev().find_map(|r| Some((r, self.measured(r)?)));
        let above = (rows..=MOST_ROWS).find_map(|r| Some((r, self.measured(r)?)));
        match (below, above) {
            (Some((r, cost)), _) if r == rows => cost,
            (Some((low, less)), Some((high, more))) => less + (more - less) * (rows - low) as f64 / (high - low) as f64,
            (Some((low, less)), None) => less * (1.0 + FIRST_THOUGHT * (rows - low) as f64),
            (None, Some((_, more))) => more,
            (None, None) => 1.0 + FIRST_THOUGHT * rows as f64,
        }
    }

    /// Which of `offers` are worth it beside `rows` tokens that are read anyway. They stand in descending order of
    /// their chances; the steps of a draft model have these costs.
    pub(crate) fn plan(&self, rows: usize, offers: &[Offer], draft: Option<&Costs>) -> Plan {
        if rows == 0 || rows > MOST_ROWS {
            return Plan { take: 0, speed: 0.0, plain: 0.0 };
        }
        let plain = rows as f64 / self.estimate(rows);
        let mut best = Plan { take: 0, speed: plain, plain };
        let (mut tokens, mut drafting) = (rows as f64, Drafting::new(draft));
        for (i, offer) in offers.iter().take(MOST_ROWS - rows).enumerate() {
            tokens += offer.chance;
            offer.draft.iter().for_each(|&(step, rows)| drafting.add(step, rows));
            let speed = tokens / (self.estimate(rows + i + 1) + drafting.seconds);
            let least = if best.take == 0 { WORTH * plain } else { best.speed };
            if speed > least {
                best = Plan { take: i + 1, speed, plain };
            }
        }
        best
    }
}

/// What the steps of a draft model take.
struct Drafting<'a> {
    costs: Option<&'a Costs>,
    /// Tokens of each step.
    steps: Vec<usize>,
    seconds: f64,
}

impl<'a> Drafting<'a> {
    /// Without a measurement they take nothing: they are tried.
    fn new(costs: Option<&'a Costs>) -> Drafting<'a> {
        Drafting { costs: costs.filter(|costs| costs.knows(MOST_ROWS)), steps: Vec::new(), seconds: 0.0 }
    }

    /// Step number `step` has so many tokens more.
    fn add(&mut self, step: usize, rows: usize) {
        let Some(costs) = self.costs else { return };
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        let before = if self.steps[step] == 0 { 0.0 } else { costs.estimate(self.steps[step]) };
        self.steps[step] += rows;
        self.seconds += costs.estimate(self.steps[step]) - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose steps cost `base` and `row` for each token.
    fn costs(base: f64, row: f64, measured: &[usize]) -> Costs {
        let mut costs = Costs::default();
        for _ in 0..7 {
            measured.iter().for_each(|&rows| costs.observe(rows, Duration::from_secs_f64(base + row * rows as f64)));
        }
        costs
    }

    /// How many guesses of these chances are taken; a draft model with these costs makes them, if one does.
    fn taken(costs: &Costs, rows: usize, chances: &[f64], draft: Option<&Costs>) -> usize {
        let offer = |(i, &chance)| Offer { chance, text: 0, draft: draft.map(|_| (i, 1)) };
        costs.plan(rows, &chances.iter().enumerate().map(offer).collect::<Vec<_>>(), draft).take
    }

    fn powers(p: f64) -> Vec<f64> {
        (1..=15).map(|i| p.powi(i)).collect()
    }

    #[test]
    fn guesses_are_taken_where_they_pay() {
        let all: Vec<usize> = (1..=MOST_ROWS).collect();
        // Where memory is all, good guesses are all taken, and bad ones only as far as they are likely.
        let memory = costs(0.02, 1e-5, &all);
        assert_eq!(taken(&memory, 1, &powers(0.99), None), 15);
        assert!((1..8).contains(&taken(&memory, 1, &powers(0.3), None)));
        assert_eq!(taken(&memory, 1, &powers(0.001), None), 0);
        // Where every token costs its own, none.
        let arithmetic = costs(0.0, 0.02, &all);
        assert_eq!(taken(&arithmetic, 1, &powers(0.95), None), 0);
        assert_eq!(taken(&memory, MOST_ROWS, &powers(0.99), None), 0);
        assert_eq!(taken(&memory, 0, &powers(0.99), None), 0);
    }

    #[test]
    fn what_was_not_measured_is_tried_and_what_was_bad_is_tried_again() {
        assert!(taken(&Costs::default(), 1, &[0.9, 0.8], None) > 0);
        let mut costs = costs(0.02, 1e-5, &[1]);
        assert_eq!(taken(&costs, 1, &[0.5], None), 1);
        (0..7).for_each(|_| costs.observe(2, Duration::from_millis(40)));
        assert_eq!(taken(&costs, 1, &[0.5], None), 0);
        assert_eq!(taken(&costs, 1, &[0.9], None), 0);
        (0..600).for_each(|_| costs.observe(1, Duration::from_millis(20)));
        assert_eq!(taken(&costs, 1, &[0.9], None), 1);
    }

    /// The first step of a kind may have waited for memory.
    #[test]
    fn one_bad_measurement_decides_nothing() {
        let mut costs = costs(0.02, 1e-5, &[1]);
        costs.observe(2, Duration::from_millis(200));
        assert_eq!(taken(&costs, 1, &[0.5], None), 1);
        costs.observe(2, Duration::from_millis(21));
        assert_eq!(taken(&costs, 1, &[0.5], None), 1);
        let mut draft = Costs::default();
        draft.observe(1, Duration::from_millis(200));
        assert_eq!(taken(&costs, 1, &[0.5], Some(&draft)), 1);
        draft.observe(1, Duration::from_millis(200));
        assert_eq!(taken(&costs, 1, &[0.5], Some(&draft)), 0);
    }

    /// The steps of a draft model have to pay: a model of a third of the cost for good guesses, and for the first of
    /// several texts together.
    #[test]
    fn a_draft_model_is_asked_where_it_pays() {
        let all: Vec<usize> = (1..=MOST_ROWS).collect();
        let memory = costs(0.03, 1e-5, &all);
        let (third, twelfth) = (costs(0.01, 1e-5, &all), costs(0.0025, 1e-5, &all));
        assert_eq!(taken(&memory, 1, &powers(0.7), Some(&third)), 2);
        assert_eq!(taken(&memory, 1, &powers(0.7), Some(&twelfth)), 4);
        assert_eq!(taken(&memory, 1, &powers(0.3), Some(&third)), 0);
        assert!(taken(&memory, 1, &powers(0.3), Some(&twelfth)) > 0);
        // What is not known is tried.
        assert!(taken(&memory, 1, &powers(0.3), Some(&Costs::default())) > 0);
        // Four texts share the steps.
        let offers: Vec<Offer> = (0..4).map(|text| Offer { chance: 0.4, text, draft: Some((0, 1)) }).collect();
        assert_eq!(memory.plan(1, &offers[..1], Some(&third)).take, 1);
        let dear = costs(0.014, 1e-5, &all);
        assert_eq!(memory.plan(1, &offers[..1], Some(&dear)).take, 0);
        assert_eq!(memory.plan(4, &offers, Some(&third)).take, 4);
    }

    #[test]
    fn many_tokens_at_once_have_a_cost_too() {
        let costs = costs(0.02, 1e-3, &[1, 16]);
        assert!(costs.estimate(100) > costs.estimate(16));
        assert!(costs.knows(1) && !Costs::default().knows(MOST_ROWS));
    }
}
