//! Where a program says what it carries.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of a place.
pub(super) const BYTES: usize = 64;
/// The bytes of its mark.
pub(super) const MARK: usize = 32;

/// A multiple of every size that pages have, and of the granularity of Windows' mappings.
pub(super) const PAGE: usize = 64 << 10;

/// The place of this program: a mark, and behind it the numbers of a [`Place`], which are written into the file of a
/// bundle. Nothing in this program changes it; atomic and used it is, so that no compiler takes the zeros for granted.
#[used]
static HERE: [AtomicU64; BYTES / 8] = {
    // Whoever changes what a bundle is changes the number.
    let mark = *b"Quipu carries a model here, v1.\n";
    let mut words = [const { AtomicU64::new(0) }; BYTES / 8];
    let mut word = 0;
    while word < MARK / 8 {
        let mut bytes = [0; 8];
        let mut byte = 0;
        while byte < 8 {
            bytes[byte] = mark[8 * word + byte];
            byte += 1;
        }
        words[word] = AtomicU64::new(u64::from_ne_bytes(bytes));
        word += 1;
    }
    words
};

/// Where in a bundle what is, in bytes from the beginning of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub notes: u64,
    pub notes_bytes: u64,
    pub model: u64,
}

impl Place {
    /// What this program carries.
    pub fn here() -> Option<Place> {
        let number = |i: usize| u64::from_le(HERE[MARK / 8 + i].load(Ordering::Relaxed));
        let place = Place { notes: number(0), notes_bytes: number(1), model: number(2) };
        (place.model > 0).then_some(place)
    }

    /// The bytes behind the mark.
    pub fn numbers(&self) -> [u8; BYTES - MARK] {
        let mut bytes = [0; BYTES - MARK];
        for (to, number) in bytes.chunks_exact_mut(8).zip([self.notes, self.notes_bytes, self.model]) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// The mark, which is to be found once in a program: read from the place, since a copy of it would be a second one.
pub(super) fn mark() -> [u8; MARK] {
    let mut mark = [0; MARK];
    for (to, word) in mark.chunks_exact_mut(8).zip(&HERE) {
        to.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
    }
    mark
}
