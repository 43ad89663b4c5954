//! The `quipu` binary from outside: what it prints, where, and how it ends. Everything runs on the demo model inside
//! it.

mod batch;
mod budget;
#[cfg(target_os = "linux")]
mod bundle;
mod chat;
mod chat_tools;
mod compare;
mod convert;
mod draft;
mod embed;
mod errors;
mod guard;
mod help;
mod infill;
mod library;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(unix)]
mod mcp;
mod measure;
mod merge;
#[cfg(target_os = "linux")]
mod mlock;
#[cfg(target_os = "linux")]
mod mutants;
mod not_finite;
mod outputs;
#[cfg(all(unix, feature = "pull"))]
mod pull;
mod run;
mod score;
#[cfg(unix)]
mod serve;
mod session;
#[cfg(unix)]
mod signals;
#[cfg(target_os = "linux")]
mod sizes;
mod smollm2;
mod split;
#[cfg(unix)]
mod stores;
#[cfg(unix)]
mod terminal;
mod tuning;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

/// How a run of the binary ended.
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Stdout of a run that must have gone well and said nothing on stderr.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""));
        self.stdout
    }

    /// Stdout as one JSON object on one line.
    #[track_caller]
    fn json(self) -> Json {
        let text = self.ok();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The message of a run that must have failed with one line on stderr.
    #[track_caller]
    fn error(self) -> String {
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!((self.code, lines.len()), (1, 1), "{}", self.stderr);
        lines[0].strip_prefix("error: ").expect("the line begins with error:").to_string()
    }
}

/// The binary with arguments, and nothing from outside that it listens to.
fn command<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    alone(Command::new(env!("CARGO_BIN_EXE_quipu")), args)
}

/// The same for a test that sends signals. A process inherits which signals are ignored, and in the background of a
/// script some are: then `env` takes that back.
#[cfg(unix)]
fn listening<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    const HUP_INT_QUIT_TERM: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    if ignored.is_none_or(|signals| signals & HUP_INT_QUIT_TERM == 0) {
        return command(args);
    }
    let mut env = Command::new("env");
    env.args(["--default-signal=HUP,INT,QUIT,TERM", env!("CARGO_BIN_EXE_quipu")]);
    alone(env, args)
}

fn alone<S: AsRef<OsStr>>(mut command: Command, args: impl IntoIterator<Item = S>) -> Command {
    command
        .args(args)
        .env_remove("QUIPU_ISA")
        .env_remove("QUIPU_TUNING")
        // What is found out about the machine stays with the tests.
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the binary.
fn quipu<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    ended(command(args))
}

/// Runs the binary with `input` piped in.
fn quipu_with_input<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, input: &str) -> Ended {
    with_input(command(args), input)
}

fn with_input(mut command: Command, input: &str) -> Ended {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // The program may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    finish(child.wait_with_output().unwrap())
}

fn ended(mut command: Command) -> Ended {
    finish(command.output().unwrap())
}

fn finish(output: std::process::Output) -> Ended {
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Sends a signal: `-INT`.
#[cfg(unix)]
fn kill(signal: &str, child: &std::process::Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// The demo model's Hugging Face directory.
fn tales() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tales"))
}

/// The ids of a JSON list of tokens.
fn ids(tokens: &Json) -> Vec<u64> {
    tokens.as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect()
}
