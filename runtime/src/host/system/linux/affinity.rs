//! Where a thread runs.

/// Asks the system to run the calling thread on these CPUs only. When it refuses, nothing changes.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::host) fn prefer(cpus: Option<&[usize]>) {
    use std::ffi::{c_int, c_ulong};
    unsafe extern "C" {
        /// sched_setaffinity(2); process 0 is the calling thread.
        fn sched_setaffinity(process: c_int, bytes: usize, mask: *const c_ulong) -> c_int;
    }
    const BITS: usize = c_ulong::BITS as usize;
    let Some(cpus) = cpus else { return };
    let mut mask = vec![0; cpus.iter().max().map_or(0, |last| last / BITS + 1)];
    cpus.iter().for_each(|cpu| mask[cpu / BITS] |= 1 << (cpu % BITS));
    // SAFETY: the system only reads the mask, which is as long as it is told.
    let _ = unsafe { sched_setaffinity(0, size_of_val(&mask[..]), mask.as_ptr()) };
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(in crate::host) fn prefer(_: Option<&[usize]>) {}
