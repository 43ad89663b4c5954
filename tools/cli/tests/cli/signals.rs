//! Signals at every time of a write: no temporary file stays, and the old output is whole or the new one complete.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{listening, tales};

/// Between two tries.
const STEP: Duration = Duration::from_millis(10);

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn arguments(output: &Path) -> [&OsStr; 6] {
    ["convert".as_ref(), tales().as_os_str(), "-o".as_ref(), output.as_os_str(), "--type".as_ref(), "f32".as_ref()]
}

fn write_to(output: &Path) -> Command {
    let mut command = listening(arguments(output));
    command.stdout(Stdio::null());
    command
}

#[test]
fn a_signal_at_any_time_leaves_the_old_output_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    assert!(write_to(&output).status().unwrap().success());
    let new = std::fs::read(&output).unwrap();
    let mut during = 0;
    for (signals, code) in
        [("-HUP", 129), ("-INT", 130), ("-QUIT", 131), ("-TERM", 143), ("-XCPU", 152), ("-INT -INT", 130)]
    {
        for delay in 0.. {
            std::fs::write(&output, "precious").unwrap();
            let child = write_to(&output).spawn().unwrap();
            std::thread::sleep(STEP * delay);
            during += u32::from(names(dir.path()).len() > 1);
            let kill = |signal: &str| format!("kill {signal} {} 2>/dev/null;", child.id());
            let kills: String = signals.split(' ').map(kill).collect();
            Command::new("sh").args(["-c", &kills]).status().unwrap();
            let ended = child.wait_with_output().unwrap();
            assert_eq!(names(dir.path()), ["out"], "{signals} after {delay} steps");
            let now = std::fs::read(&output).unwrap();
            assert!(now == new || now == b"precious", "{signals} after {delay} steps");
            match ended.status.code() {
                Some(0) => {
                    assert!(now == new);
                    // It was done before the signal came.
                    break;
                }
                // Before the program listens, the system ends it.
                None if delay < 5 => {}
                other => assert_eq!(other, Some(code), "{}", String::from_utf8_lossy(&ended.stderr)),
            }
        }
    }
    if during == 0 {
        eprintln!("SKIPPED: no signal came while a temporary file was there");
    }
}

/// The same for all other commands that write, whatever they are at.
#[test]
fn a_signal_leaves_the_old_output_of_every_command() {
    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let commands = [
        "convert TALES -o OUT --packed",
        "quantize TALES OUT --type q4_0",
        "quantize TALES OUT --target-bits 6",
        "pack TALES.gguf OUT",
        "imatrix demo -f TEXT -o OUT -c 64",
        "compare demo TALES -f TEXT -c 64 --no-speed --plot OUT",
    ];
    for line in commands {
        let (tales, text) = (format!("{ROOT}/models/tales"), format!("{ROOT}/docs/design.md"));
        let line = line.replace("TALES", &tales).replace("TEXT", &text).replace("OUT", output.to_str().unwrap());
        // Each time 10 ms later, then in larger steps.
        for delay in [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 28, 36, 47, 61, 80] {
            std::fs::write(&output, "precious").unwrap();
            let child = listening(line.split(' ')).stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(STEP * delay);
            // It may have ended.
            Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
            let ended = child.wait_with_output().unwrap();
            assert_eq!(names(dir.path()), ["out"], "{line} after {delay} steps");
            let precious = std::fs::read(&output).unwrap() == b"precious";
            match ended.status.code() {
                Some(0) => {
                    assert!(!precious, "{line}");
                    break;
                }
                // Before the program listens, the system ends it.
                None if delay < 10 => assert!(precious, "{line} after {delay} steps"),
                // What is complete when the signal comes may get its name all the same.
                other => assert_eq!(other, Some(143), "{line}: {}", String::from_utf8_lossy(&ended.stderr)),
            }
        }
    }
}

/// Nobody can remove a file when SIGKILL comes; the next one who writes there does.
#[test]
fn what_was_killed_leaves_a_file_until_the_next_one_comes() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    for delay in 0..200 {
        let mut child = write_to(&output).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let left: Vec<_> = names(dir.path()).into_iter().filter(|name| name != "out").collect();
        if left.is_empty() {
            continue;
        }
        for name in left {
            let file = std::fs::File::options().write(true).open(dir.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
        assert!(write_to(&output).status().unwrap().success());
        assert_eq!(names(dir.path()), ["out"]);
        return;
    }
    eprintln!("SKIPPED: no kill came while a temporary file was there");
}

/// As `nohup` and the background jobs of a script have it.
#[test]
fn a_signal_that_was_ignored_before_stays_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap '' HUP INT; "$@" & p=$!; sleep 0.03; kill -HUP $p; kill -INT $p; wait $p"#, "sh"]);
    shell.arg(env!("CARGO_BIN_EXE_quipu")).args(arguments(&output)).stdout(Stdio::null());
    assert!(shell.status().unwrap().success());
    assert_eq!(names(dir.path()), ["out"]);
}

/// A limit on files, which is a signal unless a program says otherwise, and a disk that is full.
#[test]
fn no_room_is_an_error_that_leaves_the_old_output() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    std::fs::write(&output, "precious").unwrap();
    let quipu = write_to(&output);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -f 1024; exec "$@""#, "sh"]).arg(quipu.get_program()).args(quipu.get_args());
    let ended = shell.output().unwrap();
    let message = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.contains("out: cannot write"), "{message}");
    assert_eq!((names(dir.path()), std::fs::read_to_string(&output).unwrap()), (vec!["out".into()], "precious".into()));
    if Path::new("/dev/full").exists() {
        let ended = write_to(Path::new("/dev/full")).output().unwrap();
        let message = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(1) && message.contains("/dev/full: cannot write"), "{message}");
    }
}
