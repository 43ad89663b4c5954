//! Where a text stops.

use std::sync::Arc;

use super::error::SamplerError;

/// Watches streamed text for stop strings. Holds back what may turn out to be the beginning of one.
#[derive(Clone, Debug, Default)]
pub struct StopMatcher {
    stops: Arc<[String]>,
    held: String,
    /// The number of the stop string that was reached.
    reached: Option<usize>,
}

impl StopMatcher {
    /// A matcher for these strings; none at all lets everything pass.
    ///
    /// # Errors
    /// [`SamplerError::EmptyStop`].
    pub fn new(stops: impl IntoIterator<Item = String>) -> Result<StopMatcher, SamplerError> {
        let stops: Arc<[String]> = stops.into_iter().collect();
        if stops.iter().any(String::is_empty) {
            return Err(SamplerError::EmptyStop);
        }
        Ok(StopMatcher { stops, held: String::new(), reached: None })
    }

    /// Takes the next piece of text; gives what is certain to come before any stop string, and whether one has been
    /// reached.
    ///
    /// Of several stop strings, the one that is complete first counts, and of those that end together the longest; so
    /// it does not matter in which pieces the text arrives. After a stop, call nothing more.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        let find = |(i, s): (usize, &String)| self.held.find(s.as_str()).map(|start| (start + s.len(), start, i));
        if let Some((_, start, i)) = self.stops.iter().enumerate().filter_map(find).min() {
            self.reached = Some(i);
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let hold = self.stops.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - hold);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The stop string that was reached.
    pub fn reached(&self) -> Option<&str> {
        self.reached.map(|i| self.stops[i].as_str())
    }

    /// The text still held back, when there is no more to come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest proper prefix of `stop` that `text` ends with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|&n| text.as_bytes().ends_with(&stop.as_bytes()[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_never_cuts_a_character() {
        assert_eq!(overlap("über", "r!"), 1);
        assert_eq!(
            overlap("a\u{e9}", "\u{e8}x"),
            0,
            "a shared first byte of another character is no overlap that splits it"
        );
    }
}
