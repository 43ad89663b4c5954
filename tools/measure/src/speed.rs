//! How fast a loaded model reads and writes.

use std::fmt;
use std::time::Instant;

use quipu_runtime::host::memory;
use quipu_runtime::{Engine, EngineError, Sequence};
use serde::Serialize;

use crate::error::MeasureError;

/// What a model does in a test of its speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// Reads a prompt at once.
    Prefill,
    /// Reads tokens one by one, as it does when it writes.
    Decode,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Test::Prefill => "prefill",
            Test::Decode => "decode",
        })
    }
}

/// How a comparison measures speeds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpeedOptions {
    /// Tokens of the prompt that is read at once; at least 1.
    pub prompt: usize,
    /// Tokens that are read one by one; at least 1.
    pub decode: usize,
    /// Runs of each, of which the median counts; at least 1.
    pub repetitions: usize,
}

impl Default for SpeedOptions {
    fn default() -> SpeedOptions {
        SpeedOptions { prompt: 128, decode: 32, repetitions: 3 }
    }
}

impl SpeedOptions {
    /// An error when there is nothing to measure.
    pub(crate) fn check(&self) -> Result<(), MeasureError> {
        let numbers = [
            ("the number of prompt tokens", self.prompt),
            ("the number of tokens to decode", self.decode),
            ("the number of runs", self.repetitions),
        ];
        match numbers.into_iter().find(|&(_, n)| n == 0) {
            Some((what, _)) => Err(MeasureError::Nothing { what }),
            None => Ok(()),
        }
    }
}

/// How fast a model is, in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Speed {
    /// Reading a prompt at once.
    #[serde(rename = "prefill_tokens_per_s")]
    pub prefill: f64,
    /// Reading tokens one by one.
    #[serde(rename = "decode_tokens_per_s")]
    pub decode: f64,
}

/// Medians of several runs, without context before them.
pub(crate) fn speed(engine: &mut Engine, options: &SpeedOptions) -> Result<Speed, MeasureError> {
    let longest = options.prompt.max(options.decode);
    memory::check((longest as u64).saturating_mul(size_of::<u32>() as u64), || {
        format!("a prompt of {longest} tokens")
    })?;
    let tokens = random_tokens(longest, engine.vocabulary());
    engine.prefill(&mut engine.new_sequence(), &tokens[..options.prompt])?;
    let mut median_of = |test, count: usize| -> Result<f64, MeasureError> {
        let run = |_| Ok(count as f64 / time(engine, &mut engine.new_sequence(), test, &tokens[..count])?);
        Ok(median(&(0..options.repetitions).map(run).collect::<Result<Vec<_>, EngineError>>()?))
    };
    let prefill = median_of(Test::Prefill, options.prompt)?;
    Ok(Speed { prefill, decode: median_of(Test::Decode, options.decode)? })
}

/// Seconds that `tokens` take.
pub(crate) fn time(
    engine: &mut Engine,
    sequence: &mut Sequence,
    test: Test,
    tokens: &[u32],
) -> Result<f64, EngineError> {
    let start = Instant::now();
    match test {
        Test::Prefill => {
            engine.prefill(sequence, tokens)?;
        }
        Test::Decode => {
            for &token in tokens {
                engine.decode(sequence, token)?;
            }
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Tokens without meaning, always the same: how fast a model reads does not depend on what it reads.
pub(crate) fn random_tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocabulary as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// The median of at least one sample.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn tokens_are_of_the_vocabulary_and_always_the_same() {
        let tokens = random_tokens(1000, 37);
        assert!(tokens.iter().all(|&t| t < 37));
        assert_eq!(tokens[..10], random_tokens(10, 37));
        assert!((0..37).all(|t| tokens.contains(&t)));
    }
}
