//! What was measured.

use quipu_quant::TensorType;
use quipu_runtime::Isa;
use serde::Serialize;

use crate::cost::Cost;
use crate::speed::Test;

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
}

/// What some threads do at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that they read from memory in a second.
    pub read_bytes_per_s: f64,
    /// Multiplications with weights of the model's type in a second.
    pub macs_per_s: f64,
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

impl BenchResult {
    /// For the median of the samples.
    pub(super) fn new(
        cost: &Cost,
        limits: &Limits,
        (test, tokens, depth): (Test, usize, usize),
        (tokens_per_s, samples): (f64, Vec<f64>),
    ) -> BenchResult {
        let rate = |all: u64| all as f64 / tokens as f64 * tokens_per_s;
        let rate = match test {
            Test::Prefill => {
                let macs_per_s = rate(cost.prefill_macs(tokens as u64));
                Rate::Prefill { macs_per_s, percent_of_peak: 100.0 * macs_per_s / limits.macs_per_s }
            }
            Test::Decode => {
                let bytes_per_s = rate(cost.decode_bytes(depth as u64, tokens as u64, 1));
                Rate::Decode { bytes_per_s, percent_of_bandwidth: 100.0 * bytes_per_s / limits.read_bytes_per_s }
            }
        };
        BenchResult { test, tokens, depth, tokens_per_s, samples, rate }
    }
}

impl SequencesResult {
    /// For the median of the samples.
    pub(super) fn new(
        cost: &Cost,
        limits: &Limits,
        (sequences, tokens, depth): (usize, usize, usize),
        (tokens_per_s, samples): (f64, Vec<f64>),
    ) -> SequencesResult {
        let all = (sequences * tokens) as f64;
        let bytes = cost.decode_bytes(depth as u64, tokens as u64, sequences as u64);
        let bytes_per_s = bytes as f64 / all * tokens_per_s;
        let macs_per_s = (cost.layers.macs + cost.head.macs) as f64 * tokens_per_s;
        SequencesResult {
            sequences,
            tokens,
            depth,
            tokens_per_s,
            ms_per_step: 1e3 * sequences as f64 / tokens_per_s,
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

    /// A thousand bytes a token at 2 tokens per second are 2000 bytes per second; the context adds its part. Sequences
    /// that are decoded together share the weights.
    #[test]
    fn rates_are_the_cost_times_the_speed() {
        let cost = Cost {
            layers: Work { bytes: 900, macs: 1800 },
            head: Work { bytes: 100, macs: 200 },
            resident_bytes: 1000,
            position_bytes: 10,
            ty: TensorType::Q4_0,
        };
        let limits = Limits { read_bytes_per_s: 1e4, macs_per_s: 1e5 };
        let decode = |tokens, depth, bytes_per_s: f64| {
            let found = BenchResult::new(&cost, &limits, (Test::Decode, tokens, depth), (2.0, vec![2.0]));
            let percent_of_bandwidth = bytes_per_s / 100.0;
            assert_eq!(found.rate, Rate::Decode { bytes_per_s, percent_of_bandwidth });
        };
        decode(1, 0, 2.0 * 1010.0);
        decode(3, 100, 2.0 * (1000.0 + 1020.0));
        let macs_per_s = 2.0 * (1800.0 + 20.0);
        let found = BenchResult::new(&cost, &limits, (Test::Prefill, 10, 0), (2.0, vec![2.0]));
        assert_eq!(found.rate, Rate::Prefill { macs_per_s, percent_of_peak: macs_per_s / 1000.0 });

        let found = SequencesResult::new(&cost, &limits, (4, 3, 100), (2.0, vec![2.0]));
        assert_eq!((found.ms_per_step, found.macs_per_s, found.percent_of_peak), (2000.0, 4000.0, 4.0));
        // Half a step in a second: the weights once, and four times 102 positions.
        let bytes_per_s = 0.5 * (1000.0 + 4.0 * 1020.0);
        assert_eq!((found.bytes_per_s, found.percent_of_bandwidth), (bytes_per_s, bytes_per_s / 100.0));
    }
}
