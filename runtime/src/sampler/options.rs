//! How tokens are chosen.

use super::error::SamplerError;
use crate::setters::setters;

/// How a token is chosen. [`Default`] gives a moderately creative setting with the penalties off.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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
    /// Added to the logits of these tokens before all else, a number each; −∞ excludes a token.
    pub logit_bias: Vec<(u32, f32)>,
    /// The seed of the random numbers.
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
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

setters!(SamplerOptions {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    frequency_penalty: f32,
    presence_penalty: f32,
    repeat_last_n: usize,
    logit_bias: Vec<(u32, f32)>,
    seed: u64,
});

impl SamplerOptions {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
    }

    /// Whether the likeliest token is taken, which outlives every truncation.
    pub(super) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }
}

/// Refuses the value of an option that lies outside its range, which `expected` puts into words.
pub(super) fn check(
    option: &'static str,
    value: f32,
    range: std::ops::RangeInclusive<f32>,
    expected: &'static str,
) -> Result<(), SamplerError> {
    if range.contains(&value) { Ok(()) } else { Err(SamplerError::Option { option, value, expected }) }
}
