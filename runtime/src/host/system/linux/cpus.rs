//! What the files of a system say about its CPUs and their limits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::super::answers::{Measure, Processors};
use super::list::parse_list;

/// A file of the running system, without spaces and line ends around it.
pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_string())
}

/// The files of a system. Paths are relative to its root.
pub(in crate::host) struct System<'a> {
    root: &'a Path,
}

impl System<'_> {
    /// The system whose root directory is `root`.
    pub(in crate::host) fn at(root: &Path) -> System<'_> {
        System { root }
    }

    /// What it says of its CPUs.
    pub(in crate::host) fn processors(&self) -> Processors {
        let online = self.list("sys/devices/system/cpu/online");
        let affinity = self.affinity();
        let allowed: Vec<usize> = match (&online, &affinity) {
            // The mask may name CPUs that are switched off.
            (Some(online), Some(affinity)) => online.intersection(affinity).copied().collect(),
            (Some(cpus), None) | (None, Some(cpus)) => cpus.iter().copied().collect(),
            (None, None) => Vec::new(),
        };
        let strengths = self.strengths(&allowed);
        Processors { online: online.map(|cpus| cpus.len()), allowed, quota: self.quota(), strengths, fast: None }
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.root.join(path)).ok()
    }

    fn list(&self, path: &str) -> Option<BTreeSet<usize>> {
        parse_list(&self.text(path)?)
    }

    /// CPUs that the calling thread may run on: what sched_getaffinity(2) says, from proc(5).
    fn affinity(&self) -> Option<BTreeSet<usize>> {
        let status = self.text("proc/thread-self/status").or_else(|| self.text("proc/self/status"))?;
        parse_list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
    }

    /// The smallest quota among this process's control groups and the groups around them, in CPUs (cgroups(7)).
    fn quota(&self) -> Option<f64> {
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
    fn strengths(&self, cpus: &[usize]) -> Option<(Measure, Vec<u64>)> {
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
