//! What must differ from request to request: ids, seeds, the time.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A number that no one knows beforehand.
fn number() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hasher.finish()
}

/// A new seed, short enough to survive in any JSON reader.
pub fn seed() -> u64 {
    number() >> 32
}

/// A new id: `prefix` and 24 letters and digits.
pub fn id(prefix: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut id = String::from(prefix);
    for _ in 0..2 {
        let number = number();
        id.extend((0..12).map(|i| DIGITS[(number >> (5 * i)) as usize % DIGITS.len()] as char));
    }
    id
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
