//! Numbers that no machine has room for, for every option that takes one: refused, or of no consequence, and in both
//! cases before memory is taken.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::serve::Server;
use crate::{Ended, alone, ended, quipu};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");

/// What each command does in no time, in a directory that has `m.gguf`, `text`, `lines`, `template`, `tools` and
/// `said`, which is what somebody says in a chat. A server is asked for one text. An option that is tried
/// stands behind all others, and the last one counts.
const COMMANDS: &[&str] = &[
    "run m.gguf Once -n 2",
    "infill m.gguf --prefix text --suffix text --fim <s>,</s>,<unk> -n 2",
    "score m.gguf Once",
    "embed m.gguf Once",
    "batch m.gguf lines -o out --cache-dir kept",
    "imatrix m.gguf -f text -o out -c 64 --chunks 1",
    "convert m.gguf -o out",
    "quantize m.gguf out --type q8_0",
    "perplexity m.gguf -f text -c 64 --chunks 1",
    "compare m.gguf -f text -c 64 --chunks 1 -p 8 -n 2 -r 1",
    "bench m.gguf -p 8 -n 2 -r 1",
    "bench m.gguf -p 8 -n 2 -r 1 -b 100000000000",
    "bench m.gguf -p 100000000 -n 2 -r 1 -b 100000000000",
    "guard m.gguf Once --form 3 -t 1",
    "chat m.gguf -n 2 --template template --tools tools",
    "serve m.gguf -v --port 0 --cache-dir kept",
    "doctor m.gguf -t 1",
];

/// The values of options that are numbers, as `--help` calls them.
const NUMBERS: &[&str] =
    &["<N>", "<N,…>", "<K>", "<BYTES>", "<SIZE>", "<MS>", "<SECONDS>", "<TIME>", "<ID>", "<T>", "<P>", "<X>"];

/// Numbers that no machine has room for; twice the second is nothing in 64 bits.
const HUGE: [&str; 3] = ["1000000000", "9223372036854775808", "18446744073709551615"];

/// What is asked for so many times takes so much time, and no memory.
const TIMES: &[&str] = &["--repetitions"];

/// Long names of the options of a command that take a number.
fn options(command: &str) -> Vec<String> {
    let help = quipu([command, "--help"]).ok();
    let option = |line: &str| {
        let (names, value) = line.trim_start().strip_prefix('-')?.split_once(" <")?;
        let value = format!("<{}", value.split_whitespace().next()?);
        let name = format!("--{}", names.rsplit_once("--")?.1);
        (NUMBERS.contains(&value.as_str()) && !TIMES.contains(&name.as_str())).then_some(name)
    };
    // As if every line began with two hyphens: the long name is what stands behind the last two.
    help.lines().filter_map(|line| option(&line.replacen("--", "---", 1))).collect()
}

/// How a command ends; a server after it has answered.
fn run(dir: &Path, words: &[&str]) -> Ended {
    // Addresses for what such a model takes, and no more.
    let script = r#"ulimit -v 2000000; exec "$@""#;
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash", env!("CARGO_BIN_EXE_quipu")]);
    let mut command = alone(bash, words);
    command.current_dir(dir).stdin(File::open(dir.join("said")).unwrap());
    if words[0] != "serve" {
        return ended(command);
    }
    Server::of(command).map_or_else(
        |ended| ended,
        |server| {
            let answer = server.post("/v1/completions", &json!({"prompt": "Once", "max_tokens": 2, "seed": 1}));
            let is_text = answer["choices"][0]["text"].is_string() || answer["error"]["message"].is_string();
            assert!(is_text, "{words:?}: {answer}");
            let (code, said) = server.stop_by("-TERM");
            Ended { code: code.unwrap_or(-1), stdout: String::new(), stderr: said }
        },
    )
}

#[test]
fn numbers_that_are_too_large_are_refused_or_do_nothing() {
    if !Command::new("bash").args(["-c", ":"]).status().is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: no bash, which sets the limit");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::copy(MODEL, dir.path().join("m.gguf")).unwrap();
    file("text", &std::fs::read_to_string(TEXT).unwrap()[..3000]);
    file(
        "lines",
        r#"{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Once", "max_tokens": 2}}"#,
    );
    file("template", "{% for m in messages %}{{ m.content }} {% endfor %}");
    file("tools", r#"[{"type": "function", "function": {"name": "now"}}]"#);
    file("said", "Once upon a time\n");
    let (mut tried, mut refused) = (0, 0);
    for line in COMMANDS {
        let name = line.split(' ').next().unwrap();
        let options = options(name);
        assert!(!options.is_empty(), "{name}");
        let given = options.iter().flat_map(|option| HUGE.map(|number| (option, number)));
        for (option, number) in given {
            // An option that is given twice is an error of usage; the number takes the place of what was there.
            let short = quipu([name, "--help"]).stdout.lines().find_map(|help| {
                let (short, long) = help.trim_start().split_once(", ")?;
                (long.split(' ').next() == Some(option)).then(|| short.to_string())
            });
            let mut words: Vec<&str> = line.split(' ').collect();
            let same = |word: &&str| Some(*word) == short.as_deref() || word == option;
            match words.iter().position(same) {
                Some(at) => words[at + 1] = number,
                None => words.extend([option.as_str(), number]),
            }
            let start = Instant::now();
            let Ended { code, stderr, .. } = run(dir.path(), &words);
            let last = stderr.lines().last().unwrap_or_default();
            match code {
                0 => {}
                1 => {
                    assert!(last.starts_with("error: "), "{words:?}: {stderr}");
                    refused += 1;
                }
                2 => refused += 1,
                code => panic!("{words:?}: {code} {stderr}"),
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{words:?} took {:?}", start.elapsed());
            let _ = std::fs::remove_file(dir.path().join("out"));
            let _ = std::fs::remove_dir_all(dir.path().join("kept"));
            tried += 1;
        }
    }
    println!("{refused} of {tried} numbers were refused");
    assert!(tried > 400 && refused > 100, "{refused} of {tried} were refused");
}
