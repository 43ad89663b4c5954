//! `bench/record`: what engines report comes into one file for the CPU and into the tables, whoever measured it. The
//! engines here are scripts that say what they are told.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};

/// A copy of the tools, so that the project's own results stay as they are.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let (place, bench) = (Place(tempfile::tempdir().unwrap()), Path::new(env!("CARGO_MANIFEST_DIR")));
        for name in ["record", "tables.py", "README.md"] {
            fs::copy(bench.join(name), place.path(name)).unwrap();
        }
        fs::create_dir(place.path("models")).unwrap();
        for ty in ["q4_0", "q8_0"] {
            fs::write(place.path(&format!("models/1b-{ty}.gguf")), "").unwrap();
        }
        place.engine("quipu", &format!("case $1 in doctor) echo '{}';; *) echo '{}';; esac", doctor(), quipu(60.0)));
        place.engine("peer", &format!("echo '{}'", peer(30.0, 40.0)));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn engine(&self, name: &str, script: &str) {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("python3");
        command.arg(self.path("record")).arg("--quipu").arg(self.path("quipu")).args(["--commit", "abc"]);
        command.arg("--models").arg(self.path("models")).args(arguments).output().unwrap()
    }

    fn record(&self, arguments: &[&str]) {
        let done = self.run(arguments);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// The only file of results: its name has numbers of this machine's CPU.
    fn log_file(&self) -> PathBuf {
        let files: Vec<_> = fs::read_dir(self.path("results")).unwrap().map(|file| file.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        assert!(file.file_name().unwrap().to_str().unwrap().starts_with("some-cpu-"), "{file:?}");
        file.clone()
    }

    fn log(&self) -> Json {
        serde_json::from_slice(&fs::read(self.log_file()).unwrap()).unwrap()
    }

    fn tables(&self) -> String {
        fs::read_to_string(self.path("README.md")).unwrap()
    }
}

fn doctor() -> Json {
    json!({
        "cpu": {"name": "Some CPU", "features": {"avx2": true, "amx": false}},
        "threads": {"online": 4}, "caches": [{"level": 3, "bytes": 1 << 25, "shared_by": 4}],
        "memory": {"total_bytes": 16_000_000_000u64, "huge_pages": "madvise"},
    })
}

/// So many tokens per second of a gigabyte each; memory gives 50 to 100 GB/s.
fn quipu(decode: f64) -> Json {
    let results = [
        json!({"test": "prefill", "tokens": 512, "depth": 0, "tokens_per_s": 500.0, "macs_per_s": 5e11}),
        json!({"test": "decode", "tokens": 64, "depth": 0, "tokens_per_s": decode, "bytes_per_s": decode * 1e9}),
    ];
    let roof = json!({"read_samples": [5e10, 1e11], "macs_samples": [1e12]});
    json!({"version": "1", "isa": "avx2", "runs": [{"results": results, "sequences": [], "roof": roof}]})
}

fn peer(prefill: f64, decode: f64) -> Json {
    json!([
        {"n_prompt": 512, "n_gen": 0, "avg_ts": prefill, "build_commit": "b1"},
        {"n_prompt": 0, "n_gen": 64, "avg_ts": decode, "build_commit": "b1"},
    ])
}

/// Python is no part of the project, so it may be missing.
fn skipped() -> bool {
    let missing = Command::new("python3").arg("--version").output().is_err();
    if missing {
        eprintln!("SKIPPED: bench/record: there is no python3");
    }
    missing
}

#[test]
fn engines_stand_beside_each_other_under_their_cpu() {
    if skipped() {
        return;
    }
    let place = Place::new();
    let peer = format!("it={}", place.path("peer").display());
    let part = ["--peer", &peer, "--peer-args", "it=-fa 1", "--only", "q4_0/2/speed"];
    place.record(&part);
    place.record(&["--only", "q8_0/2/speed"]);
    let log = place.log();
    let [record] = log["records"].as_array().unwrap().as_slice() else { panic!("{log}") };
    assert_eq!(record["parts"].as_object().unwrap().len(), 2, "parts of one commit are one record");
    assert_eq!(
        record["parts"]["q4_0/2/speed"]["decode 64"]["samples"],
        json!({"quipu": [60.0, 60.0, 60.0], "it": [40.0, 40.0, 40.0]})
    );
    let tables = place.tables();
    for line in [
        "### Some CPU",
        ": 4 CPUs",
        "| 2 | 50.0 to 100.0 | q4_0 1000, q8_0 1000 |",
        "| decode 64 | Q4_0 | 2 | 60.0 | 60 % | 40.0 | 1.50 |",
        "| prefill 512 | Q4_0 | 2 | 500.0 | 50 % | 30.0 | 16.67 |",
        "| decode 64 | Q8_0 | 2 | 60.0 | 60 % |  |  |",
        "it: build b1 -fa 1",
    ] {
        assert!(tables.contains(line), "{line} is not in\n{tables}");
    }

    // Nothing exceeds the roof, a peer neither: what it read was there to be read.
    place.engine("peer", &format!("echo '{}'", self::peer(30.0, 120.0)));
    place.record(&part);
    assert!(place.tables().contains("| decode 64 | Q4_0 | 2 | 60.0 | 50 % | 120.0 | 0.50 |"), "{}", place.tables());
}

#[test]
fn what_was_measured_elsewhere_is_taken_over_once() {
    if skipped() {
        return;
    }
    let (there, here) = (Place::new(), Place::new());
    there.record(&["--only", "q4_0/1/speed"]);
    let brought = there.log_file();
    for _ in 0..2 {
        here.record(&["--import", brought.to_str().unwrap()]);
    }
    assert_eq!(here.log()["records"].as_array().unwrap().len(), 1);
    assert!(here.tables().contains("| decode 64 | Q4_0 | 1 | 60.0 | 60 % |"), "{}", here.tables());
}

#[test]
fn an_engine_that_fails_is_named_and_the_others_go_on() {
    if skipped() {
        return;
    }
    let place = Place::new();
    place.engine("peer", "echo no such instruction >&2; exit 132");
    let peer = format!("it={}", place.path("peer").display());
    place.record(&["--peer", &peer, "--only", "q4_0/1/speed"]);
    assert!(
        place.tables().contains("q4_0/1/speed it (peer ended with code 132: no such instruction)"),
        "{}",
        place.tables()
    );

    place.engine("quipu", "echo broken >&2; exit 1");
    let done = place.run(&["--only", "q4_0/1/speed"]);
    let message = String::from_utf8_lossy(&done.stderr).to_string();
    assert_eq!((done.status.code(), message.trim_end()), (Some(1), "error: quipu ended with code 1: broken"));
}
