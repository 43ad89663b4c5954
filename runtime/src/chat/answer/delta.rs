//! What a reader gives out.

/// Something more of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// What the model says.
    Content(String),
    /// What it thought.
    Reasoning(String),
    /// It calls a tool. What belongs to the call follows, up to [`Delta::End`].
    Begin {
        /// The tool's name, one of those declared.
        name: String,
    },
    /// More of the arguments' text, which is a JSON object when the call has ended and is complete.
    Arguments(String),
    /// The call has ended.
    End {
        /// Whether its arguments are a JSON object. They are not when the text broke off, or went on as no JSON does:
        /// then they are what was written.
        complete: bool,
    },
}

/// A [`Delta`] with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub delta: Delta,
    /// Bytes of the whole text up to the end of what it stands for.
    pub end: usize,
}
