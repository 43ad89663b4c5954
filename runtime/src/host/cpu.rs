//! The CPU: its name and its caches.

use quipu_kernels::cpu;

pub use super::answers::Cache;
use super::system;

/// The caches for data, from the core outwards.
pub fn caches() -> Vec<Cache> {
    let mut caches = system::caches();
    caches.sort_by_key(|cache| cache.level);
    caches
}

/// Bytes of the last level cache.
pub fn last_level_cache() -> Option<u64> {
    caches().last().map(|cache| cache.bytes)
}

/// The CPU's name: what it says itself, or what the system says of it or of its board, or its architecture.
pub fn name() -> String {
    let (name, _) = cpu();
    name.or_else(system::cpu_name).unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Virtual machines may hide their caches; what is told makes sense.
    #[test]
    fn caches_grow_outwards() {
        let caches = caches();
        assert!(caches.is_sorted_by_key(|cache| (cache.level, cache.bytes)), "{caches:?}");
        assert!(caches.iter().all(|cache| cache.level > 0 && cache.bytes > 0 && cache.shared_by > 0), "{caches:?}");
        assert!(!name().is_empty());
    }
}
