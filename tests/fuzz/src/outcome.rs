//! What became of an input, in words.

use std::fmt::Display;

/// The outcome of an error: its first words. Numbers and what it quotes of the input say nothing new.
pub(crate) fn outcome(error: impl Display) -> String {
    let mut outcome = String::new();
    let mut quote = None;
    for c in error.to_string().chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if c == '`' || c == '"' => quote = Some(c),
            None if outcome.len() < 100 && (c.is_ascii_lowercase() || c == ' ') => outcome.push(c),
            None => {}
        }
    }
    outcome
}
