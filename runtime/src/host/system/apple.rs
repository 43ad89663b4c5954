//! macOS and its relatives, which answer by name: sysctl(3).

use std::ffi::{CStr, c_int, c_uint};
use std::mem::{size_of_val, zeroed};
use std::ptr::null_mut;

use super::super::answers::{Cache, LargePages, Memory, Processors};

/// The bytes that `name` stands for.
fn bytes(name: &CStr) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; 256];
    let mut len = bytes.len();
    // SAFETY: `name` is a C string, the buffer is as long as `len` says, and nothing is written into the system.
    let status = unsafe { libc::sysctlbyname(name.as_ptr(), bytes.as_mut_ptr().cast(), &mut len, null_mut(), 0) };
    bytes.truncate(len);
    (status == 0).then_some(bytes)
}

/// The number of four or of eight bytes that `name` stands for.
fn number(name: &CStr) -> Option<u64> {
    let bytes = bytes(name)?;
    match bytes.len() {
        4 => Some(u32::from_ne_bytes(bytes.try_into().ok()?).into()),
        8 => Some(u64::from_ne_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

/// The CPUs of this machine. Which of them are which is not told, nor can a thread be bound to one.
pub(in crate::host) fn processors() -> Processors {
    let online = number(c"hw.logicalcpu").map(|n| n as usize);
    // Level 0 are the fast ones.
    let levels = number(c"hw.nperflevels").unwrap_or(1);
    let fast = number(c"hw.perflevel0.logicalcpu").filter(|_| levels > 1).map(|n| n as usize);
    Processors { online, fast, ..Processors::default() }
}

/// Says of the calling thread that somebody waits for it; such threads come to fast cores first.
pub(in crate::host) fn prefer(_: Option<&[usize]>) {
    const QOS_CLASS_USER_INITIATED: c_uint = 0x19;
    unsafe extern "C" {
        /// pthread/qos.h.
        fn pthread_set_qos_class_self_np(class: c_uint, relative_priority: c_int) -> c_int;
    }
    // SAFETY: two numbers.
    let _ = unsafe { pthread_set_qos_class_self_np(QOS_CLASS_USER_INITIATED, 0) };
}

/// The caches for data, of a fast core where there are two kinds.
pub(in crate::host) fn caches() -> Vec<Cache> {
    // For each level, with memory as level 0, how many CPUs share one. (It knows one kind of cores.)
    let sharing: Vec<usize> = bytes(c"hw.cacheconfig")
        .map(|bytes| bytes.as_chunks().0.iter().map(|n| u64::from_ne_bytes(*n) as usize).collect())
        .unwrap_or_default();
    let shared_by = |level: usize| sharing.get(level).copied().filter(|n| *n > 0).unwrap_or(1);
    let cache = |level: u32, bytes: Option<u64>, shared_by: usize| {
        bytes.filter(|bytes| *bytes > 0).map(|bytes| Cache { level, bytes, shared_by })
    };
    let l1 = number(c"hw.perflevel0.l1dcachesize").or_else(|| number(c"hw.l1dcachesize"));
    let l2 = number(c"hw.perflevel0.l2cachesize").or_else(|| number(c"hw.l2cachesize"));
    let l2_shared_by = number(c"hw.perflevel0.cpusperl2").map_or_else(|| shared_by(2), |n| (n as usize).max(1));
    let levels =
        [cache(1, l1, shared_by(1)), cache(2, l2, l2_shared_by), cache(3, number(c"hw.l3cachesize"), shared_by(3))];
    levels.into_iter().flatten().collect()
}

/// As `Apple M1`.
pub(in crate::host) fn cpu_name() -> Option<String> {
    let name = bytes(c"machdep.cpu.brand_string")?;
    let name = String::from_utf8_lossy(&name);
    let name = name.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (!name.is_empty()).then(|| name.to_string())
}

/// What the pages of memory are used for.
fn pages() -> Option<(libc::vm_statistics64, u64)> {
    // SAFETY: all zeros are such statistics, of which the system writes no more than it is told. The port is this
    // process's as long as it lives.
    unsafe {
        let mut statistics: libc::vm_statistics64 = zeroed();
        let mut count = (size_of_val(&statistics) / size_of::<libc::integer_t>()) as libc::mach_msg_type_number_t;
        let at = (&raw mut statistics).cast();
        #[allow(deprecated, reason = "another crate for one function")]
        let status = libc::host_statistics64(libc::mach_host_self(), libc::HOST_VM_INFO64, at, &mut count);
        let page = u64::try_from(libc::sysconf(libc::_SC_PAGESIZE)).ok()?;
        (status == libc::KERN_SUCCESS).then_some((statistics, page))
    }
}

/// What there is for this process.
pub(in crate::host) fn memory() -> Option<Memory> {
    let total = number(c"hw.memsize")?;
    let (pages, size) = pages()?;
    let free = [pages.free_count, pages.inactive_count, pages.purgeable_count].map(u64::from).iter().sum::<u64>();
    Some(Memory { total, available: (free * size).min(total) })
}

/// All that is not wired: the rest is compressed, or goes into swap files, which grow.
pub(in crate::host) fn obtainable() -> Option<u64> {
    let (pages, size) = pages()?;
    Some(number(c"hw.memsize")?.saturating_sub(u64::from(pages.wire_count) * size))
}

/// There is none that could be told.
pub(in crate::host) fn limit() -> Option<u64> {
    None
}

/// The most that this process has had resident.
pub(in crate::host) fn peak() -> Option<u64> {
    // SAFETY: all zeros is a `rusage`, and the system only writes to it.
    let (status, usage) = unsafe {
        let mut usage: libc::rusage = zeroed();
        (libc::getrusage(libc::RUSAGE_SELF, &mut usage), usage)
    };
    // In bytes, unlike elsewhere.
    (status == 0).then(|| u64::try_from(usage.ru_maxrss).ok())?
}

/// The peak is that of the whole life.
pub(in crate::host) fn reset_peak() -> bool {
    false
}

/// Its pages have 16 KiB on its own CPUs, and what is larger is not for ordinary memory.
pub(in crate::host) fn large_pages() -> Option<LargePages> {
    Some(LargePages::Not("macOS has none for ordinary memory"))
}
