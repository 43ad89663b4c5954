//! Why a shape is refused.

/// Why a shape is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// A JSON schema that cannot be enforced, or is none.
    #[error("the JSON schema at {pointer}: {problem}")]
    Schema {
        /// The place, as a JSON pointer in a fragment: `#/properties/age/minimum`.
        pointer: String,
        /// What is the matter.
        problem: String,
    },
    /// A text that is no JSON.
    #[error("the JSON schema is no JSON: {0}")]
    Json(String),
    /// A grammar that cannot be read.
    #[error("the {kind}: {problem}")]
    Grammar {
        /// What it is: a `GBNF grammar`, a `Lark grammar`, a `regular expression`.
        kind: &'static str,
        /// What is the matter, and where.
        problem: String,
    },
    /// More than is taken.
    #[error("the {kind} has {found} {what}; at most {most} are taken")]
    TooLarge {
        /// What it is.
        kind: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// So many.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// The crate was built without its feature `llguidance`.
    #[error("this build keeps no answer to a shape; one with the feature `shapes` does")]
    NotBuilt,
    /// The machine has no thread or memory for it.
    #[error("no thread to compile the grammar: {0}")]
    Thread(String),
}
