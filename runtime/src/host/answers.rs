//! What a system is asked, in one form for all of them.

/// What tells fast cores from slow ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The kinds of cores of a hybrid x86 CPU: `/sys/devices/cpu_core`.
    CoreType,
    /// Work per second as the kernel's scheduler counts it, 1024 for the strongest core: `cpu_capacity`.
    Capacity,
    /// The highest clock rate in kHz: `cpufreq/cpuinfo_max_freq`.
    MaxFrequency,
    /// The kinds of cores as Windows numbers them, the fastest with the highest number: `EfficiencyClass`.
    EfficiencyClass,
}

impl Measure {
    /// What the system calls it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::CoreType => "cpu_core",
            Measure::Capacity => "cpu_capacity",
            Measure::MaxFrequency => "cpuinfo_max_freq",
            Measure::EfficiencyClass => "EfficiencyClass",
        }
    }

    /// Whether its figures stand for kinds, and say nothing beside one another.
    pub(super) fn is_kind(self) -> bool {
        matches!(self, Measure::CoreType | Measure::EfficiencyClass)
    }

    /// A core is fast if its figure is at least so many percent of the strongest core's.
    ///
    /// Phones with a single prime core have two to four more that are nearly as good, at 60 to 90 % of its capacity;
    /// little cores are below 55 % (a Cortex-A55 beside an A76 at 52 % at most). In clock rates all cores lie closer
    /// together: big ones from 80 % on, little ones mostly below 78 %.
    pub(super) fn percent(self) -> u64 {
        match self {
            Measure::CoreType | Measure::EfficiencyClass => 100,
            Measure::Capacity => 60,
            Measure::MaxFrequency => 80,
        }
    }
}

/// The CPUs, and which of them this process may use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Processors {
    /// CPUs that are switched on, whoever may use them.
    pub online: Option<usize>,
    /// Those among them that the calling thread may run on, by number; empty where the system does not tell.
    pub allowed: Vec<usize>,
    /// CPUs' worth of time that this process has, if that is limited.
    pub quota: Option<f64>,
    /// What tells the allowed CPUs apart, and the figure of each.
    pub strengths: Option<(Measure, Vec<u64>)>,
    /// How many are fast, where the system tells that and not which.
    pub fast: Option<usize>,
}

/// One level of the caches of the first CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// 1 is next to the core.
    pub level: u32,
    /// Bytes.
    pub bytes: u64,
    /// CPUs that share it.
    pub shared_by: usize,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All that there is for this process: of the machine, or of its control group if that allows less.
    pub total: u64,
    /// What can be taken without swapping.
    pub available: u64,
}

/// Whether the weights can lie in pages of 2 MiB, which spare decode the waits for the TLB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LargePages {
    /// The system's setting: `always`, `madvise` (for what asks for them, as weights do) or `never`.
    Setting(String),
    /// They can't; why.
    Not(&'static str),
}
