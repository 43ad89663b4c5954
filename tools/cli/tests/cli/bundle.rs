//! Programs with a model in them.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{alone, command, ended, quipu, tales, with_input};

/// The smallest real model there is.
const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");

/// A bundle of `model` with these words of a command line.
fn bundle(directory: &Path, model: &str, words: &[&str]) -> PathBuf {
    let app = directory.join("app");
    let start = ["-q", "bundle", model, "-o", app.to_str().unwrap()];
    quipu(start.iter().chain(words)).ok();
    app
}

fn app<S: AsRef<OsStr>>(app: &Path, args: impl IntoIterator<Item = S>) -> Command {
    alone(Command::new(app), args)
}

#[test]
fn the_model_runs_where_it_lies_and_says_what_it_says_alone() {
    let directory = tempfile::tempdir().unwrap();
    let words = ["--", "run", "bundled", "Once upon a time", "-n", "12", "--temp", "0"];
    for model in ["demo", STORIES] {
        let file = bundle(directory.path(), model, &words);
        let alone = quipu(["run", model, "Once upon a time", "-n", "12", "--temp", "0"]).ok();
        assert_eq!(ended(app(&file, [""; 0])).ok(), alone);
        // What is given goes before what the program does by itself, and a subcommand instead of it.
        let shorter = quipu(["run", model, "Once upon a time", "-n", "3", "--temp", "0"]).ok();
        assert_eq!(ended(app(&file, ["-n", "3"])).ok(), shorter);
        assert_eq!(ended(app(&file, ["tokenize", "bundled", "A"])).ok(), quipu(["tokenize", model, "A"]).ok());
        let inspected = ended(app(&file, ["inspect", "bundled"])).ok();
        assert!(inspected.contains("GGUF, packed"), "{inspected}");
    }
    let help = ended(app(&directory.path().join("app"), ["--help"])).ok();
    assert!(help.contains("stories260K-f32 in it") && help.contains("run bundled Once upon"), "{help}");
    // As any other file that is read.
    let itself = directory.path().join("app");
    let error = ended(app(&itself, ["pack", "bundled", itself.to_str().unwrap()])).error();
    assert!(error.contains("same file"), "{error}");
    // Other programs' models are not this program's.
    assert!(quipu(["run", "bundled", "A"]).error().contains("bundled: cannot open"));
}

#[test]
fn arguments_come_from_a_file_and_a_licence_with_the_model() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("args"), "# What it does:\nrun\nbundled\n\n  Once upon a time  \n-n\n4\n--temp\n0\n").unwrap();
    std::fs::create_dir(path("model")).unwrap();
    for file in std::fs::read_dir(tales()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), path("model").join(file.file_name())).unwrap();
    }
    std::fs::write(path("model/LICENSE"), "Tell it to everybody.").unwrap();
    let (model, args) = (path("model"), path("args"));
    let app_file = bundle(directory.path(), model.to_str().unwrap(), &["--args", args.to_str().unwrap()]);
    let alone = quipu(["run", model.to_str().unwrap(), "Once upon a time", "-n", "4", "--temp", "0"]).ok();
    assert_eq!(ended(app(&app_file, [""; 0])).ok(), alone);
    assert!(ended(app(&app_file, ["inspect", "bundled"])).ok().contains("Tell it to everybody."));
}

#[test]
fn by_itself_it_chats_through_a_pipe() {
    let directory = tempfile::tempdir().unwrap();
    let file = bundle(directory.path(), "demo", &[]);
    // Without a template there is nothing to chat with, which is said when it is written.
    let other = directory.path().join("other");
    let written = quipu(["bundle", STORIES, "-o", other.to_str().unwrap()]);
    assert!(written.code == 0 && written.stderr.contains("has no chat template"), "{}", written.stderr);
    let error = with_input(app(&other, [""; 0]), "Hello\n").error();
    assert!(error.contains("no chat template"), "{error}");
    let template = directory.path().join("template");
    std::fs::write(&template, "{{ messages[-1].content }}").unwrap();
    let options = ["--template", template.to_str().unwrap(), "-n", "4", "--temp", "0"];
    let chat = [&["chat", "demo"][..], &options].concat();
    let alone = with_input(command(chat), "Once upon a time\n").ok();
    assert_eq!(with_input(app(&file, options), "Once upon a time\n").ok(), alone);
}

#[test]
fn what_cannot_be_a_bundle_is_told_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let file = bundle(directory.path(), "demo", &["--", "run", "bundled", "A", "-n", "1"]);
    std::fs::write(path("mac"), [0xcf, 0xfa, 0xed, 0xfe, 12, 0, 0, 1]).unwrap();
    std::fs::write(path("text"), "quipu").unwrap();
    std::fs::write(path("program"), "\x7fELF, another program").unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_quipu"), path("quipu")).unwrap();
    let (new, own) = (path("new"), file.to_str().unwrap());
    for (args, expected) in [
        (vec!["demo", "-o", &new, "--program", own], "is a bundle already"),
        (vec!["demo", "-o", &new, "--program", &path("mac")], "signed as a whole"),
        (vec!["demo", "-o", &new, "--program", &path("text")], "no program for Linux or Windows"),
        (vec!["demo", "-o", &new, "--program", &path("program")], "can carry no model"),
        (vec!["demo", "-o", &new, "--program", &path("none")], "none: cannot read the program"),
        (vec!["demo", "-o", &path("quipu"), "--program", &path("quipu")], "same file"),
        (vec![&path("none"), "-o", &new], "none: cannot open"),
        (vec![own, "-o", &new], "not a GGUF"),
        (vec!["demo", "-o", &new, "--", "sing"], "sing: what a program does by itself begins with a subcommand"),
        (vec!["demo", "-o", &new, "--", "run", "bundled", "--sing"], "unexpected argument '--sing'"),
        (vec!["demo", "-o", &new, "--args", &path("none")], "cannot read"),
    ] {
        let error = quipu([vec!["-q", "bundle"], args].concat()).error();
        assert!(error.contains(expected), "{error}");
        assert!(!Path::new(&new).exists());
    }
    // A bundle makes no other one, whatever it is asked for; and one without its end says so instead of running as a
    // program without a model would.
    assert!(ended(app(&file, ["bundle", "demo", "-o", &new])).error().contains("is a bundle already"));
    let program = Path::new(env!("CARGO_BIN_EXE_quipu")).metadata().unwrap().len();
    let length = file.metadata().unwrap().len();
    for (left, expected) in
        [(length - (3 << 20), "tensor"), (program + (64 << 10) + 9, "follow"), (program, "not whole")]
    {
        OpenOptions::new().write(true).open(&file).unwrap().set_len(left).unwrap();
        let error = ended(app(&file, [""; 0])).error();
        assert!(error.contains(expected), "{left}: {error}");
    }
}

/// Where nobody types and nothing is piped in, the page is served and shown.
#[test]
fn a_click_opens_the_page() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let (file, seen) = (directory.path().join("app"), directory.path().join("seen"));
    quipu(["-q", "bundle", "demo", "-o", file.to_str().unwrap()]).ok();
    let opener = directory.path().join("xdg-open");
    std::fs::write(&opener, format!("#!/bin/sh\necho \"$1\" > {0}.part && mv {0}.part {0}\n", seen.display())).unwrap();
    std::fs::set_permissions(&opener, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut child = app(&file, ["-t", "1"]).env("PATH", path).stdin(Stdio::null()).spawn().unwrap();
    let waited = std::time::Instant::now();
    while !seen.exists() && waited.elapsed().as_secs() < 30 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let url = std::fs::read_to_string(&seen);
    let _ = child.kill();
    let _ = child.wait();
    assert!(url.unwrap().starts_with("http://127.0.0.1:"));
}
