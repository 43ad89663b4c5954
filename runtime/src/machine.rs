//! What the system says about this machine and this process, but for its cores ([`crate::cores`]). Every answer is
//! optional: systems differ in what they tell.
//!
//! Linux and Android tell by files (proc(5), sysfs, cgroups(7)); elsewhere most answers are `None`.

use std::path::Path;

use crate::cores;

/// A file of the system, without the line end.
fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_string())
}

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

/// The machine's memory.
pub fn memory() -> Option<Memory> {
    let text = read("/proc/meminfo")?;
    let machine = Memory { total: kilobytes(&text, "MemTotal")?, available: kilobytes(&text, "MemAvailable")? };
    Some(match group_memory() {
        Some((limit, used)) if limit < machine.total => {
            Memory { total: limit, available: machine.available.min(limit.saturating_sub(used)) }
        }
        _ => machine,
    })
}

/// Limit and use of memory of this process's control group, where it is the root of what the process sees.
fn group_memory() -> Option<(u64, u64)> {
    let number = |path: &str| read(path)?.parse::<u64>().ok();
    let pair = |limit: &str, used: &str| Some((number(limit)?, number(used)?));
    pair("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")
        .or_else(|| pair("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"))
}

/// The most memory that this process has had resident since its start or since [`reset_peak_memory`], in bytes.
pub fn peak_memory() -> Option<u64> {
    kilobytes(&read("/proc/self/status")?, "VmHWM")
}

/// Lets [`peak_memory`] begin anew from what is resident now; `false` when the system can't.
pub fn reset_peak_memory() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Whether large pages back ordinary memory: the word in brackets of the system's setting, `always`, `madvise` or
/// `never`.
pub fn transparent_huge_pages() -> Option<String> {
    let setting = read("/sys/kernel/mm/transparent_hugepage/enabled")?;
    let (_, rest) = setting.split_once('[')?;
    Some(rest.split_once(']')?.0.to_string())
}

/// One level of the caches of the first CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u32,
    /// Bytes.
    pub bytes: u64,
    /// CPUs that share it.
    pub shared_by: usize,
}

/// The caches for data, from the core outwards.
pub fn caches() -> Vec<Cache> {
    let cache = |index: u32| {
        let file = |name: &str| read(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"));
        let kind = file("type")?;
        let bytes = file("size").as_deref().and_then(size)?;
        let shared_by = file("shared_cpu_list").as_deref().and_then(cores::parse_list).map_or(1, |cpus| cpus.len());
        Some((kind, Cache { level: file("level")?.parse().ok()?, bytes, shared_by }))
    };
    let mut caches: Vec<Cache> =
        (0..8).map_while(cache).filter(|(kind, _)| kind != "Instruction").map(|(_, cache)| cache).collect();
    caches.sort_by_key(|cache| cache.level);
    caches
}

/// Bytes of the last level cache.
pub fn last_level_cache() -> Option<u64> {
    caches().last().map(|cache| cache.bytes)
}

/// `32768K` or `32M` in bytes.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The name of the board or of the CPU as the system knows it, for CPUs that do not say it themselves.
pub fn model_name() -> Option<String> {
    let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|k| k.trim() == key))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let tree = || Some(read("/sys/firmware/devicetree/base/model")?.trim_end_matches('\0').to_string());
    value("model name").or_else(|| value("Model")).or_else(tree).or_else(|| value("Hardware"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_system_are_understood() {
        assert_eq!(kilobytes("MemTotal:   24 kB\nMemAvailable: 7 kB", "MemAvailable"), Some(7 << 10));
        assert_eq!(kilobytes("MemTotal:   24 kB", "Mem"), None);
        assert_eq!(kilobytes("Threads:\t5", "Threads"), None);
        assert_eq!(size("32768K"), Some(32 << 20));
        assert_eq!(size("8M"), Some(8 << 20));
        assert_eq!(size("8G"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_follows_what_is_touched_and_forgets_it_when_told() {
        const BLOCK: u64 = 256 << 20;
        let block = vec![1u8; BLOCK as usize];
        std::hint::black_box(&block);
        let high = peak_memory().expect("Linux tells");
        assert!(high >= BLOCK);
        drop(block);
        // Containers may forbid it. Other tests may hold something meanwhile.
        if reset_peak_memory() {
            assert!(peak_memory().is_some_and(|peak| peak < high - BLOCK / 2));
        }
    }
}
