//! `--mlock`: the system counts the weights as locked, and nothing without it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use crate::{command, quipu};

/// What the system counts besides the weights: the rest of the last page of each of some sixty matrices, up to 16 KiB.
const SLACK: u64 = 1 << 20;

/// A program that has a model loaded and waits for a question. Killed when it is dropped.
struct Chat(Child);

impl Chat {
    /// Returns when the model is loaded, or what the program said instead.
    fn start(model: &Path, template: &Path, more: &[&str]) -> Result<Chat, String> {
        let args = ["chat".as_ref(), model.as_os_str(), "-v".as_ref(), "--template".as_ref(), template.as_os_str()];
        let mut chat = Chat(command(args).args(more).stdin(Stdio::piped()).spawn().unwrap());
        let mut said = String::new();
        for line in BufReader::new(chat.0.stderr.take().unwrap()).lines() {
            said += &line.unwrap();
            if said.contains("loaded in") {
                return Ok(chat);
            }
        }
        Err(said)
    }

    /// Bytes that it has locked.
    fn locked(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("VmLck");
        1024 * line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes that a process here may lock, unless it has the privilege to lock more; `None` for any number.
fn limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory")).unwrap();
    line.split_whitespace().next().unwrap().parse().ok()
}

#[test]
fn the_weights_are_locked_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, packed) = (dir.path().join("tales.gguf"), dir.path().join("tales.quipu"));
    let template = dir.path().join("template.jinja");
    std::fs::write(&template, "{{ bos_token }}").unwrap();
    quipu(["quantize".as_ref(), crate::tales().as_os_str(), plain.as_os_str(), "--type".as_ref(), "q4_0".as_ref()])
        .ok();
    quipu(["pack".as_ref(), plain.as_os_str(), packed.as_os_str()]).ok();
    let inspected = quipu(["inspect".as_ref(), packed.as_os_str(), "--json".as_ref()]).json();
    let matrices =
        inspected["tensors"].as_array().unwrap().iter().filter(|t| t["shape"].as_array().unwrap().len() == 2);
    let weights: u64 = matrices.map(|t| t["bytes"].as_u64().unwrap()).sum();
    let file = std::fs::metadata(&packed).unwrap().len();
    // A packed file is locked where it is mapped; everything else is memory for the weights.
    let cases: [(_, &[&str], _); 5] = [
        (&plain, &[], 0..=0),
        (&plain, &["--mlock"], weights..=weights + SLACK),
        (&packed, &[], 0..=0),
        (&packed, &["--mlock"], file..=file + SLACK),
        (&packed, &["--mlock", "--no-mmap"], weights..=weights + SLACK),
    ];
    for (model, options, expected) in cases {
        let what = format!("{} {options:?}", model.display());
        match Chat::start(model, &template, options) {
            Ok(chat) => assert!(expected.contains(&chat.locked()), "{what}: {} of {expected:?}", chat.locked()),
            Err(said) if said.contains("cannot lock") && limit().is_some_and(|limit| limit < *expected.end()) => {
                eprintln!("SKIPPED: {what}: this process may not lock so much: {said}");
            }
            Err(said) => panic!("{what}: {said}"),
        }
    }
}
