//! The machine that everything runs on, as the system describes it.
//!
//! - [`cores`]: which cores the threads run on.
//! - [`cpu`]: the CPU's name and caches; [`memory`]: how much there is, and how much this process takes.
//! - [`threads`]: where there is room for one.
//!
//! Every answer is optional: systems differ in what they tell. Linux and Android tell by files (proc(5), sysfs,
//! cgroups(7)); elsewhere most answers are `None`.

pub mod cores;
pub mod cpu;
mod cpu_list;
pub mod memory;
mod system;
pub mod threads;
