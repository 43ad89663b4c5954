//! `--session`: the next run goes on where the last one stopped, and nothing is lost on the way.

use std::fs;
use std::path::Path;

use crate::{command, ended, quipu, quipu_with_input};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_text_goes_on_as_if_there_had_been_no_pause() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tale");
    for more in [&["--temp", "0"][..], &["--temp", "1.2"], &["--mirostat", "2"], &["--dry-multiplier", "1"]] {
        let seeded = [&["run", MODEL, "Once upon a time", "--seed", "5"][..], more].concat();
        let whole = quipu([&seeded[..], &["-n", "90"]].concat()).ok();
        let first = quipu([&seeded[..], &["-n", "30", "--session", arg(&path)]].concat()).ok();
        let then = [&["run", MODEL, "--session", arg(&path), "-n"][..], &["30"], more].concat();
        let (second, third) = (quipu(&then).ok(), quipu(&then).ok());
        let parts = [first, second, third].map(|part| part.trim_end_matches('\n').to_string());
        assert_eq!(parts.concat(), whole.trim_end_matches('\n'), "{more:?}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_prompt_stands_after_the_text_and_only_that_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tale");
    quipu(["run", MODEL, "Once upon a time", "-n", "20", "--session", arg(&path)]).ok();
    let json = quipu(["run", MODEL, " Then a wolf came.", "-n", "5", "--session", arg(&path), "--json"]).json();
    assert_eq!(json["prompt"], " Then a wolf came.");
    let (cached, read) = (&json["timings"]["cached"]["tokens"], &json["timings"]["prefill"]["tokens"]);
    assert!(cached.as_u64().unwrap() > 20 && read.as_u64().unwrap() < 15, "{json}");
}

#[test]
fn a_conversation_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("talk");
    let template = dir.path().join("template");
    fs::write(&template, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: ").unwrap();
    let talk = |input: &str, more: &[&str]| {
        let args = [&["chat", MODEL, "--template", arg(&template), "-n", "12"][..], more].concat();
        quipu_with_input(args, input)
    };
    let whole = talk("Hello\nWho are you?\nWhy?\n", &["--seed", "9", "--system", "Be brief."]).ok();
    let mut parts = talk("Hello\n", &["--seed", "9", "--system", "Be brief.", "--session", arg(&path)]).ok();
    parts += &talk("Who are you?\n", &["--session", arg(&path)]).ok();
    parts += &talk("Why?\n", &["--session", arg(&path), "--system", "Be brief."]).ok();
    assert_eq!(parts, whole);
    // `run` has no conversation.
    fs::remove_file(&path).unwrap();
    quipu(["run", MODEL, "Once", "-n", "2", "--session", arg(&path)]).ok();
    let error = talk("Hello\n", &["--session", arg(&path)]).error();
    assert!(error.contains("no conversation"), "{error}");
}

#[test]
fn what_is_no_session_of_this_model_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (path, model) = (dir.path().join("tale"), dir.path().join("m.gguf"));
    fs::copy(MODEL, &model).unwrap();
    quipu(["run", MODEL, "Once", "-n", "2", "--session", arg(&path)]).ok();
    let session = fs::read(&path).unwrap();
    let refused = |more: &[&str], word: &str| {
        let before = fs::read(&path).unwrap();
        let error = quipu([&["run"][..], more, &["--session", arg(&path), "-n", "2"]].concat()).error();
        assert!(error.starts_with(&format!("{}: ", arg(&path))) && error.contains(word), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    };
    refused(&["demo"], "another model");
    refused(&[MODEL, "--kv", "f32"], "keys and values in F16, not F32");
    fs::write(&path, &session[..session.len() / 2]).unwrap();
    refused(&[MODEL], "not as long as it says");
    fs::write(&path, "Dear reader").unwrap();
    refused(&[MODEL], "is no session");
    // An output that is read is an input that would be lost.
    refused(&[MODEL, "-f", arg(&path)], "output and input are the same file");
    let error = quipu(["run", arg(&model), "Once", "--session", arg(&model)]).error();
    assert!(error.contains("output and input are the same file"), "{error}");
    assert_eq!(fs::read(&model).unwrap(), fs::read(MODEL).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_loses_neither_the_old_session_nor_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tale");
    let first = quipu(["run", MODEL, "Once", "-n", "2", "--session", arg(&path)]).ok();
    let session = fs::read(&path).unwrap();
    // No file may become longer than 16 kB.
    let run = command(["run", MODEL, "--session", arg(&path), "-n", "4", "--no-tuning"]);
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", "ulimit -f 16; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    shell.env_remove("QUIPU_ISA").stdin(std::process::Stdio::null());
    let ended = ended(shell);
    assert!(ended.code == 1 && !ended.stdout.is_empty() && first.starts_with("Once"), "{}", ended.stdout);
    assert!(ended.stderr.starts_with(&format!("error: {}: cannot write", arg(&path))), "{}", ended.stderr);
    assert_eq!(fs::read(&path).unwrap(), session);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
