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

/// The time as RFC 3339 has it, in UTC.
pub fn timestamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = timestamp_of(since.as_secs());
    format!("{}.{:06}Z", seconds.trim_end_matches('Z'), since.subsec_micros())
}

/// A time in seconds since 1970 as RFC 3339 has it, in UTC.
pub fn timestamp_of(seconds: u64) -> String {
    let (days, time) = (seconds / 86400, seconds % 86400);
    // Days are counted from 1 March of the year 0, so that leap days come last: 146,097 of them in 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (era * 400 + year, month + 3) } else { (era * 400 + year + 1, month - 9) };
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_calendar() {
        // GNU date's answers.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_600, "2025-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp_of(seconds), text);
        }
        let now = timestamp();
        assert!(now.len() == 27 && now.ends_with('Z') && now[..19] <= timestamp_of(self::now())[..19], "{now}");
    }

    #[test]
    fn ids_and_seeds_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| id("x-")).collect();
        assert!(ids.len() == 1000 && ids.iter().all(|id| id.len() == 26));
        assert_ne!(seed(), seed());
    }
}
