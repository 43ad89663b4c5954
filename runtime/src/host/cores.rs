//! Which of the machine's cores the threads should run on.
//!
//! Phones and some laptops have cores of two or three kinds. A forward pass is a chain of short steps that end
//! together, so a slow core adds little, and costs the fast ones memory bandwidth and, on a phone, heat: by default
//! there is one thread for each fast core that this process may use, and no other. Where the system tells nothing of
//! its cores all count as fast. The results do not depend on any of this.

use std::collections::BTreeSet;
use std::num::NonZero;

pub use super::answers::Measure;
use super::answers::Processors;
use super::cpu_list::CpuList;
use super::system;

/// The cores that this process may use, and what the system says about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Cores {
    /// CPUs that are switched on, whoever may use them; `None` where the system does not tell.
    pub online: Option<usize>,
    /// The CPUs among them that this process may run on (`taskset`, cpusets), by number; empty where the system does
    /// not tell.
    pub allowed: Vec<usize>,
    /// CPUs' worth of time that the control groups leave to this process, if they limit it.
    pub quota: Option<f64>,
    /// What tells the allowed CPUs apart, and the figure of each; `None` where nothing does.
    pub strengths: Option<(Measure, Vec<u64>)>,
    /// How many CPUs are fast, where the system tells that and not which.
    pub fast_cpus: Option<usize>,
    /// Threads that can run at once.
    limit: usize,
}

impl Cores {
    /// Asks the system.
    pub fn here() -> Cores {
        Cores::of(system::processors(), std::thread::available_parallelism().map_or(1, NonZero::get))
    }

    /// What the system says, and no more than `parallelism` threads at once, whatever it says.
    fn of(processors: Processors, parallelism: usize) -> Cores {
        let Processors { online, allowed, quota, strengths, fast } = processors;
        let mut limit = parallelism;
        if !allowed.is_empty() {
            limit = limit.min(allowed.len());
        }
        if let Some(quota) = quota {
            limit = limit.min(quota as usize);
        }
        Cores { online, allowed, quota, strengths, fast_cpus: fast.filter(|fast| *fast > 0), limit: limit.max(1) }
    }

    /// The most threads that can run at once: one for each allowed CPU, within the quota.
    pub fn allowed_threads(&self) -> usize {
        self.limit
    }

    /// Threads to use when nobody says how many: one for each fast CPU, within the quota.
    pub fn default_threads(&self) -> usize {
        let fast = if self.allowed.is_empty() { self.fast_cpus } else { Some(self.fast().len()) };
        self.limit.min(fast.unwrap_or(self.limit))
    }

    /// The fast CPUs among the allowed ones.
    pub fn fast(&self) -> Vec<usize> {
        self.divide().0
    }

    /// Fast and slow CPUs.
    fn divide(&self) -> (Vec<usize>, Vec<usize>) {
        let Some((measure, figures)) = &self.strengths else { return (self.allowed.clone(), Vec::new()) };
        let most = u128::from(figures.iter().copied().max().unwrap_or(0));
        let is_fast = |&(_, figure): &(usize, u64)| u128::from(figure) * 100 >= most * u128::from(measure.percent());
        let (fast, slow): (Vec<_>, Vec<_>) =
            self.allowed.iter().copied().zip(figures.iter().copied()).partition(is_fast);
        let cpus = |pairs: Vec<(usize, u64)>| pairs.into_iter().map(|(cpu, _)| cpu).collect();
        (cpus(fast), cpus(slow))
    }

    /// The CPUs that `threads` threads should keep to: the fast ones when they are enough and there are slow ones
    /// besides, otherwise `None`, for wherever the system puts them.
    pub fn home(&self, threads: usize) -> Option<Vec<usize>> {
        let (fast, slow) = self.divide();
        (!slow.is_empty() && threads <= fast.len()).then_some(fast)
    }

    /// A sentence about which cores are fast.
    pub fn why(&self) -> String {
        if let (Some(fast), Some(online)) = (self.fast_cpus, self.online) {
            return format!("{fast} of {online} CPUs are fast ones, to which the system is asked to give the threads");
        }
        let Some((measure, figures)) = &self.strengths else {
            return "the system does not tell which cores are fast, so all are taken for it".to_string();
        };
        let (fast, slow) = self.divide();
        let range = |cpus: &[usize]| {
            let of = |(cpu, figure): (&usize, &u64)| cpus.contains(cpu).then_some(*figure);
            let figures: BTreeSet<u64> = self.allowed.iter().zip(figures).filter_map(of).collect();
            match (figures.first(), figures.last()) {
                (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
                (Some(only), _) => only.to_string(),
                _ => String::new(),
            }
        };
        let (name, all) = (measure.name(), CpuList(&fast));
        match measure.is_kind() {
            true if slow.is_empty() => format!("CPUs {all} are of one kind"),
            true => format!("CPUs {all} are the fast ones ({name}), {} the slow ones", CpuList(&slow)),
            false if slow.is_empty() => format!("CPUs {all} are all fast ({name} {})", range(&fast)),
            false => format!(
                "CPUs {all} are the fast ones ({name} {}), {} the slow ones ({})",
                range(&fast),
                CpuList(&slow),
                range(&slow)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_at_least_one_thread() {
        let cores = Cores::here();
        assert!((1..=cores.allowed_threads()).contains(&cores.default_threads()));
        assert!(cores.allowed_threads() <= std::thread::available_parallelism().map_or(1, NonZero::get));
    }

    /// As a laptop with Windows: two kinds of cores.
    #[test]
    fn kinds_by_number_are_told_apart() {
        let classes = |classes: &[u64]| {
            let allowed = (0..classes.len()).collect();
            let strengths = Some((Measure::EfficiencyClass, classes.to_vec()));
            Cores::of(Processors { allowed, strengths, ..Processors::default() }, 64)
        };
        let cores = classes(&[1, 1, 1, 1, 0, 0, 0, 0]);
        assert_eq!((cores.fast(), cores.default_threads(), cores.allowed_threads()), (vec![0, 1, 2, 3], 4, 8));
        assert_eq!((cores.home(4), cores.home(5)), (Some(vec![0, 1, 2, 3]), None));
        assert_eq!(cores.why(), "CPUs 0-3 are the fast ones (EfficiencyClass), 4-7 the slow ones");
        assert_eq!(classes(&[0, 0, 1, 2]).fast(), [3]);
        assert_eq!((classes(&[0; 4]).fast().len(), classes(&[0; 4]).why()), (4, "CPUs 0-3 are of one kind".into()));
    }

    /// As a Mac: the system tells how many cores are fast, and chooses them itself.
    #[test]
    fn a_number_of_fast_cores_is_enough() {
        let mac = |fast| Processors { online: Some(8), fast, ..Processors::default() };
        let cores = Cores::of(mac(Some(4)), 8);
        assert_eq!((cores.default_threads(), cores.allowed_threads(), cores.home(4)), (4, 8, None));
        assert!(cores.why().starts_with("4 of 8 CPUs are fast ones"), "{}", cores.why());
        assert_eq!(Cores::of(mac(None), 8).default_threads(), 8);
        assert_eq!(Cores::of(mac(Some(4)), 2).default_threads(), 2);
    }
}

/// What comes of the files that a system tells by.
#[cfg(all(test, not(any(windows, target_vendor = "apple"))))]
mod tests_with_files {
    use super::*;
    use crate::host::system::linux::cpus::System;

    /// The files of a system that is not here.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new(files: &[(&str, &str)]) -> Fake {
            let fake = Fake(tempfile::tempdir().unwrap());
            files.iter().for_each(|(path, text)| fake.put(path, text));
            fake
        }

        /// A system with these figures of its CPUs, each in the file `name` of its directory.
        fn with_cpus(name: &str, figures: &[u64]) -> Fake {
            let last = figures.len() - 1;
            let fake = Fake::new(&[
                ("sys/devices/system/cpu/online", &format!("0-{last}\n")),
                ("proc/thread-self/status", &format!("Name:\tquipu\nCpus_allowed_list:\t0-{last}\nThreads:\t1\n")),
            ]);
            for (cpu, figure) in figures.iter().enumerate() {
                fake.put(&format!("sys/devices/system/cpu/cpu{cpu}/{name}"), &format!("{figure}\n"));
            }
            fake
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn cores(&self) -> Cores {
            Cores::of(System::at(self.0.path()).processors(), 64)
        }
    }

    const CAPACITY: &str = "cpu_capacity";
    const FREQUENCY: &str = "cpufreq/cpuinfo_max_freq";

    #[test]
    fn fast_clusters_of_known_machines() {
        let machines: &[(&str, &str, &[u64], &[usize])] = &[
            ("four equal cores, as a Raspberry Pi", CAPACITY, &[1024; 4], &[0, 1, 2, 3]),
            ("RK3588: A55 and A76", CAPACITY, &[414, 414, 414, 414, 1024, 1024, 1024, 1024], &[4, 5, 6, 7]),
            ("Tensor G1: A55, A76, X1", CAPACITY, &[250, 250, 250, 250, 620, 620, 1024, 1024], &[4, 5, 6, 7]),
            (
                "little cores, three big ones and a prime",
                CAPACITY,
                &[325, 325, 325, 325, 871, 871, 871, 1024],
                &[4, 5, 6, 7],
            ),
            ("prime cores first", CAPACITY, &[1024, 1024, 700, 700, 300, 300], &[0, 1, 2, 3]),
            (
                "Snapdragon 855 by its clocks",
                FREQUENCY,
                &[1785600, 1785600, 1785600, 1785600, 2419200, 2419200, 2419200, 2841600],
                &[4, 5, 6, 7],
            ),
            (
                "RK3399 by its clocks: A53 and A72",
                FREQUENCY,
                &[1416000, 1416000, 1416000, 1416000, 1800000, 1800000],
                &[4, 5],
            ),
            ("x86 with favoured cores", FREQUENCY, &[4800000, 5000000, 4800000, 5000000], &[0, 1, 2, 3]),
        ];
        for (machine, file, figures, fast) in machines {
            let cores = Fake::with_cpus(file, figures).cores();
            assert_eq!(cores.fast(), *fast, "{machine}");
            assert_eq!(cores.default_threads(), fast.len(), "{machine}");
            assert_eq!(cores.allowed_threads(), figures.len(), "{machine}");
            let all_fast = fast.len() == figures.len();
            assert_eq!(cores.home(fast.len()), (!all_fast).then(|| fast.to_vec()), "{machine}");
            assert_eq!(cores.home(fast.len() + 1), None, "{machine}");
        }
    }

    #[test]
    fn the_better_source_is_believed() {
        let fake = Fake::with_cpus(FREQUENCY, &[2000; 4]);
        assert_eq!(fake.cores().strengths.unwrap().0, Measure::MaxFrequency);
        for cpu in 0..3 {
            fake.put(&format!("sys/devices/system/cpu/cpu{cpu}/{CAPACITY}"), "1024");
        }
        // It must know all of them.
        assert_eq!(fake.cores().strengths.unwrap().0, Measure::MaxFrequency);
        fake.put(&format!("sys/devices/system/cpu/cpu3/{CAPACITY}"), "300");
        assert_eq!(fake.cores().fast(), [0, 1, 2]);
        fake.put("sys/devices/cpu_core/cpus", "2-3\n");
        assert_eq!(fake.cores().fast(), [2, 3]);
        assert_eq!(fake.cores().why(), "CPUs 2-3 are the fast ones (cpu_core), 0-1 the slow ones");
    }

    #[test]
    fn affinity_and_cpus_that_are_off_come_first() {
        let fake = Fake::with_cpus(CAPACITY, &[300, 300, 300, 300, 800, 800, 800, 1024]);
        assert_eq!(
            fake.cores().why(),
            "CPUs 4-7 are the fast ones (cpu_capacity 800 to 1024), 0-3 the slow ones (300)"
        );
        fake.put("proc/thread-self/status", "Cpus_allowed_list:\t0-1,4,7\n");
        let cores = fake.cores();
        assert_eq!((cores.fast(), cores.default_threads(), cores.allowed_threads()), (vec![4, 7], 2, 4));
        fake.put("sys/devices/system/cpu/online", "0-4\n");
        assert_eq!(fake.cores().fast(), [4]);
        // Only little cores: then they are what there is.
        fake.put("proc/thread-self/status", "Cpus_allowed_list:\t0-1\n");
        let cores = fake.cores();
        assert_eq!((cores.fast(), cores.home(2)), (vec![0, 1], None));
        assert_eq!(cores.why(), "CPUs 0-1 are all fast (cpu_capacity 300)");
    }

    #[test]
    fn quotas_of_both_versions_limit_the_threads() {
        let fake = Fake::with_cpus(CAPACITY, &[1024; 8]);
        let threads = |fake: &Fake| (fake.cores().default_threads(), fake.cores().allowed_threads());
        fake.put("proc/self/cgroup", "0::/user.slice/app.scope\n");
        fake.put("sys/fs/cgroup/user.slice/app.scope/cpu.max", "max 100000\n");
        assert_eq!(threads(&fake), (8, 8));
        // The group around it counts too.
        fake.put("sys/fs/cgroup/user.slice/cpu.max", "350000 100000\n");
        assert_eq!((threads(&fake), fake.cores().quota), ((3, 3), Some(3.5)));
        fake.put("sys/fs/cgroup/user.slice/app.scope/cpu.max", "50000 100000\n");
        assert_eq!(threads(&fake), (1, 1));

        let fake = Fake::with_cpus(CAPACITY, &[300, 300, 300, 300, 1024, 1024, 1024, 1024]);
        fake.put("proc/self/cgroup", "3:memory:/a\n2:cpu,cpuacct:/docker/0123\n1:cpuset:/\n");
        fake.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
        fake.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
        assert_eq!(threads(&fake), (4, 8));
        fake.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "600000\n");
        assert_eq!(threads(&fake), (4, 6));
        fake.put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
        assert_eq!(threads(&fake), (2, 2));
    }

    #[test]
    fn a_system_that_tells_nothing_gets_all_its_threads() {
        let cores = Cores::of(System::at(Fake::new(&[]).0.path()).processors(), 6);
        assert_eq!((cores.default_threads(), cores.allowed_threads(), cores.home(1)), (6, 6, None));
        // Nonsense is no information.
        let fake = Fake::with_cpus(CAPACITY, &[1024; 2]);
        fake.put("sys/devices/system/cpu/online", "7-3");
        fake.put("proc/thread-self/status", "Cpus_allowed_list:\t0-99999999999\n");
        fake.put("proc/self/cgroup", "0\n0::/x");
        fake.put("sys/fs/cgroup/x/cpu.max", "much 0");
        let cores = Cores::of(System::at(fake.0.path()).processors(), 6);
        assert_eq!((cores.allowed_threads(), cores.quota), (6, None));
    }
}
