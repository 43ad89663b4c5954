//! Why no token could be chosen.

/// Why no token could be chosen.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
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
