//! One system's answers: each file or directory here has the same functions.

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(not(any(windows, target_vendor = "apple")))]
pub(super) mod linux;
#[cfg(windows)]
mod windows;

#[cfg(target_vendor = "apple")]
pub(super) use apple::*;
#[cfg(not(any(windows, target_vendor = "apple")))]
pub(super) use linux::*;
#[cfg(windows)]
pub(super) use windows::*;
