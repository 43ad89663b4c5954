//! A token of a text.

use crate::sampler::{log_probability, top_log_probabilities};

/// One token written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Token {
    /// The token.
    pub id: u32,
    /// The text that became certain with this token. It is less than the token's own text while a character is
    /// incomplete or a stop string may have begun, and more when text was held back before.
    pub text: String,
    /// The natural logarithm of the token's probability under the model, before penalties, truncation and temperature,
    /// unless [`GenerateOptions::sampled_logprobs`] wanted them; if [`GenerateOptions::logprobs`] asked for it.
    ///
    /// [`GenerateOptions::logprobs`]: super::GenerateOptions::logprobs
    /// [`GenerateOptions::sampled_logprobs`]: super::GenerateOptions::sampled_logprobs
    pub logprob: Option<f64>,
    /// The likeliest tokens in its place with the logarithms of their probabilities, the likeliest first: as many as
    /// [`GenerateOptions::top_logprobs`](super::GenerateOptions::top_logprobs) asked for; and behind them those that
    /// are [watched](super::GenerateOptions::watched).
    pub top_logprobs: Vec<(u32, f64)>,
}

impl Token {
    /// A token and its text, without probabilities.
    pub fn new(id: u32, text: impl Into<String>) -> Token {
        Token { id, text: text.into(), logprob: None, top_logprobs: Vec::new() }
    }

    /// The first token of a prompt, which nothing stands before.
    pub(super) fn first_of_prompt(id: u32) -> Token {
        Token::new(id, "")
    }

    /// Token `id` of a prompt, with the `n` likeliest in its place.
    pub(super) fn of_prompt(id: u32, logits: &[f32], n: usize) -> Token {
        let logprob = Some(log_probability(logits, id));
        Token { logprob, top_logprobs: likeliest(logits, n), ..Token::new(id, "") }
    }
}

/// The `n` likeliest tokens, if any are wanted.
pub(super) fn likeliest(logits: &[f32], n: usize) -> Vec<(u32, f64)> {
    if n == 0 { Vec::new() } else { top_log_probabilities(logits, n) }
}
