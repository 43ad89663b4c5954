//! What is wrong with a command line.

use std::fmt;

/// A command line that asks for nothing, or for two things at once, which the parser cannot find out.
#[derive(Debug)]
pub struct Usage(String);

impl Usage {
    /// What is wrong with it.
    pub fn new(message: impl Into<String>) -> Usage {
        Usage(message.into())
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
