//! Memory: of the machine or of the control group, and of this process.

use super::super::super::answers::{LargePages, Memory};
use super::cpus::read;

/// A number of bytes written as `12 kB` in the line of `text` that begins with `key`.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What there is for this process.
pub(in crate::host) fn memory() -> Option<Memory> {
    let text = read("/proc/meminfo")?;
    let machine = Memory { total: kilobytes(&text, "MemTotal")?, available: kilobytes(&text, "MemAvailable")? };
    Some(match group_memory() {
        Some((limit, used)) if limit < machine.total => {
            Memory { total: limit, available: machine.available.min(limit.saturating_sub(used)) }
        }
        _ => machine,
    })
}

/// Bytes that this process can still take, those included that others would be swapped out for.
pub(in crate::host) fn obtainable() -> Option<u64> {
    let swap = || read("/proc/meminfo").and_then(|text| kilobytes(&text, "SwapFree")).unwrap_or(0);
    let machine = memory().map(|memory| memory.available.saturating_add(swap()));
    machine.into_iter().chain(limit()).min()
}

/// What is left of a limit on the addresses of this process (`ulimit -v`).
pub(in crate::host) fn limit() -> Option<u64> {
    let limits = read("/proc/self/limits")?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit = limit.split_whitespace().next()?.parse::<u64>().ok()?;
    Some(limit.saturating_sub(kilobytes(&read("/proc/self/status")?, "VmSize")?))
}

/// Limit and use of memory of this process's control group, where it is the root of what the process sees.
fn group_memory() -> Option<(u64, u64)> {
    let number = |path: &str| read(path)?.parse::<u64>().ok();
    // Pages of files count as used, but are given back when they are needed.
    let cached = |path: &str| {
        let text = read(path).unwrap_or_default();
        let bytes = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        bytes("inactive_file ").unwrap_or(0) + bytes("active_file ").unwrap_or(0)
    };
    let used = |used: &str, statistics: &str| Some(number(used)?.saturating_sub(cached(statistics)));
    let group = |limit: &str, of: &str, statistics: &str| Some((number(limit)?, used(of, statistics)?));
    let v1 = |name: &str| format!("/sys/fs/cgroup/memory/memory.{name}");
    group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat")
        .or_else(|| group(&v1("limit_in_bytes"), &v1("usage_in_bytes"), &v1("stat")))
}

/// The most that this process has had resident.
pub(in crate::host) fn peak() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmHWM")
}

/// Lets [`peak`] begin anew.
pub(in crate::host) fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Whether large pages back ordinary memory: the word in brackets of the system's setting.
pub(in crate::host) fn large_pages() -> Option<LargePages> {
    let setting = read("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let (_, rest) = setting.split_once('[')?;
    Some(LargePages::Setting(rest.split_once(']')?.0.to_string()))
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
}
