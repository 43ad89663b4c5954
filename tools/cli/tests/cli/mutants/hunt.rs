//! Tries one seed after the other, each with some commands, and judges how they end.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime};

use quipu_test_random::Random;
use serde_json::json;

use super::requests;
use crate::serve::Server;

const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");
/// Address space and processor time of a child.
const LIMITS: &str = "ulimit -v 2000000; ulimit -t 30; exec \"$0\" \"$@\"";
/// A child that waits for nothing is found by the clock.
const PATIENCE: Duration = Duration::from_secs(200);
/// What commands write.
const OUT: &str = "out";

/// Seeds that are tried by themselves: a few seconds.
const SEEDS: u64 = 22;
const COMMANDS_A_SEED: usize = 2;

/// Tries seeds until there were enough of them; `make` writes a seed's file and says what lies in it.
pub fn hunt(name: &str, commands: &[&str], mut make: impl FnMut(&Path, &mut Random) -> String) {
    let variable = |name| std::env::var(name).ok().map(|value| value.parse::<u64>().expect(name));
    let first = variable("QUIPU_FUZZ_SEED").unwrap_or(0);
    let end = variable("QUIPU_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let begun = Instant::now();
    let (mut faults, mut outcomes, mut seed) = (Vec::new(), [0; 2], first);
    while end.map_or(seed < first + SEEDS, |end| Instant::now() < end) {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random::new(seed);
        std::fs::write(dir.path().join("text"), &std::fs::read(TEXT).unwrap()[..3000]).unwrap();
        requests::write(dir.path());
        let what = make(dir.path(), &mut random);
        let before = names(dir.path());
        for _ in 0..COMMANDS_A_SEED {
            let line = commands[random.below(commands.len())];
            match judged(dir.path(), line, &before) {
                Ok(code) => outcomes[code] += 1,
                Err(fault) => faults.push(format!("seed {seed}: {what}\n  quipu {line}: {fault}")),
            }
        }
        seed += 1;
        if faults.len() > 20 {
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{name}: {} files, {} runs went well, {} were errors; {seconds:.1} s",
        seed - first,
        outcomes[0],
        outcomes[1]
    );
    assert!(faults.is_empty(), "{} faults with {name}:\n{}", faults.len(), faults.join("\n"));
    assert!(end.is_some() || outcomes.iter().all(|&n| n > 0), "files of one kind only: {outcomes:?}");
}

/// The files in a directory, by length and time.
fn stamps(dir: &Path) -> Vec<(PathBuf, u64, SystemTime)> {
    let files = names(dir).into_iter().filter(|path| path.is_file());
    let stamp = |path: PathBuf| {
        let data = path.metadata().unwrap();
        (path, data.len(), data.modified().unwrap())
    };
    files.map(stamp).collect()
}

pub fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    names
}

/// A command within the limits.
fn limited(dir: &Path, line: &str) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["-c", LIMITS, env!("CARGO_BIN_EXE_quipu")])
        .args(line.split(' '))
        .env_remove("QUIPU_ISA")
        .env_remove("QUIPU_TUNING")
        .current_dir(dir)
        .stdin(std::fs::File::open(dir.join("text")).unwrap())
        .stdout(Stdio::null());
    bash
}

/// Runs a server and asks it for two texts; the exit code, 0 or 1, or what was wrong.
fn judged_server(dir: &Path, line: &str) -> Result<usize, String> {
    let server = match Server::of(limited(dir, line)) {
        Ok(server) => server,
        Err(ended) => {
            let last = ended.stderr.lines().last().unwrap_or_default();
            let is_told = ended.code == 1 && last.starts_with("error: ");
            return if is_told { Ok(1) } else { Err(format!("{}: {}", ended.code, ended.stderr)) };
        }
    };
    let message = json!({"role": "user", "content": "Once"});
    let mut code = 0;
    for (path, body) in [
        ("/v1/completions", json!({"model": "x", "prompt": "Once", "max_tokens": 2, "seed": 1})),
        ("/v1/chat/completions", json!({"model": "x", "messages": [message], "max_tokens": 2})),
    ] {
        let answer = server.ask(path, &body)?;
        match answer["error"]["message"].as_str() {
            _ if answer["choices"][0].is_object() => {}
            Some(message) if message.chars().count() < 2000 => code = 1,
            _ => return Err(format!("{path}: {answer}")),
        }
    }
    match server.stop_by("-TERM") {
        (Some(0), _) => Ok(code),
        (code, said) => Err(format!("{code:?} when it was stopped: {said}")),
    }
}

/// Runs a command; the exit code, 0 or 1, or what was wrong.
fn judged(dir: &Path, line: &str, before: &[PathBuf]) -> Result<usize, String> {
    if line.starts_with("serve") {
        return judged_server(dir, line);
    }
    let stamps_before = stamps(dir);
    // Not in the directory, in which nothing new may be.
    let mut log = tempfile::NamedTempFile::new().unwrap();
    let mut child = limited(dir, &format!("-q {line}")).stderr(log.reopen().unwrap()).spawn().unwrap();
    let status = wait(&mut child);
    let mut message = Vec::new();
    std::io::Read::read_to_end(&mut log, &mut message).unwrap();
    let message = String::from_utf8_lossy(&message).into_owned();
    let out = dir.join(OUT).exists();
    let _ = std::fs::remove_file(dir.join(OUT));
    let after = names(dir);
    let short: String = message.chars().take(300).collect();
    if after != before {
        after.iter().filter(|path| !before.contains(path)).for_each(|path| drop(std::fs::remove_file(path)));
        return Err(format!("left something: {after:?}"));
    }
    match status.as_ref().map(|status| status.code()) {
        Some(Some(0)) if message.is_empty() => Ok(0),
        // What a guard calls unsafe.
        Some(Some(3)) if message.is_empty() && line.starts_with("guard") => Ok(0),
        Some(Some(1)) if out => Err(format!("an error and an output: {short}")),
        Some(Some(1)) if stamps(dir) != stamps_before => Err(format!("an error, and a file has changed: {short}")),
        Some(Some(1))
            if message.starts_with("error: ") && message.lines().count() == 1 && message.chars().count() < 2000 =>
        {
            Ok(1)
        }
        Some(_) => Err(format!("{}: {short}", status.unwrap())),
        None => Err(format!("hangs: {short}")),
    }
}

fn wait(child: &mut std::process::Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

pub fn ready() -> bool {
    let there = Command::new("bash").args(["-c", ":"]).status().is_ok_and(|status| status.success());
    if !there {
        eprintln!("SKIPPED: no bash, which sets the limits");
    }
    there
}
