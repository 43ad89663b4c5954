//! A fast hash with a random seed: vocabularies come from outside, so collisions must not be foreseeable.

use std::hash::{BuildHasher, Hasher, RandomState};

/// The seed of a table, and the functions that it selects.
#[derive(Clone, Debug)]
pub(super) struct Seed(u64);

impl Default for Seed {
    fn default() -> Seed {
        Seed(RandomState::new().hash_one(0u64))
    }
}

/// Multiplies to 128 bits and folds the halves, so that each bit of `x` reaches the low and the high bits of the
/// result.
fn fold(x: u64) -> u64 {
    let product = u128::from(x) * 0x9E37_79B9_7F4A_7C15;
    product as u64 ^ (product >> 64) as u64
}

impl Seed {
    /// The hash of a string of bytes.
    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut tail = [0; 8];
        tail[..rest.len()].copy_from_slice(rest);
        let start = self.0 ^ bytes.len() as u64;
        let hash = words.iter().fold(start, |hash, word| fold(hash ^ u64::from_le_bytes(*word)));
        fold(hash ^ u64::from_le_bytes(tail))
    }
}

impl BuildHasher for Seed {
    type Hasher = SeedHasher;

    fn build_hasher(&self) -> SeedHasher {
        SeedHasher(self.0)
    }
}

/// The hasher of tables with a [`Seed`].
pub(super) struct SeedHasher(u64);

impl Hasher for SeedHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = Seed(self.0).hash(bytes);
    }

    fn write_u64(&mut self, x: u64) {
        self.0 = fold(self.0 ^ x);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
