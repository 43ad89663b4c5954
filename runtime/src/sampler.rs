//! From logits to a token: penalties, truncation, temperature, a seeded draw. And where a text stops.
//!
//! The steps and their order are those of llama.cpp's default chain: penalties → top-k → top-p → min-p → temperature →
//! draw. The result is the same on every machine: candidates are ordered by (logit descending, id ascending), sums run
//! in a fixed order in f64, `exp` and `log` are `libm`'s pure-Rust ones, and the generator is written out below.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};

pub use crate::softmax::log_probability;
use crate::softmax::log_sum_exp;

/// How a token is chosen. [`Default`] gives a moderately creative setting with the penalties off.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits before the draw. 0 takes the likeliest token and draws nothing.
    pub temperature: f32,
    /// Keeps the `top_k` likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the fewest likeliest tokens that together have at least this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least `min_p` times as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies other logits of tokens seen lately (Keskar et al., CTRL, 2019); 1 changes
    /// nothing.
    pub repeat_penalty: f32,
    /// Taken from the logit of a token once for each time it was seen lately; 0 changes nothing.
    pub frequency_penalty: f32,
    /// Taken from the logit of a token that was seen lately at all; 0 changes nothing.
    pub presence_penalty: f32,
    /// How many of the last tokens the penalties look at; 0 turns them off.
    pub repeat_last_n: usize,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplerOptions {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
    }

    fn check(&self) -> Result<(), SamplerError> {
        let rules = [
            ("temperature", self.temperature, 0.0..=f32::MAX, "0 (greedy) or more"),
            ("top_p", self.top_p, 0.0..=1.0, "from 0 to 1"),
            ("min_p", self.min_p, 0.0..=1.0, "from 0 to 1"),
            ("repeat_penalty", self.repeat_penalty, f32::MIN_POSITIVE..=f32::MAX, "above 0"),
            ("frequency_penalty", self.frequency_penalty, f32::MIN..=f32::MAX, "a finite number"),
            ("presence_penalty", self.presence_penalty, f32::MIN..=f32::MAX, "a finite number"),
        ];
        for (option, value, range, expected) in rules {
            if !range.contains(&value) {
                return Err(SamplerError::Option { option, value, expected });
            }
        }
        Ok(())
    }

    fn has_penalties(&self) -> bool {
        self.repeat_last_n > 0
            && (self.repeat_penalty != 1.0 || self.frequency_penalty != 0.0 || self.presence_penalty != 0.0)
    }
}

/// Why no token could be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// An option lies outside its range.
    #[error("{option} is {value}, but must be {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was asked for.
        value: f32,
        /// The range.
        expected: &'static str,
    },
    /// A logit is NaN or +∞: the model or the file is broken.
    #[error(
        "the logit of token {id} is {value}, not a finite number: the model's weights are damaged, or this is a bug"
    )]
    Logit {
        /// The token.
        id: u32,
        /// Its logit.
        value: f32,
    },
    /// There are no logits, or all are -∞.
    #[error("no token is possible here ({count} logits, none above -∞)")]
    NoCandidate {
        /// How many logits there were.
        count: usize,
    },
    /// A stop string is empty: every text contains it.
    #[error("a stop string must not be empty")]
    EmptyStop,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    logit: f32,
    id: u32,
}

/// (logit descending, id ascending). The logits are no NaN, so this is total; the zeros of either sign are equal.
fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.id.cmp(&b.id))
}

/// Chooses tokens; remembers those that the penalties look at.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplerOptions,
    random: Xoshiro256PlusPlus,
    /// The last `repeat_last_n` tokens, empty when there are no penalties.
    recent: VecDeque<u32>,
    /// How often each token stands in `recent`.
    counts: HashMap<u32, u32>,
    /// The logits after the penalties.
    penalised: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler at the start of its random sequence.
    ///
    /// # Errors
    /// [`SamplerError::Option`] when an option lies outside its range.
    pub fn new(options: SamplerOptions) -> Result<Sampler, SamplerError> {
        options.check()?;
        let random = Xoshiro256PlusPlus::new(options.seed);
        Ok(Sampler {
            options,
            random,
            recent: VecDeque::new(),
            counts: HashMap::new(),
            penalised: Vec::new(),
            candidates: Vec::new(),
        })
    }

    /// The options.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// Tells the penalties of a token that now stands in the text: each one sampled, and those of the prompt too.
    pub fn accept(&mut self, token: u32) {
        if !self.options.has_penalties() {
            return;
        }
        self.recent.push_back(token);
        *self.counts.entry(token).or_insert(0) += 1;
        if self.recent.len() > self.options.repeat_last_n
            && let Some(old) = self.recent.pop_front()
            && let Some(count) = self.counts.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&old);
            }
        }
    }

    /// The next token. `logits[id]` belongs to token `id`; -∞ excludes a token.
    ///
    /// # Errors
    /// [`SamplerError::Logit`] for NaN or +∞, [`SamplerError::NoCandidate`] when nothing is possible.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplerError> {
        // Without a branch per element, so that the compiler can use vectors: there may be 128 k of them.
        if !logits.iter().fold(true, |good, &l| good & is_possible(l)) {
            let id = logits.iter().position(|&l| !is_possible(l)).unwrap_or(0);
            return Err(SamplerError::Logit { id: id as u32, value: logits[id] });
        }
        let mut penalised = std::mem::take(&mut self.penalised);
        let logits = if self.counts.is_empty() { logits } else { self.penalise(logits, &mut penalised) };
        let token = if self.options.temperature == 0.0 { likeliest(logits) } else { self.draw(logits) };
        let count = logits.len();
        self.penalised = penalised;
        token.ok_or(SamplerError::NoCandidate { count })
    }

    /// As ggml's `llama_sampler_penalties`: `l ← l > 0 ? l / repeat : l · repeat`, then `l ← l − (count · frequency +
    /// presence)`.
    fn penalise<'a>(&self, logits: &[f32], out: &'a mut Vec<f32>) -> &'a [f32] {
        let o = &self.options;
        out.clear();
        out.extend_from_slice(logits);
        for (&id, &count) in &self.counts {
            if let Some(l) = out.get_mut(id as usize) {
                let scaled = if *l > 0.0 { *l / o.repeat_penalty } else { *l * o.repeat_penalty };
                let penalised = scaled - (count as f32 * o.frequency_penalty + o.presence_penalty);
                // Penalties at the edge of f32's range: a NaN or +∞ of our own making must not enter the sort.
                *l = if penalised.is_nan() { f32::NEG_INFINITY } else { penalised.min(f32::MAX) };
            }
        }
        out
    }

    /// Draws one of the candidates that the truncations leave.
    fn draw(&mut self, logits: &[f32]) -> Option<u32> {
        self.collect(logits);
        if self.candidates.is_empty() {
            return None;
        }
        self.truncate();
        let candidates = &self.candidates;
        let (max, temperature) = (f64::from(candidates[0].logit), f64::from(self.options.temperature));
        let weight = |c: &Candidate| libm::exp((f64::from(c.logit) - max) / temperature);
        let target = self.random.uniform() * candidates.iter().map(weight).sum::<f64>();
        let mut sum = 0.0;
        let drawn = candidates.iter().find(|c| {
            sum += weight(c);
            sum > target
        });
        // Rounding may leave the sum a hair below the target; then it is the last one's turn.
        drawn.or(candidates.last()).map(|c| c.id)
    }

    /// Top-k: makes the likeliest tokens above -∞ the candidates, sorted when fewer than all.
    ///
    /// One pass with a bar that rises: whoever is not above the `top_k`-th best so far cannot be among the best, since
    /// among equals the lower id wins and ids ascend.
    fn collect(&mut self, logits: &[f32]) {
        let (k, candidates) = (self.options.top_k, &mut self.candidates);
        candidates.clear();
        let all = k == 0 || k >= logits.len();
        let mut bar = f32::NEG_INFINITY;
        for (&logit, id) in logits.iter().zip(0..) {
            if logit > bar {
                candidates.push(Candidate { logit, id });
                if !all && candidates.len() == 2 * k {
                    bar = candidates.select_nth_unstable_by(k - 1, by_likelihood).1.logit;
                    candidates.truncate(k);
                }
            }
        }
        if !all {
            candidates.sort_unstable_by(by_likelihood);
            candidates.truncate(k);
        }
    }

    /// Top-p and min-p. Afterwards the candidates are sorted, and at least one is left.
    ///
    /// Most of a vocabulary need not be sorted. Min-p cuts a tail of the sorted candidates, and top-p's sum is taken
    /// before it cuts, so the two may change places. And what lies below the `n`-th part of the probability that top-p
    /// may leave out is left out: all of it together is less than that.
    fn truncate(&mut self) {
        let o = &self.options;
        let candidates = &mut self.candidates;
        let max = f64::from(candidates.iter().fold(f32::NEG_INFINITY, |max, c| max.max(c.logit)));
        let weight = |c: &Candidate| libm::exp(f64::from(c.logit) - max);
        let mut total = 0.0;
        let mut least = max + libm::log(f64::from(o.min_p));
        if o.top_p < 1.0 {
            total = candidates.iter().map(weight).sum();
            // Half of it, so that rounding has no say.
            let negligible = 0.5 * (1.0 - f64::from(o.top_p)) * total / candidates.len() as f64;
            least = least.max(max + libm::log(negligible));
        }
        candidates.retain(|c| f64::from(c.logit) >= least);
        candidates.sort_unstable_by(by_likelihood);
        if o.top_p < 1.0 {
            let target = f64::from(o.top_p) * total;
            let mut sum = 0.0;
            let enough = candidates.iter().position(|c| {
                sum += weight(c);
                sum >= target
            });
            candidates.truncate(enough.map_or(usize::MAX, |last| last + 1));
        }
    }
}

/// False for +∞ and, as every comparison with it, for NaN.
fn is_possible(logit: f32) -> bool {
    logit < f32::INFINITY
}

/// The id with the greatest logit above -∞, the lowest id among equals.
fn likeliest(logits: &[f32]) -> Option<u32> {
    let (mut best, mut max) = (None, f32::NEG_INFINITY);
    for (&logit, id) in logits.iter().zip(0..) {
        if logit > max {
            (best, max) = (Some(id), logit);
        }
    }
    best
}

/// The `k` likeliest tokens with their log probabilities, by (logit descending, id ascending).
pub fn top_log_probabilities(logits: &[f32], k: usize) -> Vec<(u32, f64)> {
    let norm = log_sum_exp(logits);
    let mut candidates: Vec<_> = logits.iter().zip(0..).map(|(&logit, id)| Candidate { logit, id }).collect();
    candidates.retain(|c| !c.logit.is_nan());
    if k > 0 && k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, by_likelihood);
    }
    candidates.truncate(k);
    candidates.sort_unstable_by(by_likelihood);
    candidates.iter().map(|c| (c.id, f64::from(c.logit) - norm)).collect()
}

/// xoshiro256++ 1.0 by David Blackman and Sebastiano Vigna (<https://prng.di.unimi.it>), its state filled by SplitMix64
/// as its authors advise.
#[derive(Clone, Debug)]
pub struct Xoshiro256PlusPlus {
    state: [u64; 4],
}

impl Xoshiro256PlusPlus {
    /// The generator for a seed.
    pub fn new(mut seed: u64) -> Self {
        let mut split_mix = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Xoshiro256PlusPlus { state: [split_mix(), split_mix(), split_mix(), split_mix()] }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// Watches streamed text for stop strings. Holds back what may turn out to be the beginning of one.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

impl StopMatcher {
    /// A matcher for these strings; none at all lets everything pass.
    ///
    /// # Errors
    /// [`SamplerError::EmptyStop`].
    pub fn new(stops: impl IntoIterator<Item = String>) -> Result<StopMatcher, SamplerError> {
        let stops: Vec<String> = stops.into_iter().collect();
        if stops.iter().any(String::is_empty) {
            return Err(SamplerError::EmptyStop);
        }
        Ok(StopMatcher { stops, held: String::new() })
    }

    /// Takes the next piece of text; gives what is certain to come before any stop string, and whether one has been
    /// reached.
    ///
    /// Of several stop strings, the one that is complete first counts, and of those that end together the longest; so
    /// it does not matter in which pieces the text arrives. After a stop, call nothing more.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let matches =
            self.stops.iter().filter_map(|s| self.held.find(s.as_str()).map(|start| (start + s.len(), start)));
        if let Some((_, start)) = matches.min() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let hold = self.stops.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - hold);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text still held back, when there is no more to come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest proper prefix of `stop` that `text` ends with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published outputs of the reference implementations: SplitMix64 (Rosetta Code's vector for seed 1234567) and
    /// xoshiro256++ (the vector in `rand_xoshiro`'s tests, from the authors' C code with state 1, 2, 3, 4).
    #[test]
    fn generator_gives_the_published_numbers() {
        assert_eq!(
            Xoshiro256PlusPlus::new(1234567).state,
            [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
        );
        let mut random = Xoshiro256PlusPlus { state: [1, 2, 3, 4] };
        let expected = [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
            9973669472204895162,
            14011001112246962877,
            12406186145184390807,
            15849039046786891736,
            10450023813501588000,
        ];
        assert_eq!(expected.map(|_| random.next()), expected);
    }

    #[test]
    fn overlap_never_cuts_a_character() {
        assert_eq!(overlap("über", "r!"), 1);
        assert_eq!(
            overlap("a\u{e9}", "\u{e8}x"),
            0,
            "a shared first byte of another character is no overlap that splits it"
        );
    }
}
