//! What was measured.

use quipu_quant::TensorType;
use quipu_runtime::Isa;
use serde::Serialize;

use super::guesses::GuessesResult;
use crate::cost::Cost;
use crate::roofline::largest;
use crate::speed::{Test, median};

/// What was measured of a model.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Bench {
    /// The model's name.
    pub model: String,
    /// The type of the weights that most multiplications are with.
    #[serde(rename = "type", serialize_with = "crate::json::lowercase")]
    pub ty: TensorType,
    /// Bytes of all matrices in memory.
    pub weight_bytes: u64,
    /// Bytes of weights that are read for every decoded token.
    pub weight_bytes_per_token: u64,
    /// Bytes of keys and values that one position adds, and that every later token reads.
    pub kv_bytes_per_position: u64,
    /// The CPU's name.
    pub cpu: String,
    /// The instruction set.
    #[serde(serialize_with = "crate::json::isa")]
    pub isa: Isa,
    /// Prompt tokens that go through the model at once.
    pub batch: usize,
    /// Runs of each test.
    pub repetitions: usize,
    /// The version of Quipu.
    pub version: &'static str,
    /// Everything again for each number of threads.
    pub runs: Vec<BenchRun>,
}

/// What was measured with one number of threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BenchRun {
    /// Threads in use.
    pub threads: usize,
    /// What the same threads do at best.
    #[serde(rename = "roof")]
    pub limits: Limits,
    /// Milliseconds from opening the model to where it can be used.
    pub load_ms: f64,
    /// Milliseconds from opening the model to the first token after a prompt of 16.
    pub first_token_ms: f64,
    /// The most memory that the process had resident; `None` where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// Bytes of the longest sequence's keys and values.
    pub kv_bytes: usize,
    /// The tests of one sequence, depth by depth.
    pub results: Vec<BenchResult>,
    /// Sequences decoded together, depth by depth.
    pub sequences: Vec<SequencesResult>,
    /// Texts that were written with guesses and without, depth by depth.
    pub guesses: Vec<GuessesResult>,
}

/// What some threads do at best: the most that was seen, and all that was seen. Memory may have states of different
/// speed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that they read from memory in a second: the most of the samples, or what a test read, if that was more and
    /// came from memory.
    pub read_bytes_per_s: f64,
    /// Bytes per second, time by time.
    pub read_samples: Vec<f64>,
    /// Multiplications with weights of the model's type in a second; likewise.
    pub macs_per_s: f64,
    /// Multiplications per second, time by time.
    pub macs_samples: Vec<f64>,
}

/// What one test gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BenchResult {
    /// Which.
    pub test: Test,
    /// Tokens of it.
    pub tokens: usize,
    /// Tokens of context before it.
    pub depth: usize,
    /// The median of the samples.
    pub tokens_per_s: f64,
    /// Tokens per second, run by run.
    pub samples: Vec<f64>,
    /// How much of its limit it used.
    #[serde(flatten)]
    pub rate: Rate,
}

/// What some sequences gave that were decoded together, one token of each in a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SequencesResult {
    /// How many.
    pub sequences: usize,
    /// Tokens of each, which is the number of steps.
    pub tokens: usize,
    /// Tokens of context before them, in each.
    pub depth: usize,
    /// The median of the samples.
    pub tokens_per_s: f64,
    /// Milliseconds of a step at that speed.
    pub ms_per_step: f64,
    /// Tokens per second of all sequences together, run by run.
    pub samples: Vec<f64>,
    /// Bytes of weights, keys and values that are read in a second.
    pub bytes_per_s: f64,
    /// These in percent of what the threads can read.
    pub percent_of_bandwidth: f64,
    /// Multiplications with weights in a second.
    pub macs_per_s: f64,
    /// These in percent of the most that the threads can do.
    pub percent_of_peak: f64,
}

/// How much a test did in a second of what limits it, and what share of the machine's limit that is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Rate {
    /// Arithmetic limits how fast a prompt is read.
    Prefill {
        /// Multiplications with weights in a second.
        macs_per_s: f64,
        /// These in percent of the most that the threads can do.
        percent_of_peak: f64,
    },
    /// Memory limits how fast single tokens are read.
    Decode {
        /// Bytes of weights, keys and values that are read in a second.
        bytes_per_s: f64,
        /// These in percent of what the threads can read.
        percent_of_bandwidth: f64,
    },
}

/// Tokens of one or of several sequences, and what they cost.
pub(super) struct Task {
    /// How a single sequence reads them; `None` for several that are decoded together.
    pub(super) test: Option<Test>,
    pub(super) sequences: usize,
    /// Of each.
    pub(super) tokens: usize,
    pub(super) depth: usize,
}

impl Task {
    /// Bytes that are read for each token, and multiplications with weights.
    fn per_token(&self, cost: &Cost) -> (f64, f64) {
        let (tokens, all) = (self.tokens as u64, self.tokens as f64 * self.sequences as f64);
        let bytes = cost.decode_bytes(self.depth as u64, tokens, self.sequences as u64) as f64;
        match self.test {
            Some(Test::Prefill) => (0.0, cost.prefill_macs(tokens) as f64 / all),
            _ => (bytes / all, (cost.layers.macs + cost.head.macs) as f64),
        }
    }
}

impl Limits {
    /// What was seen of the machine.
    pub(super) fn new(reads: &[f64], multiplications: &[f64]) -> Limits {
        Limits {
            read_bytes_per_s: largest(reads),
            read_samples: reads.to_vec(),
            macs_per_s: largest(multiplications),
            macs_samples: multiplications.to_vec(),
        }
    }

    /// A test that ran at so many tokens per second can't have exceeded the limits; `from_memory`: caches hold next to
    /// nothing of what it read.
    pub(super) fn include(&mut self, cost: &Cost, task: &Task, tokens_per_s: f64, from_memory: bool) {
        let (bytes, macs) = task.per_token(cost);
        self.macs_per_s = self.macs_per_s.max(macs * tokens_per_s);
        if from_memory {
            self.read_bytes_per_s = self.read_bytes_per_s.max(bytes * tokens_per_s);
        }
    }
}

impl BenchResult {
    /// For the median of the samples.
    pub(super) fn new(cost: &Cost, limits: &Limits, test: Test, task: &Task, samples: Vec<f64>) -> BenchResult {
        let tokens_per_s = median(&samples);
        let (bytes, macs) = task.per_token(cost);
        let rate = match test {
            Test::Prefill => {
                let macs_per_s = macs * tokens_per_s;
                Rate::Prefill { macs_per_s, percent_of_peak: 100.0 * macs_per_s / limits.macs_per_s }
            }
            Test::Decode => {
                let bytes_per_s = bytes * tokens_per_s;
                Rate::Decode { bytes_per_s, percent_of_bandwidth: 100.0 * bytes_per_s / limits.read_bytes_per_s }
            }
        };
        BenchResult { test, tokens: task.tokens, depth: task.depth, tokens_per_s, samples, rate }
    }
}

impl SequencesResult {
    /// For the median of the samples.
    pub(super) fn new(cost: &Cost, limits: &Limits, task: &Task, samples: Vec<f64>) -> SequencesResult {
        let tokens_per_s = median(&samples);
        let (bytes_per_s, macs_per_s) = {
            let (bytes, macs) = task.per_token(cost);
            (bytes * tokens_per_s, macs * tokens_per_s)
        };
        SequencesResult {
            sequences: task.sequences,
            tokens: task.tokens,
            depth: task.depth,
            tokens_per_s,
            ms_per_step: 1e3 * task.sequences as f64 / tokens_per_s,
            samples,
            bytes_per_s,
            percent_of_bandwidth: 100.0 * bytes_per_s / limits.read_bytes_per_s,
            macs_per_s,
            percent_of_peak: 100.0 * macs_per_s / limits.macs_per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cost::Work;

    use super::*;

    const COST: Cost = Cost {
        layers: Work { bytes: 900, macs: 1800 },
        head: Work { bytes: 100, macs: 200 },
        resident_bytes: 1000,
        position_bytes: 10,
        token_bytes: 10,
        ty: TensorType::Q4_0,
    };

    fn alone(test: Test, tokens: usize, depth: usize) -> Task {
        Task { test: Some(test), sequences: 1, tokens, depth }
    }

    /// A thousand bytes a token at 2 tokens per second are 2000 bytes per second; the context adds its part. Sequences
    /// that are decoded together share the weights.
    #[test]
    fn rates_are_the_cost_times_the_speed() {
        let limits = Limits::new(&[1e3, 1e4], &[1e5, 7.0]);
        let rate =
            |test, tokens, depth| BenchResult::new(&COST, &limits, test, &alone(test, tokens, depth), vec![2.0]).rate;
        let decode = |tokens, depth, bytes_per_s: f64| {
            let percent_of_bandwidth = bytes_per_s / 100.0;
            assert_eq!(rate(Test::Decode, tokens, depth), Rate::Decode { bytes_per_s, percent_of_bandwidth });
        };
        decode(1, 0, 2.0 * 1010.0);
        decode(3, 100, 2.0 * (1000.0 + 1020.0));
        let macs_per_s = 2.0 * (1800.0 + 20.0);
        let expected = Rate::Prefill { macs_per_s, percent_of_peak: macs_per_s / 1000.0 };
        assert_eq!(rate(Test::Prefill, 10, 0), expected);

        let task = Task { test: None, sequences: 4, tokens: 3, depth: 100 };
        let found = SequencesResult::new(&COST, &limits, &task, vec![2.0]);
        assert_eq!((found.ms_per_step, found.macs_per_s, found.percent_of_peak), (2000.0, 4000.0, 4.0));
        // Half a step in a second: the weights once, and four times 102 positions.
        let bytes_per_s = 0.5 * (1000.0 + 4.0 * 1020.0);
        assert_eq!((found.bytes_per_s, found.percent_of_bandwidth), (bytes_per_s, bytes_per_s / 100.0));
    }

    #[test]
    fn no_test_exceeds_the_limits_unless_a_cache_helped() {
        let mut limits = Limits::new(&[900.0, 1000.0], &[1e4]);
        limits.include(&COST, &alone(Test::Decode, 1, 0), 0.5, true);
        assert_eq!((limits.read_bytes_per_s, limits.macs_per_s), (1000.0, 1e4));
        limits.include(&COST, &alone(Test::Decode, 1, 0), 2.0, false);
        assert_eq!(limits.read_bytes_per_s, 1000.0);
        limits.include(&COST, &alone(Test::Decode, 1, 0), 2.0, true);
        assert_eq!(limits.read_bytes_per_s, 2020.0);
        limits.include(&COST, &alone(Test::Prefill, 10, 0), 10.0, true);
        assert_eq!((limits.read_bytes_per_s, limits.macs_per_s), (2020.0, 18_200.0));
        assert_eq!(limits.read_samples, [900.0, 1000.0]);
    }
}
