//! What the files of a system say about its CPUs and their limits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::cpu_list::parse_list;

/// A file of the running system, without spaces and line ends around it.
pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_string())
}

/// What tells fast cores from slow ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The kinds of cores of a hybrid x86 CPU: `/sys/devices/cpu_core`.
    CoreType,
    /// Work per second as the kernel's scheduler counts it, 1024 for the strongest core: `cpu_capacity`.
    Capacity,
    /// The highest clock rate in kHz: `cpufreq/cpuinfo_max_freq`.
    MaxFrequency,
}

impl Measure {
    /// What the system calls it.
    pub fn name(self) -> &'static str {
        match self {
            Measure::CoreType => "cpu_core",
            Measure::Capacity => "cpu_capacity",
            Measure::MaxFrequency => "cpuinfo_max_freq",
        }
    }

    /// A core is fast if its figure is at least so many percent of the strongest core's.
    ///
    /// Phones with a single prime core have two to four more that are nearly as good, at 60 to 90 % of its capacity;
    /// little cores are below 55 % (a Cortex-A55 beside an A76 at 52 % at most). In clock rates all cores lie closer
    /// together: big ones from 80 % on, little ones mostly below 78 %.
    pub(super) fn percent(self) -> u64 {
        match self {
            Measure::CoreType => 100,
            Measure::Capacity => 60,
            Measure::MaxFrequency => 80,
        }
    }
}

/// The files of a system. Paths are relative to its root.
pub(super) struct System<'a> {
    root: &'a Path,
}

impl System<'_> {
    /// The system whose root directory is `root`.
    pub(super) fn at(root: &Path) -> System<'_> {
        System { root }
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    pub(super) fn list(&self, path: &str) -> Option<BTreeSet<usize>> {
        parse_list(&self.text(path)?)
    }

    /// CPUs that the calling thread may run on: what sched_getaffinity(2) says, from proc(5).
    pub(super) fn affinity(&self) -> Option<BTreeSet<usize>> {
        let status = self.text("proc/thread-self/status").or_else(|| self.text("proc/self/status"))?;
        parse_list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
    }

    /// The smallest quota among this process's control groups and the groups around them, in CPUs (cgroups(7)).
    pub(super) fn quota(&self) -> Option<f64> {
        let mut least: Option<f64> = None;
        for line in self.text("proc/self/cgroup")?.lines() {
            // hierarchy:controllers:path, where version 2 has no controllers.
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let mounts = match controllers {
                "" => vec!["", "unified"],
                list if list.split(',').any(|name| name == "cpu") => vec!["cpu", list],
                _ => continue,
            };
            for mount in mounts {
                let mount = Path::new("sys/fs/cgroup").join(mount);
                // From inside a container the path may not be there; its outermost group still is.
                for group in Path::new(path.trim_start_matches('/')).ancestors() {
                    let quota = self.group_quota(&mount.join(group), controllers.is_empty());
                    least = least.into_iter().chain(quota).reduce(f64::min);
                }
            }
        }
        least
    }

    fn group_quota(&self, group: &Path, version2: bool) -> Option<f64> {
        let numbers = if version2 {
            self.text(group.join("cpu.max"))?
        } else {
            let file = |name: &str| self.text(group.join(format!("cpu.cfs_{name}_us")));
            format!("{} {}", file("quota")?, file("period")?)
        };
        let mut numbers = numbers.split_whitespace().map(|n| n.parse::<f64>().ok());
        let (quota, period) = (numbers.next()??, numbers.next()??);
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    }

    /// What tells `cpus` apart, from the best source that knows all of them.
    pub(super) fn strengths(&self, cpus: &[usize]) -> Option<(Measure, Vec<u64>)> {
        if cpus.is_empty() {
            return None;
        }
        if let Some(core) = self.list("sys/devices/cpu_core/cpus") {
            return Some((Measure::CoreType, cpus.iter().map(|cpu| core.contains(cpu).into()).collect()));
        }
        [(Measure::Capacity, "cpu_capacity"), (Measure::MaxFrequency, "cpufreq/cpuinfo_max_freq")].into_iter().find_map(
            |(measure, file)| {
                let path = |cpu| PathBuf::from(format!("sys/devices/system/cpu/cpu{cpu}")).join(file);
                let figure = |&cpu| self.text(path(cpu))?.trim().parse().ok();
                Some((measure, cpus.iter().map(figure).collect::<Option<Vec<u64>>>()?))
            },
        )
    }
}
