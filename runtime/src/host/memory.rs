//! Memory: of the machine, and of this process.

use super::system::read;

/// A number of bytes written as `12 kB` in the line of `text` that begins with `key`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that there is for this process: of the machine, or of its control group if that allows less.
    pub total: u64,
    /// What can be taken without swapping.
    pub available: u64,
}

impl Memory {
    /// Asks the system.
    pub fn here() -> Option<Memory> {
        let text = read("/proc/meminfo")?;
        let machine = Memory { total: kilobytes(&text, "MemTotal")?, available: kilobytes(&text, "MemAvailable")? };
        Some(match group_memory() {
            Some((limit, used)) if limit < machine.total => {
                Memory { total: limit, available: machine.available.min(limit.saturating_sub(used)) }
            }
            _ => machine,
        })
    }
}

/// Limit and use of memory of this process's control group, where it is the root of what the process sees.
fn group_memory() -> Option<(u64, u64)> {
    let number = |path: &str| read(path)?.parse::<u64>().ok();
    let pair = |limit: &str, used: &str| Some((number(limit)?, number(used)?));
    pair("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")
        .or_else(|| pair("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))
}

/// The most memory that this process has had resident since its start or since [`reset_peak`], in bytes.
pub fn peak() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmHWM")
}

/// Lets [`peak`] begin anew from what is resident now; `false` when the system can't.
pub fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Whether large pages back ordinary memory: the word in brackets of the system's setting, `always`, `madvise` or
/// `never`.
pub fn transparent_huge_pages() -> Option<String> {
    let setting = read("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let (_, rest) = setting.split_once('[')?;
    Some(rest.split_once(']')?.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_understood() {
        assert_eq!(kilobytes("MemTotal:   24 kB\nMemAvailable: 7 kB", "MemAvailable"), Some(7 << 10));
        assert_eq!(kilobytes("MemTotal:   24 kB", "Mem"), None);
        assert_eq!(kilobytes("Threads:\t5", "Threads"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_follows_what_is_touched_and_forgets_it_when_told() {
        if std::env::var_os("QUIPU_SKIP_TIMING").is_some() {
            return eprintln!("SKIPPED: the peak of memory: QUIPU_SKIP_TIMING is set");
        }
        const BLOCK: u64 = 256 << 20;
        let block = vec![1u8; BLOCK as usize];
        std::hint::black_box(&block);
        let high = peak().expect("Linux tells");
        assert!(high >= BLOCK);
        drop(block);
        // Containers may forbid it. Other tests may hold something meanwhile.
        if reset_peak() {
            assert!(peak().is_some_and(|peak| peak < high - BLOCK / 2));
        }
    }
}
