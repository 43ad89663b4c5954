//! Memory: of the machine, and of this process.

use memmap2::MmapMut;

pub use super::answers::{LargePages, Memory};
use super::system;

impl Memory {
    /// Asks the system.
    pub fn here() -> Option<Memory> {
        system::memory()
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
    if needed >= SMALL
        && let Some(available) = system::obtainable().filter(|&available| needed > available)
    {
        return Err(Shortage { what: what().into(), needed, available: Some(available) });
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
        _ => Err(Shortage { what: what().into(), needed, available: system::limit().filter(|&bytes| bytes < needed) }),
    }
}

/// The most memory that this process has had resident since its start or since [`reset_peak`], in bytes.
pub fn peak() -> Option<u64> {
    system::peak()
}

/// Lets [`peak`] begin anew from what is resident now; `false` when the system can't.
pub fn reset_peak() -> bool {
    system::reset_peak()
}

/// Whether weights lie in large pages; `None` where the system does not tell.
pub fn large_pages() -> Option<LargePages> {
    system::large_pages()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(target_os = "linux", windows, target_vendor = "apple"))]
    #[test]
    fn what_no_machine_has_is_refused_and_what_is_small_is_not() {
        assert!(check(SMALL - 1, || "a crumb".into()).is_ok() && check(SMALL, || "a little".into()).is_ok());
        let shortage = check(1 << 60, || "a mountain".into()).unwrap_err();
        assert!(shortage.available.is_some_and(|available| available < 1 << 60));
        let message = shortage.to_string();
        assert!(message.starts_with("a mountain takes 1152921504607 MB of memory, but only "), "{message}");
    }

    #[cfg(any(target_os = "linux", windows, target_vendor = "apple"))]
    #[test]
    fn the_peak_follows_what_is_touched_and_forgets_it_when_told() {
        if std::env::var_os("QUIPU_SKIP_TIMING").is_some() {
            return eprintln!("SKIPPED: the peak of memory: QUIPU_SKIP_TIMING is set");
        }
        const BLOCK: u64 = 256 << 20;
        let block = vec![1u8; BLOCK as usize];
        std::hint::black_box(&block);
        let high = peak().expect("these systems tell");
        assert!(high >= BLOCK);
        drop(block);
        // Containers may forbid it. Other tests may hold something meanwhile.
        if reset_peak() {
            assert!(peak().is_some_and(|peak| peak < high - BLOCK / 2));
        }
    }
}
