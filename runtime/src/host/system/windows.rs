//! Windows.

use std::mem::{size_of, size_of_val, zeroed};
use std::ptr::null_mut;

use windows_sys::Win32::System::ProcessStatus::{K32GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS};
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};
use windows_sys::Win32::System::SystemInformation::{
    CacheInstruction, CacheTrace, GROUP_AFFINITY, GetLogicalProcessorInformation, GetSystemCpuSetInformation,
    GlobalMemoryStatusEx, MEMORYSTATUSEX, RelationCache, SYSTEM_CPU_SET_INFORMATION,
    SYSTEM_CPU_SET_INFORMATION_ALLOCATED, SYSTEM_CPU_SET_INFORMATION_ALLOCATED_TO_TARGET_PROCESS,
    SYSTEM_LOGICAL_PROCESSOR_INFORMATION,
};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, GetThreadGroupAffinity, SetThreadSelectedCpuSets,
};
use windows_sys::w;

use super::super::answers::{Cache, LargePages, Measure, Memory, Processors};

/// CPUs of a group, which is what a mask of them has room for.
const GROUP: usize = usize::BITS as usize;

/// A CPU as the scheduler knows it.
struct CpuSet {
    id: u32,
    /// Group by group.
    cpu: usize,
    /// The fastest kind of cores has the highest number.
    class: u8,
    /// No other process has it for itself.
    is_free: bool,
}

fn cpu_sets() -> Vec<CpuSet> {
    let mut bytes = 0;
    // SAFETY: a process is always given itself; without a buffer the system says how long it has to be.
    unsafe { GetSystemCpuSetInformation(null_mut(), 0, &mut bytes, GetCurrentProcess(), 0) };
    let mut buffer = vec![0u8; bytes as usize];
    // SAFETY: the buffer is as long as the system is told.
    let status =
        unsafe { GetSystemCpuSetInformation(buffer.as_mut_ptr().cast(), bytes, &mut bytes, GetCurrentProcess(), 0) };
    let mut sets = Vec::new();
    let mut rest = &buffer[..(bytes as usize).min(buffer.len())];
    while status != 0 && rest.len() >= size_of::<SYSTEM_CPU_SET_INFORMATION>() {
        // SAFETY: so many bytes are there, and any of them make such a value. The union has one kind of contents.
        let (size, set) = unsafe {
            let entry = rest.as_ptr().cast::<SYSTEM_CPU_SET_INFORMATION>().read_unaligned();
            (entry.Size as usize, entry.Anonymous.CpuSet)
        };
        // SAFETY: any byte is a set of flags.
        let flags = u32::from(unsafe { set.Anonymous1.AllFlags });
        let others = SYSTEM_CPU_SET_INFORMATION_ALLOCATED | SYSTEM_CPU_SET_INFORMATION_ALLOCATED_TO_TARGET_PROCESS;
        sets.push(CpuSet {
            id: set.Id,
            cpu: usize::from(set.Group) * GROUP + usize::from(set.LogicalProcessorIndex),
            class: set.EfficiencyClass,
            is_free: flags & others != SYSTEM_CPU_SET_INFORMATION_ALLOCATED,
        });
        rest = rest.get(size.max(1)..).unwrap_or(&[]);
    }
    sets
}

/// Where the calling thread may run: a group, and a mask of its CPUs.
fn affinity() -> Option<GROUP_AFFINITY> {
    // SAFETY: all zeros is a mask, and the system only writes to it.
    unsafe {
        let mut affinity: GROUP_AFFINITY = zeroed();
        (GetThreadGroupAffinity(GetCurrentThread(), &mut affinity) != 0).then_some(affinity)
    }
}

/// The CPUs of this machine. Of those beyond 64 only the group counts that this process was put into.
pub(in crate::host) fn processors() -> Processors {
    let sets = cpu_sets();
    let may = |cpu: usize| {
        affinity().is_none_or(|may| cpu / GROUP == usize::from(may.Group) && may.Mask >> (cpu % GROUP) & 1 == 1)
    };
    let (allowed, classes): (Vec<usize>, Vec<u64>) =
        sets.iter().filter(|set| set.is_free && may(set.cpu)).map(|set| (set.cpu, u64::from(set.class))).unzip();
    let strengths = (!allowed.is_empty()).then_some((Measure::EfficiencyClass, classes));
    let online = (!sets.is_empty()).then_some(sets.len());
    Processors { online, allowed, quota: None, strengths, fast: None }
}

/// Asks the scheduler to run the calling thread on these CPUs. A narrower affinity takes precedence.
pub(in crate::host) fn prefer(cpus: Option<&[usize]>) {
    let Some(cpus) = cpus else { return };
    let ids: Vec<u32> = cpu_sets().iter().filter(|set| cpus.contains(&set.cpu)).map(|set| set.id).collect();
    // SAFETY: the system only reads the list, which is as long as it is told.
    let _ = unsafe { SetThreadSelectedCpuSets(GetCurrentThread(), ids.as_ptr(), ids.len() as u32) };
}

/// The caches for data of the first CPU of this group.
pub(in crate::host) fn caches() -> Vec<Cache> {
    const ENTRY: usize = size_of::<SYSTEM_LOGICAL_PROCESSOR_INFORMATION>();
    let mut bytes = 0;
    // SAFETY: without a buffer the system says how long it has to be.
    unsafe { GetLogicalProcessorInformation(null_mut(), &mut bytes) };
    let mut entries = vec![SYSTEM_LOGICAL_PROCESSOR_INFORMATION::default(); bytes as usize / ENTRY];
    bytes = size_of_val(&entries[..]) as u32;
    // SAFETY: the buffer is as long as the system is told.
    if unsafe { GetLogicalProcessorInformation(entries.as_mut_ptr(), &mut bytes) } == 0 {
        return Vec::new();
    }
    entries.truncate(bytes as usize / ENTRY);
    let of_first = entries.iter().filter(|entry| entry.Relationship == RelationCache && entry.ProcessorMask & 1 == 1);
    of_first
        // SAFETY: the union of this relationship has a cache in it.
        .map(|entry| (entry.ProcessorMask, unsafe { entry.Anonymous.Cache }))
        .filter(|(_, cache)| cache.Type != CacheInstruction && cache.Type != CacheTrace)
        .map(|(cpus, cache)| Cache {
            level: cache.Level.into(),
            bytes: cache.Size.into(),
            shared_by: cpus.count_ones() as usize,
        })
        .collect()
}

/// What the firmware told the system.
pub(in crate::host) fn cpu_name() -> Option<String> {
    let mut name = [0u16; 256];
    let mut bytes = size_of_val(&name) as u32;
    // SAFETY: the names end with zeros, and the buffer is as long as the system is told.
    let status = unsafe {
        let key = w!("HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0");
        let (value, at) = (w!("ProcessorNameString"), name.as_mut_ptr().cast());
        RegGetValueW(HKEY_LOCAL_MACHINE, key, value, RRF_RT_REG_SZ, null_mut(), at, &mut bytes)
    };
    let text = String::from_utf16_lossy(&name[..bytes as usize / 2]);
    let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    (status == 0 && !text.is_empty()).then(|| text.to_string())
}

fn status() -> Option<MEMORYSTATUSEX> {
    let mut status = MEMORYSTATUSEX { dwLength: size_of::<MEMORYSTATUSEX>() as u32, ..Default::default() };
    // SAFETY: the system writes as much as the value says it has.
    (unsafe { GlobalMemoryStatusEx(&mut status) } != 0).then_some(status)
}

/// What there is for this process.
pub(in crate::host) fn memory() -> Option<Memory> {
    status().map(|status| Memory { total: status.ullTotalPhys, available: status.ullAvailPhys })
}

/// Nobody knows before asking for it: memory is promised only where RAM and page files have room for it, and page files
/// grow.
pub(in crate::host) fn obtainable() -> Option<u64> {
    None
}

/// What can be promised to this process as page files are now.
pub(in crate::host) fn limit() -> Option<u64> {
    status().map(|status| status.ullAvailPageFile)
}

/// The largest working set of this process.
pub(in crate::host) fn peak() -> Option<u64> {
    let mut counters = PROCESS_MEMORY_COUNTERS::default();
    let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    // SAFETY: the value is as long as the system is told.
    let status = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &mut counters, size) };
    (status != 0).then_some(counters.PeakWorkingSetSize as u64)
}

/// The largest working set is that of the whole life.
pub(in crate::host) fn reset_peak() -> bool {
    false
}

/// They would have to be locked and in one piece, which only some accounts may ask for.
pub(in crate::host) fn large_pages() -> Option<LargePages> {
    Some(LargePages::Not("Windows gives them only to accounts with the right to lock pages in memory"))
}
