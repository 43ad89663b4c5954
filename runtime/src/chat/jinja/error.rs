//! What goes wrong in a template.

/// Why a template cannot be parsed or rendered.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::chat) struct Error {
    pub(in crate::chat) message: String,
    /// The line of the template, from 1; 0 as long as nobody knows.
    pub(in crate::chat) line: usize,
    /// Whether the template itself called `raise_exception`.
    pub(in crate::chat) raised: bool,
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn new(message: impl Into<String>) -> Error {
        Error { message: message.into(), line: 0, raised: false }
    }

    /// The same with a line, unless it has one.
    pub(super) fn at(mut self, line: usize) -> Error {
        if self.line == 0 {
            self.line = line;
        }
        self
    }
}

/// `Err` with a formatted message.
macro_rules! fail {
    ($($args:tt)*) => { Err($crate::chat::jinja::error::Error::new(format!($($args)*))) };
}
pub(super) use fail;
