//! Memory: which models have to go for another, and how much each gets for keys and values.

use std::time::Instant;

/// A model that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// Its number.
    pub id: u64,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Since when nobody uses it; `None` while somebody does.
    pub idle_since: Option<Instant>,
}

/// Whether there is room for another model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is when these have gone.
    Without(Vec<u64>),
    /// There would be if fewer models were in use.
    InUse,
    /// There never is.
    Never,
}

/// Whether there is room for a model of `bytes` beside those that are `loaded`: `limit` is what the weights of all may
/// take together, `free` what the machine has left for it. Who was idle for the longest time goes first, and nobody
/// unless that makes room.
pub fn make_room(bytes: u64, loaded: &[Resident], limit: Option<u64>, free: Option<u64>) -> Room {
    if limit.is_some_and(|limit| bytes > limit) {
        return Room::Never;
    }
    let all: u64 = loaded.iter().map(|resident| resident.bytes).sum();
    let left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(all)).min(free.unwrap_or(u64::MAX));
    let mut idle: Vec<_> = loaded.iter().filter_map(|resident| Some((resident.idle_since?, resident))).collect();
    idle.sort_by_key(|(since, resident)| (*since, resident.id));
    let (mut left, mut leave) = (left, Vec::new());
    for (_, resident) in &idle {
        if left >= bytes {
            break;
        }
        left = left.saturating_add(resident.bytes);
        leave.push(resident.id);
    }
    // With nobody else there whoever loads it finds out how much memory there is.
    if left >= bytes || idle.len() == loaded.len() { Room::Without(leave) } else { Room::InUse }
}

/// What each of several models gets of `bytes`, if so many positions of them take `page_bytes`: each can hold as many
/// tokens as any other.
pub fn shares(bytes: u64, page_bytes: &[u64]) -> Vec<u64> {
    let all: u128 = page_bytes.iter().map(|&bytes| u128::from(bytes)).sum();
    let share = |&own: &u64| (u128::from(bytes) * u128::from(own)).checked_div(all).map_or(bytes, |share| share as u64);
    page_bytes.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_was_idle_longest_goes_first_and_nobody_in_vain() {
        let start = Instant::now();
        let resident = |id, bytes, idle: Option<u64>| Resident {
            id,
            bytes,
            idle_since: idle.map(|seconds| start + Duration::from_secs(seconds)),
        };
        let loaded = [resident(1, 10, Some(5)), resident(2, 20, Some(1)), resident(3, 30, None)];
        let room = |bytes, limit, free| make_room(bytes, &loaded, limit, free);
        assert_eq!(room(40, Some(100), None), Room::Without(vec![]));
        assert_eq!(room(41, Some(100), None), Room::Without(vec![2]));
        assert_eq!(room(61, Some(100), None), Room::Without(vec![2, 1]));
        assert_eq!(room(71, Some(100), None), Room::InUse);
        assert_eq!(room(101, Some(100), None), Room::Never);
        assert_eq!(room(20, Some(100), Some(15)), Room::Without(vec![2]));
        assert_eq!(room(50, None, Some(15)), Room::InUse);
        assert_eq!(room(u64::MAX, None, None), Room::Without(vec![]));
        // Nobody is in use: it is tried, whatever the system says is free.
        assert_eq!(make_room(50, &loaded[..2], None, Some(0)), Room::Without(vec![2, 1]));
        assert_eq!(make_room(50, &[], None, Some(0)), Room::Without(vec![]));
    }

    #[test]
    fn each_holds_as_many_tokens() {
        assert_eq!(shares(100, &[1]), [100]);
        assert_eq!(shares(100, &[1, 3]), [25, 75]);
        assert_eq!(shares(u64::MAX, &[u64::MAX, u64::MAX]), [u64::MAX / 2; 2]);
        assert_eq!(shares(7, &[0]), [7]);
        assert!(shares(7, &[]).is_empty());
    }
}
