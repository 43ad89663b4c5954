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
    /// A step that there is not.
    #[error(
        "there is no sampler {0:?}; there are penalties, dry, top_n_sigma, top_k, typ_p, top_p, min_p, xtc and temperature"
    )]
    UnknownStep(String),
    /// A step stands twice in the order of steps.
    #[error("the sampler {0} is named twice")]
    RepeatedStep(&'static str),
    /// DRY looks for its sequence breakers in the texts of tokens.
    #[error("sequence breakers need a tokenizer: make the sampler with Sampler::for_tokenizer")]
    NoTokenizer,
    /// A stop string is empty: every text contains it.
    #[error("a stop string must not be empty")]
    EmptyStop,
    /// A string that must not be written is empty: every text contains it.
    #[error("a banned string must not be empty")]
    EmptyBan,
}
