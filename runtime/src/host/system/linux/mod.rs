//! Linux and Android, which tell by files: proc(5), sysfs, cgroups(7).

mod affinity;
mod cpu;
pub(in crate::host) mod cpus;
mod list;
mod memory;

use std::path::Path;

pub(in crate::host) use affinity::prefer;
pub(in crate::host) use cpu::{caches, cpu_name};
pub(in crate::host) use memory::{large_pages, limit, memory, obtainable, peak, reset_peak};

use super::super::answers::Processors;

/// The CPUs of this machine.
pub(in crate::host) fn processors() -> Processors {
    cpus::System::at(Path::new("/")).processors()
}
