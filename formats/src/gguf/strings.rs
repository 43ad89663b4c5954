//! Many strings in two allocations.

use std::fmt;
use std::ops::Index;

/// A list of strings, one after the other in memory. A tokenizer has hundreds of thousands; to allocate and free each
/// of them would take longer than reading them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// Where each string ends in `text`.
    ends: Vec<usize>,
}

impl Strings {
    /// No strings yet, with room for `strings` of them.
    pub(super) fn with_capacity(strings: usize) -> Strings {
        Strings { text: String::new(), ends: Vec::with_capacity(strings) }
    }

    /// Appends `string`.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// The number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String number `i`, if there are so many.
    pub fn get(&self, i: usize) -> Option<&str> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        Some(&self.text[start..end])
    }

    /// All strings, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }
}

/// As [`Strings::get`], but panics when there are not so many strings.
impl Index<usize> for Strings {
    type Output = str;

    fn index(&self, i: usize) -> &str {
        self.get(i).unwrap_or_else(|| panic!("string {i} of {}", self.len()))
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Strings {
        let mut all = Strings::default();
        strings.into_iter().for_each(|string| all.push(string.as_ref()));
        all
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_as_they_were() {
        let texts = ["", "a", "", "ä€", "b c", ""];
        let strings: Strings = texts.into_iter().collect();
        assert!(strings.iter().eq(texts) && strings.len() == texts.len());
        assert!((0..texts.len()).all(|i| &strings[i] == texts[i]));
        assert_eq!(strings.get(texts.len()), None);
        let other: Strings = ["", "a", "ä", "€", "b c", ""].into_iter().collect();
        assert_ne!(strings, other, "the same letters, cut elsewhere");
    }
}
