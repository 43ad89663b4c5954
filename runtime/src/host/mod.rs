//! The machine that everything runs on, as the system describes it.
//!
//! - [`cores`]: which cores the threads run on.
//! - [`cpu`]: the CPU's name and caches; [`memory`]: how much there is, and how much this process takes.
//! - [`threads`]: where there is room for one, and where it should run.
//!
//! Every answer is optional: systems differ in what they tell. What they are asked, and how, is in `system`, a file or
//! a directory for each; all else is the same for all.
//!
//! | | Linux, Android | Windows | macOS |
//! |-|-|-|-|
//! | fast cores | `cpu_core`, `cpu_capacity`, clock rates | `EfficiencyClass` of CPU sets | how many: `hw.perflevel0` |
//! | which CPUs a process may use | affinity, cpusets, those switched on | affinity, CPU sets | – (all) |
//! | limit on their time | control groups | – | – |
//! | workers go to fast cores by | `sched_setaffinity` | CPU sets of a thread | class of service |
//! | memory, and what is available | `/proc/meminfo`, control group | `GlobalMemoryStatusEx` | `hw.memsize`, VM statistics |
//! | peak of this process | `VmHWM`, can begin anew | `PeakWorkingSetSize` | `ru_maxrss` |
//! | caches | sysfs | `GetLogicalProcessorInformation` | `hw.l1dcachesize` and others |
//! | CPU's name | itself, cpuinfo, device tree | itself, registry | `machdep.cpu.brand_string` |
//! | large pages for weights | asked for | –: they need a privilege | – |
//! | locked memory (`quipu_formats::lock`) | `mlock` | `VirtualLock`, working set enlarged first | `mlock` |
//!
//! Other systems are asked as Linux is; where its files are not, nothing is known.

mod answers;
pub mod cores;
pub mod cpu;
mod cpu_list;
pub mod memory;
#[allow(unsafe_code)]
mod system;
pub mod threads;
