//! What a text has said before: after the same few tokens, what followed them the last time.

use std::collections::HashMap;

/// The fewest tokens that must be the same.
const LEAST: usize = 2;

/// The most that are looked at, and in how many places.
const MOST: usize = 32;

/// Where a text has been before.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookup {
    /// After each pair of tokens, the place where the text went on the last time,
    last: HashMap<[u32; LEAST], u32>,
    /// and for each place the one before it, after the same pair; 0 for none.
    before: Vec<u32>,
}

/// A place at which the text was as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The place of the token that followed.
    pub(super) next: usize,
    /// How many tokens before it are the same.
    pub(super) matched: usize,
}

impl Lookup {
    /// Takes note of `tokens`: what it knows already, and more. A text that has been rolled back is read anew.
    pub(super) fn add(&mut self, tokens: &[u32]) {
        if tokens.len() < self.before.len() {
            *self = Lookup::default();
        }
        for place in self.before.len()..tokens.len() {
            let before = match place.checked_sub(LEAST) {
                Some(pair) => self.last.insert([tokens[pair], tokens[pair + 1]], place as u32),
                None => None,
            };
            self.before.push(before.unwrap_or(0));
        }
    }

    /// The place that is most like the end of `tokens`; of several the last.
    pub(super) fn find(&self, tokens: &[u32]) -> Option<Found> {
        let pair = tokens.last_chunk::<LEAST>()?;
        let mut place = *self.last.get(pair)? as usize;
        let mut best: Option<Found> = None;
        for _ in 0..MOST {
            let same = tokens[..place].iter().rev().zip(tokens.iter().rev());
            let matched = same.take(MOST).take_while(|(then, now)| then == now).count();
            // After a rollback a place may be another text's.
            if matched >= LEAST && best.is_none_or(|best| matched > best.matched) {
                best = Some(Found { next: place, matched });
            }
            place = self.before[place] as usize;
            if place == 0 {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(tokens: &[u32]) -> Option<(usize, usize)> {
        let mut lookup = Lookup::default();
        // Token by token, as a text is written.
        (0..=tokens.len()).for_each(|n| lookup.add(&tokens[..n]));
        lookup.find(tokens).map(|found| (found.next, found.matched))
    }

    #[test]
    fn the_longest_match_is_found_and_of_equals_the_last() {
        assert_eq!(find(&[]), None);
        assert_eq!(find(&[1, 2, 3]), None);
        assert_eq!(find(&[1, 1]), None);
        assert_eq!(find(&[1, 1, 1]), Some((2, 2)));
        assert_eq!(find(&[1, 2, 3, 1, 2]), Some((2, 2)));
        assert_eq!(find(&[1, 2, 3, 1, 2, 4, 1, 2]), Some((5, 2)));
        assert_eq!(find(&[7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2]), Some((3, 3)));
        // One token alone says nothing.
        assert_eq!(find(&[1, 2, 3, 9, 2]), None);
    }

    /// Against a search through the whole text.
    #[test]
    fn it_finds_what_a_search_finds() {
        let mut random = 1u64;
        let mut tokens = Vec::new();
        let mut lookup = Lookup::default();
        for _ in 0..400 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            tokens.push((random >> 60) as u32 % 5);
            lookup.add(&tokens);
            let matched = |place: usize| {
                let pairs = tokens[..place].iter().rev().zip(tokens.iter().rev());
                pairs.take(MOST).take_while(|(a, b)| a == b).count()
            };
            // As far back as is looked.
            let places = (LEAST..tokens.len()).rev().filter(|&place| matched(place) >= LEAST).take(MOST);
            let best = places.map(|place| (matched(place), place)).max();
            let found = lookup.find(&tokens);
            assert_eq!(found.map(|found| (found.matched, found.next)), best);
        }
    }

    #[test]
    fn a_text_that_was_rolled_back_is_read_anew() {
        let mut lookup = Lookup::default();
        lookup.add(&[1, 2, 3, 4, 5, 6]);
        lookup.add(&[1, 2, 9, 1]);
        lookup.add(&[1, 2, 9, 1, 2]);
        assert_eq!(lookup.find(&[1, 2, 9, 1, 2]), Some(Found { next: 2, matched: 2 }));
        // As long as before, with other tokens: nothing is found that is not there.
        assert_eq!(lookup.find(&[3, 3, 9, 1, 2]), None);
    }
}
