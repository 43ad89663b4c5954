//! What was found on this machine, kept in a file of the user's cache directory.
//!
//! Nothing depends on the file: one that is missing, of another machine, damaged or not to be written costs some
//! milliseconds of measuring, and nobody is told. It is small and readable, and can be deleted at any time.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use quipu_kernels::{Ahead, Isa};
use quipu_quant::TensorType;
use serde::{Deserialize, Serialize};

use super::decide::Standing;
use crate::host::cpu;
use crate::host::memory::Memory;

/// The longest file that is read.
const MOST_BYTES: u64 = 256 << 10;

/// The largest distance that is believed.
const MOST_AHEAD: u32 = 64 << 10;

/// What findings are valid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// The version of this library.
    quipu: String,
    cpu: String,
    /// Bytes of the caches for data, from the core outwards.
    caches: Vec<u64>,
    /// In GiB, rounded up: systems keep a little of it to themselves, not always the same.
    memory: u64,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Machine {
        Machine {
            quipu: env!("CARGO_PKG_VERSION").to_string(),
            cpu: cpu::name(),
            caches: cpu::caches().iter().map(|cache| cache.bytes).collect(),
            memory: Memory::here().map_or(0, |memory| memory.total.div_ceil(1 << 30)),
        }
    }

    /// Where the findings for this machine lie in `directory`. Several machines can share a home.
    pub(super) fn file(&self, directory: &Path) -> PathBuf {
        // FNV-1a, 64 bits (Fowler, Noll and Vo).
        let text = format!("{self:?}");
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        directory.join(format!("tuning-{hash:016x}.json"))
    }
}

/// What was found for one type of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Finding {
    isa: String,
    threads: usize,
    #[serde(rename = "type")]
    ty: String,
    codes_ahead: u32,
    scales_ahead: u32,
    /// By how many percent that was faster than the default when it was found.
    pub(super) gain_percent: f64,
    agreeing_looks: u32,
    looks: u32,
}

impl Finding {
    pub(super) fn new(isa: Isa, threads: usize, ty: TensorType, ahead: Ahead) -> Finding {
        Finding {
            isa: isa.name().to_string(),
            threads,
            ty: ty.name().to_string(),
            codes_ahead: ahead.codes,
            scales_ahead: ahead.scales,
            gain_percent: 0.0,
            agreeing_looks: 0,
            looks: 0,
        }
    }

    pub(super) fn ty(&self) -> Option<TensorType> {
        TensorType::ALL.into_iter().find(|ty| ty.name() == self.ty)
    }

    pub(super) fn ahead(&self) -> Ahead {
        Ahead { codes: self.codes_ahead, scales: self.scales_ahead }
    }

    pub(super) fn set_ahead(&mut self, ahead: Ahead) {
        (self.codes_ahead, self.scales_ahead) = (ahead.codes, ahead.scales);
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { agreeing: self.agreeing_looks, looks: self.looks }
    }

    pub(super) fn set_standing(&mut self, standing: Standing) {
        (self.agreeing_looks, self.looks) = (standing.agreeing, standing.looks);
    }

    pub(super) fn is_for(&self, isa: Isa, threads: usize) -> bool {
        self.isa == isa.name() && self.threads == threads
    }

    fn is_same(&self, other: &Finding) -> bool {
        (&self.isa, self.threads, &self.ty) == (&other.isa, other.threads, &other.ty)
    }

    /// Whether a look can have found it.
    fn is_sound(&self) -> bool {
        self.ty().is_some()
            && self.codes_ahead <= MOST_AHEAD
            && self.scales_ahead <= MOST_AHEAD
            && self.agreeing_looks <= self.looks
            && self.gain_percent.is_finite()
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Contents {
    machine: Machine,
    found: Vec<Finding>,
}

/// The findings in `directory` for `machine`.
pub(super) fn read(directory: &Path, machine: &Machine) -> Vec<Finding> {
    let path = machine.file(directory);
    // No pipe or device, which might never end.
    let is_small_file = |path: &Path| std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MOST_BYTES);
    let contents = || {
        let contents: Contents = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        (contents.machine == *machine).then_some(contents.found)
    };
    let mut found = if is_small_file(&path) { contents().unwrap_or_default() } else { Vec::new() };
    found.retain(Finding::is_sound);
    found
}

/// Puts `new` in the place of what was found before for the same types, or does nothing where that can't be.
pub(super) fn write(directory: &Path, machine: &Machine, new: &[Finding]) {
    let mut found = read(directory, machine);
    found.retain(|old| !new.iter().any(|new| new.is_same(old)));
    found.extend_from_slice(new);
    let path = machine.file(directory);
    let put = || {
        let text = serde_json::to_string_pretty(&Contents { machine: machine.clone(), found })?;
        std::fs::create_dir_all(directory)?;
        // Complete or not there. It need not be on the disk: what a crash leaves is no JSON and counts as nothing.
        let mut temporary = OsString::from(&path);
        temporary.push(format!(".{}.tmp", std::process::id()));
        std::fs::write(&temporary, text + "\n")
            .and_then(|()| std::fs::rename(&temporary, &path))
            .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    };
    let _: std::io::Result<()> = put();
}

/// The user's directory for what can be made again: by the XDG Base Directory Specification, on macOS and Windows where
/// their guidelines put it.
pub(super) fn directory() -> Option<PathBuf> {
    directory_by(|name| std::env::var_os(name))
}

fn directory_by(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The specification has relative paths ignored.
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // A home that is not there stays so.
    let home = || absolute("HOME").filter(|home| home.is_dir());
    let caches = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if cfg!(target_vendor = "apple") {
        home().map(|home| home.join("Library/Caches"))
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("quipu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(ty: TensorType, codes: u32) -> Finding {
        let mut finding = Finding::new(Isa::Avx2, 2, ty, Ahead { codes, scales: codes / 8 });
        finding.set_standing(Standing { agreeing: 1, looks: 3 });
        finding
    }

    #[test]
    fn what_is_written_is_read_and_newer_findings_take_the_place_of_older_ones() {
        let directory = tempfile::tempdir().unwrap();
        let (directory, here) = (directory.path().join("new/quipu"), Machine::here());
        assert!(read(&directory, &here).is_empty());
        write(&directory, &here, &[finding(TensorType::Q4_0, 4096), finding(TensorType::Q6_K, 0)]);
        write(&directory, &here, &[finding(TensorType::Q4_0, 2048)]);
        assert_eq!(read(&directory, &here), [finding(TensorType::Q6_K, 0), finding(TensorType::Q4_0, 2048)]);
        // Nothing but that file.
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_file_of_another_machine_is_ignored_and_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (directory, here) = (directory.path(), Machine::here());
        for foreign in [
            Machine { cpu: "another".into(), ..here.clone() },
            Machine { memory: here.memory + 1, ..here.clone() },
            Machine { quipu: "0.0.0".into(), ..here.clone() },
            Machine { caches: vec![1], ..here.clone() },
        ] {
            assert_ne!(foreign.file(directory), here.file(directory));
            write(directory, &foreign, &[finding(TensorType::Q4_0, 4096)]);
            std::fs::rename(foreign.file(directory), here.file(directory)).unwrap();
            assert!(read(directory, &here).is_empty());
            write(directory, &here, &[finding(TensorType::Q8_0, 4096)]);
            assert_eq!(read(directory, &here), [finding(TensorType::Q8_0, 4096)]);
        }
    }

    #[test]
    fn a_damaged_file_is_nothing_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (directory, here) = (directory.path(), Machine::here());
        let good = [finding(TensorType::Q4_0, 4096)];
        write(directory, &here, &good);
        let path = here.file(directory);
        let text = std::fs::read_to_string(&path).unwrap();
        let damaged = [
            Vec::new(),
            text.as_bytes()[..text.len() / 2].to_vec(),
            vec![0xff; 100],
            b"[]".to_vec(),
            vec![b' '; MOST_BYTES as usize + 1],
            "[".repeat(100_000).into_bytes(),
            text.replace("4096", "\"much\"").into_bytes(),
            text.replace("4096", "-1").into_bytes(),
            text.replace("4096", "4294967295").into_bytes(),
            text.replace("Q4_0", "Q4_9").into_bytes(),
            text.replace("\"agreeing_looks\": 1", "\"agreeing_looks\": 4").into_bytes(),
        ];
        for bytes in damaged {
            std::fs::write(&path, &bytes).unwrap();
            assert!(read(directory, &here).is_empty(), "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(99)]));
            write(directory, &here, &good);
            assert_eq!(read(directory, &here), good);
        }
    }

    /// Nothing in its place can be read, or replaced; nothing comes of it.
    #[test]
    fn what_is_no_directory_or_no_file_does_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let here = Machine::here();
        let file = directory.path().join("file");
        std::fs::write(&file, "text").unwrap();
        write(&file, &here, &[finding(TensorType::Q4_0, 4096)]);
        assert!(read(&file, &here).is_empty());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");

        std::fs::create_dir_all(here.file(directory.path()).join("full")).unwrap();
        write(directory.path(), &here, &[finding(TensorType::Q4_0, 4096)]);
        assert!(read(directory.path(), &here).is_empty());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[cfg(not(any(windows, target_vendor = "apple")))]
    #[test]
    fn the_directory_is_where_the_specification_says() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().to_str().unwrap();
        let directory = |cache: Option<&str>, home: Option<&str>| {
            directory_by(|name| {
                match name {
                    "XDG_CACHE_HOME" => cache,
                    "HOME" => home,
                    _ => None,
                }
                .map(OsString::from)
            })
        };
        let below_home = Some(Path::new(home).join(".cache/quipu"));
        assert_eq!(directory(Some("/caches"), Some(home)), Some("/caches/quipu".into()));
        assert_eq!(directory(Some("relative"), Some(home)), below_home);
        assert_eq!(directory(Some(""), Some(home)), below_home);
        assert_eq!(directory(None, Some(home)), below_home);
        assert_eq!(directory(None, Some("/nowhere/at/all")), None);
        assert_eq!(directory(None, Some("")), None);
        assert_eq!(directory(None, None), None);
    }
}
