//! Many short strings in one allocation, and an index over them.
//!
//! A vocabulary of 128,000 pieces costs two allocations here instead of as many as it has pieces.

use super::hash::Seed;

/// A list of byte strings.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings {
    blob: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    /// Appends `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.blob.extend_from_slice(bytes);
        self.ends.push(self.blob.len());
    }

    /// The number of strings.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// String number `i`, empty beyond the end.
    pub(super) fn get(&self, i: u32) -> &[u8] {
        let i = i as usize;
        let Some(&end) = self.ends.get(i) else { return &[] };
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.blob[start..end]
    }
}

/// A place of an [`Index`].
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The upper half of the string's hash: nearly all other strings differ in it, and their bytes need not be fetched.
    tag: u32,
    /// The number of the string, or [`EMPTY`].
    id: u32,
}

const EMPTY: u32 = u32::MAX;

/// Finds the numbers of some strings of a [`Strings`]: open addressing, never more than half full.
#[derive(Clone, Debug)]
pub(super) struct Index {
    seed: Seed,
    slots: Vec<Slot>,
}

impl Index {
    /// An index of the strings whose numbers are `ids`, fewer than 2³². Of equal strings the last one counts, as in
    /// llama.cpp.
    pub(super) fn new(strings: &Strings, ids: impl Iterator<Item = u32>) -> Index {
        let slots = vec![Slot { tag: 0, id: EMPTY }; (strings.len() * 2).next_power_of_two()];
        let mut index = Index { seed: Seed::default(), slots };
        for id in ids {
            let (place, tag) = index.place(strings, strings.get(id));
            index.slots[place] = Slot { tag, id };
        }
        index
    }

    /// The number of the string that equals `key`.
    pub(super) fn get(&self, strings: &Strings, key: &[u8]) -> Option<u32> {
        let (place, _) = self.place(strings, key);
        let id = self.slots[place].id;
        (id != EMPTY).then_some(id)
    }

    /// Where `key` is, or the empty place where it belongs; and its tag.
    fn place(&self, strings: &Strings, key: &[u8]) -> (usize, u32) {
        let hash = self.seed.hash(key);
        let tag = (hash >> 32) as u32;
        let mask = self.slots.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let slot = self.slots[place];
            if slot.id == EMPTY || slot.tag == tag && strings.get(slot.id) == key {
                return (place, tag);
            }
            place = (place + 1) & mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_indexed_and_nothing_else() {
        let mut strings = Strings::default();
        for i in 0..1000 {
            strings.push("x".repeat(i % 7).as_bytes());
            strings.push(i.to_string().as_bytes());
        }
        let odd = Index::new(&strings, (0..2000).filter(|i| i % 2 == 1));
        for i in 0..1000u32 {
            assert_eq!(odd.get(&strings, i.to_string().as_bytes()), Some(2 * i + 1));
        }
        assert_eq!(odd.get(&strings, b"xx"), None, "not indexed");
        let all = Index::new(&strings, 0..2000);
        assert_eq!(all.get(&strings, b"xx"), Some(2 * 996), "the last of equal strings");
        assert_eq!(strings.get(2000), b"", "beyond the end");
    }
}
