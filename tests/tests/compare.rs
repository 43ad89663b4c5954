//! `bench/compare`: medians and ratios of two engines in turns. The engines are stand-ins with known speeds; that the
//! script reads what the real `quipu` prints is tested with the binary.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quipu_tests::{binary, skipped};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench/compare")
}

fn python() -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        skipped("no python3");
    }
    there
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A stand-in in Python: writes down its letter and arguments, and prints what `report(n, threads, depth)` gives at its
/// n-th call.
fn stand_in(directory: &Path, name: &str, report: &str) -> PathBuf {
    let path = directory.join(name);
    let log = directory.join("log");
    executable(
        &path,
        &format!(
            "#!/usr/bin/env python3
import json, sys
log = {log:?}
open(log, 'a').write({name:?} + ' ' + ' '.join(sys.argv[1:]) + '\\n')
n = sum(l.startswith({name:?} + ' ') for l in open(log)) - 1
def value(flag, otherwise=0):
    return int(sys.argv[sys.argv.index(flag) + 1]) if flag in sys.argv else otherwise
threads, depth, prompt, number = value('-t'), value('-d'), value('-p'), value('-n')
{report}
"
        ),
    );
    path
}

const QUIPU: &str = "
speeds = [30.0, 10.0, 20.0][n]
results = [{'test': 'prefill', 'depth': depth, 'tokens_per_s': 10 * speeds}, {'test': 'decode', 'depth': depth, 'tokens_per_s': speeds}]
print(json.dumps({'version': '1', 'isa': 'x', 'runs': [{'threads': threads, 'results': results}]}))";

const PEER: &str = "
print('a warning', file=sys.stderr)
speed = [5.0, 8.0, 4.0][n]
both = {'n_threads': threads, 'n_depth': depth, 'build_commit': 'abc'}
print(json.dumps([{**both, 'n_prompt': prompt, 'n_gen': 0, 'avg_ts': 100 * speed}, {**both, 'n_prompt': 0, 'n_gen': number, 'avg_ts': speed}]))";

fn compare(directory: &Path, quipu: &Path, peer: &Path, more: &[&str]) -> Output {
    let model = directory.join("model.gguf");
    Command::new("python3")
        .args([script().as_path(), peer, &model, Path::new("--quipu"), quipu])
        .args(["-t", "2", "-p", "64", "-n", "16", "-d", "7"])
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn medians_ratios_and_turns() {
    if !python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (quipu, peer) = (stand_in(dir, "a", QUIPU), stand_in(dir, "b", PEER));
    let done = compare(dir, &quipu, &peer, &["-r", "3", "--json", "--peer-args", "-fa 1"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let rows = json["results"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let [prefill, decode] = [&rows[0], &rows[1]];
    assert_eq!(
        (decode["test"].as_str(), decode["tokens"].as_u64(), decode["depth"].as_u64()),
        (Some("decode"), Some(16), Some(7))
    );
    // Medians of 30, 10, 20 and of 5, 8, 4; single pairs give 6, 1.25 and 5.
    assert_eq!((decode["quipu_tokens_per_s"].as_f64(), decode["peer_tokens_per_s"].as_f64()), (Some(20.0), Some(5.0)));
    assert_eq!(decode["ratio"].as_f64(), Some(4.0));
    assert_eq!((decode["ratio_range"][0].as_f64(), decode["ratio_range"][1].as_f64()), (Some(1.25), Some(6.0)));
    assert_eq!((prefill["test"].as_str(), prefill["ratio"].as_f64()), (Some("prefill"), Some(0.4)));

    let log = fs::read_to_string(dir.join("log")).unwrap();
    let order: String = log.lines().map(|l| &l[..1]).collect();
    assert_eq!(order, "ababab");
    assert!(log.lines().filter(|l| l.starts_with('b')).all(|l| l.ends_with(" -d 7 -fa 1")), "{log}");
}

#[test]
fn a_failure_of_either_engine_ends_it() {
    if !python() {
        return;
    }
    let cases = [
        ("sys.exit('out of memory')", "out of memory"),
        ("print('no json')", "printed no JSON"),
        ("print('[]')", "no speed for prefill"),
    ];
    for (peer, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let done = compare(dir, &stand_in(dir, "a", QUIPU), &stand_in(dir, "b", peer), &[]);
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && done.stdout.is_empty() && error.contains(words), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let done = compare(dir, &stand_in(dir, "a", "sys.exit(3)"), &stand_in(dir, "b", PEER), &[]);
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("ended with code 3"));
}

#[test]
fn it_understands_what_quipu_prints() {
    let Some(quipu) = binary().filter(|_| python()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let peer = stand_in(dir.path(), "b", PEER);
    let done = Command::new("python3")
        .args([script().as_path(), &peer, Path::new("demo"), Path::new("--quipu"), &quipu])
        .args(["-t", "1", "-p", "8", "-n", "4", "-r", "1", "--isa", "portable"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains("prefill 8") && text.contains("decode 4") && text.contains("portable"), "{text}");
}
