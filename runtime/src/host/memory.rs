//! Memory: of the machine, and of this process.

use memmap2::MmapMut;

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

/// Memory that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} takes {} of memory, but {} here", megabytes(*.needed), self.had())]
pub struct Shortage {
    /// What it is for.
    pub what: Box<str>,
    /// Bytes that it takes.
    pub needed: u64,
    /// Bytes that there are, those included that others would be swapped out for; `None` where the system refuses them
    /// and does not say why.
    pub available: Option<u64>,
}

impl Shortage {
    fn had(&self) -> String {
        match self.available {
            Some(available) => format!("only {} can be had", megabytes(available)),
            None => "so much cannot be had".into(),
        }
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

/// What is not worth asking the system about.
const SMALL: u64 = 64 << 20;

/// Room for the small things that are allocated besides. Nobody asks for those, and without room the process ends.
const BESIDES: u64 = 4 << 20;

/// Whether `needed` more bytes can be had, for `what`. Asked before they are allocated where a file or a caller says
/// how many there are: a system that promises more memory than it has would end the process, or others, later; and one
/// that refuses an allocation ends the process at once, which no library may do to its caller.
///
/// # Errors
/// When they can't.
pub fn check(needed: u64, what: impl FnOnce() -> String) -> Result<(), Shortage> {
    if needed == 0 {
        return Ok(());
    }
    if needed >= SMALL {
        let machine = Memory::here().map(|memory| memory.available.saturating_add(swap()));
        let available = machine.unwrap_or(u64::MAX).min(address_space().unwrap_or(u64::MAX));
        if needed > available {
            return Err(Shortage { what: what().into(), needed, available: Some(available) });
        }
    }
    check_addresses(needed, what)
}

/// Whether the system gives this process so many more bytes of addresses, with room besides. Most of a stack is never
/// touched, so that it needs no memory; but a limit on addresses counts it.
pub(super) fn check_addresses(needed: u64, what: impl FnOnce() -> String) -> Result<(), Shortage> {
    // Whatever limit there is, it shows when they are asked for. They are not touched, so this takes microseconds.
    let size = usize::try_from(needed.saturating_add(BESIDES)).ok();
    match size.map(MmapMut::map_anon) {
        Some(Ok(_)) => Ok(()),
        _ => Err(Shortage { what: what().into(), needed, available: address_space().filter(|&bytes| bytes < needed) }),
    }
}

/// What can be swapped out.
fn swap() -> u64 {
    read("/proc/meminfo").and_then(|text| kilobytes(&text, "SwapFree")).unwrap_or(0)
}

/// What is left of a limit on the addresses of this process (`ulimit -v`).
fn address_space() -> Option<u64> {
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
    fn what_no_machine_has_is_refused_and_what_is_small_is_not() {
        assert!(check(SMALL - 1, || "a crumb".into()).is_ok() && check(SMALL, || "a little".into()).is_ok());
        let shortage = check(1 << 60, || "a mountain".into()).unwrap_err();
        assert!(shortage.available.is_some_and(|available| available < 1 << 60));
        let message = shortage.to_string();
        assert!(message.starts_with("a mountain takes 1152921504607 MB of memory, but only "), "{message}");
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
