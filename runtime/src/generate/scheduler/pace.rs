//! How much of a prompt fits into a step: what tokens have cost lately, on this machine, under its load.

use std::time::Duration;

use crate::config::Config;

/// The fewest tokens of a prompt that are worth a step: beside decodes they cost little more than one.
const LEAST: usize = 16;

/// A piece has at most so many times the tokens of the largest one so far: the first guess may be wrong.
const GROWTH: usize = 2;

/// While nothing is being written a piece may take so many times the target: newcomers wait for it.
const ALONE: f64 = 20.0;

/// How many times as much a multiplication of attention costs as one of the weights' products.
const ATTENTION_COST: f64 = 4.0;

/// The last few measurements, of which the median counts: a step that the machine held up changes nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    values: [f64; 7],
    len: usize,
    next: usize,
}

impl Recent {
    pub(super) fn push(&mut self, value: f64) {
        self.values[self.next] = value;
        self.next = (self.next + 1) % self.values.len();
        self.len = (self.len + 1).min(self.values.len());
    }

    pub(super) fn median(&self) -> Option<f64> {
        let mut values = self.values;
        let values = &mut values[..self.len];
        values.sort_by(f64::total_cmp);
        values.get(self.len / 2).copied()
    }

    /// As [`Recent::median`], for what may have cost more the first time, when memory was new: one measurement says
    /// nothing yet, and of two the less counts.
    pub(super) fn settled(&self) -> Option<f64> {
        let mut values = self.values;
        let values = &mut values[..self.len];
        values.sort_by(f64::total_cmp);
        values.get((self.len.max(1) - 1) / 2).copied().filter(|_| self.len > 1)
    }
}

/// A model of the time that a step takes: that of its decodes, and some for each token of a prompt, which grows with
/// the token's position, since attention looks at all positions before it.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Seconds; 0 for no target.
    target: f64,
    /// The position from which on attention costs more than everything else.
    knee: f64,
    /// Seconds of steps without a piece, by the logarithm of the number of texts.
    decode: [Recent; 8],
    /// Seconds for each unit of work.
    unit: Recent,
    /// The largest piece so far.
    largest: usize,
}

fn bucket(decodes: usize) -> usize {
    (decodes.max(1).ilog2() as usize).min(7)
}

impl Pace {
    pub(super) fn new(config: &Config, target: Duration) -> Pace {
        let (hidden, heads) = (config.hidden as f64, (config.heads * config.head_dim) as f64);
        let kv = (config.kv_heads * config.head_dim) as f64;
        let products = hidden * (2.0 * heads + 2.0 * kv + 3.0 * config.feed_forward_of_token() as f64);
        let knee = products / (2.0 * heads * ATTENTION_COST);
        let (decode, unit) = (Default::default(), Recent::default());
        Pace { target: target.as_secs_f64(), knee, decode, unit, largest: 0 }
    }

    /// The work of reading `tokens` tokens after `depth` others, in units of a token at the beginning of a text.
    pub(super) fn work(&self, depth: usize, tokens: usize) -> f64 {
        let tokens = tokens as f64;
        tokens * (1.0 + (depth as f64 + tokens / 2.0) / self.knee)
    }

    /// Seconds of a step that takes one token of so many texts and nothing else: measured, or of the nearest smaller
    /// number that was.
    fn decode(&self, decodes: usize) -> f64 {
        if decodes == 0 {
            return 0.0;
        }
        let smaller = self.decode[..=bucket(decodes)].iter().rev();
        let larger = self.decode[bucket(decodes)..].iter();
        smaller.chain(larger).find_map(Recent::median).unwrap_or(0.0)
    }

    /// The work for which a step has time beside the next tokens of `decodes` texts.
    pub(super) fn room(&self, decodes: usize) -> f64 {
        if self.target == 0.0 {
            return f64::INFINITY;
        }
        let Some(unit) = self.unit.median() else {
            // Nothing is known yet. Where nobody waits for it, the first piece may be any.
            return if decodes == 0 { f64::INFINITY } else { LEAST as f64 };
        };
        let time = if decodes == 0 { ALONE * self.target } else { self.target - self.decode(decodes) };
        (time / unit).max(0.0)
    }

    /// The most tokens after `depth` others that are worth `room`, at most `most`: at least a few.
    pub(super) fn tokens(&self, room: f64, depth: usize, decodes: usize, most: usize) -> usize {
        let mut most = most;
        if decodes > 0 && self.target > 0.0 {
            most = most.min((GROWTH * self.largest).max(2 * LEAST));
        }
        if room == f64::INFINITY {
            return most;
        }
        // tokens (1 + (depth + tokens / 2) / knee) = room
        let slope = self.knee + depth as f64;
        let tokens = (slope * slope + 2.0 * self.knee * room).sqrt() - slope;
        let whole = tokens as usize / LEAST * LEAST;
        whole.max(LEAST).min(most)
    }

    /// Notes what a step has cost: one of `decodes` texts' next tokens, and pieces of prompts of `tokens` tokens and so
    /// much `work` together.
    pub(super) fn observe(&mut self, decodes: usize, tokens: usize, work: f64, time: Duration) {
        let time = time.as_secs_f64();
        if tokens == 0 {
            self.decode[bucket(decodes)].push(time);
            return;
        }
        // The decodes are cheaper in company than alone, or their measurement is old: something is left for the piece.
        self.unit.push((time - self.decode(decodes)).max(0.2 * time) / work);
        self.largest = self.largest.max(tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(100);

    /// A machine of its own: seconds of a step by a formula, and noise.
    struct Machine {
        /// Seconds of a token at the beginning of a text.
        token: f64,
        /// Seconds of a step that reads all weights for a few tokens.
        weights: f64,
        /// The position at which attention doubles a token's time.
        knee: f64,
        random: u64,
    }

    impl Machine {
        /// The time of a step without noise.
        fn step(&self, decodes: usize, depth: usize, tokens: usize) -> f64 {
            let depth = depth as f64 + tokens as f64 / 2.0;
            self.weights.max(self.token * (decodes as f64 + tokens as f64 * (1.0 + depth / self.knee)))
        }

        /// What a clock shows for it: now and then a step is held up, ten times as long.
        fn noisy(&mut self, time: f64) -> Duration {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (self.random >> 33) as f64 / (1u64 << 31) as f64;
            Duration::from_secs_f64(if number > 0.9 { 10.0 * time } else { time * (0.9 + 0.25 * number) })
        }
    }

    fn pace(knee: f64) -> Pace {
        Pace { target: TARGET.as_secs_f64(), knee, decode: Default::default(), unit: Recent::default(), largest: 0 }
    }

    /// From a fast desktop to something that reads 150 tokens in a second, with attention dearer or cheaper than
    /// thought: while a prompt of 8,000 tokens is read beside four texts, no step takes twice the target, and from the
    /// tenth on most of the time is used.
    #[test]
    fn pieces_take_the_time_they_may_take_on_any_machine_under_noise() {
        for (token, weights) in [(0.1e-3, 3e-3), (1.1e-3, 22e-3), (2.5e-3, 30e-3), (6.6e-3, 60e-3)] {
            for knee in [1500.0, 4000.0, 12000.0] {
                let mut machine = Machine { token, weights, knee, random: 1 };
                let mut pace = pace(4000.0);
                for _ in 0..20 {
                    let time = machine.step(4, 0, 0);
                    pace.observe(4, 0, 0.0, machine.noisy(time));
                }
                let (mut depth, mut times) = (0, Vec::new());
                while depth < 8000 {
                    let tokens = pace.tokens(pace.room(4), depth, 4, 512);
                    let time = machine.step(4, depth, tokens);
                    // Even the fewest tokens may take longer than that.
                    let least = machine.step(4, depth, LEAST);
                    let what = format!("{token} s, knee {knee}: {tokens} tokens at {depth} take {time} s");
                    assert!(time < (2.0 * pace.target).max(least * 1.001), "{what}");
                    times.push(if tokens == 512 || tokens == LEAST { pace.target } else { time });
                    pace.observe(4, tokens, pace.work(depth, tokens), machine.noisy(time));
                    depth += tokens;
                }
                let late = &times[times.len().min(10)..];
                let mean = late.iter().sum::<f64>() / late.len().max(1) as f64;
                assert!(late.is_empty() || mean > 0.6 * pace.target, "{token} s, knee {knee}: {mean} s");
            }
        }
    }

    /// The machine becomes three times slower: a few steps later pieces are smaller.
    #[test]
    fn pieces_follow_the_machine() {
        let mut machine = Machine { token: 1e-3, weights: 20e-3, knee: 4000.0, random: 5 };
        let mut pace = pace(4000.0);
        let mut read = |machine: &mut Machine, steps: usize| {
            let mut tokens = 0;
            for _ in 0..steps {
                tokens = pace.tokens(pace.room(2), 0, 2, 512);
                let time = Duration::from_secs_f64(machine.step(2, 0, tokens));
                pace.observe(2, tokens, pace.work(0, tokens), time);
            }
            tokens
        };
        let fast = read(&mut machine, 20);
        machine.token *= 3.0;
        let slow = read(&mut machine, 6);
        assert!((64..=112).contains(&fast) && (16..=32).contains(&slow), "{fast} tokens, then {slow}");
    }

    #[test]
    fn a_prompt_alone_and_a_scheduler_without_a_target_read_whole_pieces() {
        let mut pace = pace(4000.0);
        assert_eq!(pace.tokens(pace.room(0), 0, 0, 512), 512);
        pace.observe(0, 512, pace.work(0, 512), Duration::from_millis(600));
        assert_eq!(pace.tokens(pace.room(0), 512, 0, 512), 512);
        assert!(pace.tokens(pace.room(1), 512, 1, 512) < 128);
        // A machine so slow that newcomers would wait for a minute.
        (0..7).for_each(|_| pace.observe(0, 512, pace.work(0, 512), Duration::from_secs(60)));
        assert!(pace.tokens(pace.room(0), 512, 0, 512) < 64);
        pace.target = 0.0;
        assert_eq!(pace.tokens(pace.room(8), 512, 8, 512), 512);
    }
}
