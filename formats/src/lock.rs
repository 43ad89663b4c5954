//! Memory that stays in memory.

use std::io;

/// Reads in what is not there yet of `memory`, a mapping or a part of one, and keeps all of it from being swapped out
/// or dropped until it is unmapped.
///
/// # Errors
/// What the system says, most often that the process may not lock so much.
#[cfg(unix)]
pub fn lock(memory: &[u8]) -> io::Result<()> {
    use std::ffi::{c_int, c_void};
    unsafe extern "C" {
        /// mlock(2).
        fn mlock(address: *const c_void, length: usize) -> c_int;
    }
    // Nothing has no pages, and an address where none need be.
    // SAFETY: the memory is there, and nothing of it changes.
    if !memory.is_empty() && unsafe { mlock(memory.as_ptr().cast(), memory.len()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Reads in what is not there yet of `memory`, a mapping or a part of one, and keeps all of it from being swapped out
/// or dropped until it is unmapped. Windows locks no more than what a process may have in memory at least, its working
/// set, so that is enlarged first.
///
/// # Errors
/// What the system says, most often that the working set may not be so large.
#[cfg(windows)]
pub fn lock(memory: &[u8]) -> io::Result<()> {
    use windows_sys::Win32::System::Memory::{GetProcessWorkingSetSizeEx, SetProcessWorkingSetSizeEx, VirtualLock};
    use windows_sys::Win32::System::Threading::GetCurrentProcess;

    if memory.is_empty() {
        return Ok(());
    }
    let (mut least, mut most, mut flags) = (0, 0, 0);
    // SAFETY: the system writes three numbers, then takes three.
    let enlarged = unsafe {
        let process = GetCurrentProcess();
        GetProcessWorkingSetSizeEx(process, &mut least, &mut most, &mut flags) != 0
            && SetProcessWorkingSetSizeEx(process, least + memory.len(), most + memory.len(), flags) != 0
    };
    // SAFETY: the memory is there, and nothing of it changes.
    if !enlarged || unsafe { VirtualLock(memory.as_ptr().cast(), memory.len()) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Keeps `memory` from being swapped out, where the system can.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`]: this one can't.
#[cfg(not(any(unix, windows)))]
pub fn lock(_: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn little_memory_can_be_locked() {
        let memory = memmap2::MmapMut::map_anon(3 << 12).unwrap();
        super::lock(&memory).unwrap();
        super::lock(&[]).unwrap();
    }
}
