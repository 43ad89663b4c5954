//! The CPU: its caches and its name.

use super::super::super::answers::Cache;
use super::cpus::read;
use super::list::parse_list;

/// The caches for data, from the core outwards.
pub(in crate::host) fn caches() -> Vec<Cache> {
    let cache = |index: u32| {
        let file = |name: &str| read(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}"));
        let kind = file("type")?;
        let bytes = file("size").as_deref().and_then(size)?;
        let shared_by = file("shared_cpu_list").as_deref().and_then(parse_list).map_or(1, |cpus| cpus.len());
        Some((kind, Cache { level: file("level")?.parse().ok()?, bytes, shared_by }))
    };
    (0..8).map_while(cache).filter(|(kind, _)| kind != "Instruction").map(|(_, cache)| cache).collect()
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
pub(in crate::host) fn cpu_name() -> Option<String> {
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
    fn sizes_of_caches_are_understood() {
        assert_eq!(size("32768K"), Some(32 << 20));
        assert_eq!(size("8M"), Some(8 << 20));
        assert_eq!(size("8G"), None);
    }
}
