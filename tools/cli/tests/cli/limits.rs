//! Limits of the system (memory, processes, files, stacks) and files that become shorter while they are read: each is
//! an error in a sentence, exit code 1, and leaves nothing behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use quipu_formats::gguf::{Array, GgufFile, GgufWriter, Value};
use quipu_formats::source::{Encoding, Source, TensorInfo};
use quipu_quant::TensorType;

use crate::{command, quipu, tales};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");

/// One command of each kind, in a directory that has `m.gguf` and `text`.
const COMMANDS: &[&str] = &[
    "run m.gguf Once -n 2",
    "run m.gguf -f text -n 1 -c 4096",
    "tokenize m.gguf -f text",
    "score m.gguf Once",
    "embed m.gguf Once",
    "inspect m.gguf",
    "imatrix m.gguf -f text -o out -c 64",
    "convert m.gguf -o out",
    "pack m.gguf out",
    "quantize m.gguf out --type q8_0",
    "quantize m.gguf out --type q5_0",
    "perplexity m.gguf -f text -c 64 --chunks 1",
    "compare m.gguf -f text -c 64 --chunks 1 --no-speed",
];

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(MODEL, dir.path().join("m.gguf")).unwrap();
    std::fs::write(dir.path().join("text"), &std::fs::read(TEXT).unwrap()[..6000]).unwrap();
    dir
}

/// Runs all commands under a limit; returns how many went well and how many did not. The shell is bash, which knows all
/// limits.
fn under(limit: &str, commands: &[&str], wrap: &[&str]) -> [usize; 2] {
    let dir = directory();
    // Whoever the limit makes this process must be able to work here.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let quipu = dir.path().join("quipu");
    // By another process: a test beside this one that starts a program while the copy is open would keep it open.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_quipu")).arg(&quipu).status().unwrap().success());
    let mut counts = [0; 2];
    for line in commands {
        let script = format!("{limit}; exec ./quipu {line}");
        let shell = ["bash", "-c", script.as_str()];
        let mut words = wrap.iter().chain(&shell).copied();
        let mut shell = Command::new(words.next().unwrap());
        shell.args(words).current_dir(dir.path()).stdin(Stdio::null());
        let ended = shell.output().unwrap();
        let message = String::from_utf8_lossy(&ended.stderr).into_owned();
        match ended.status.code() {
            Some(0) => counts[0] += 1,
            Some(1) => {
                counts[1] += 1;
                assert!(message.lines().last().is_some_and(|l| l.starts_with("error: ")), "{limit}: {line}: {message}");
                assert!(!dir.path().join("out").exists(), "{limit}: {line}");
            }
            // The program could not even be loaded.
            Some(127) if message.contains("shared librar") => {}
            other => panic!("{limit}: {line}: {other:?} {message}"),
        }
        let _ = std::fs::remove_file(dir.path().join("out"));
        let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = left.filter(|name| !["m.gguf", "text", "quipu"].contains(&name.as_str())).collect();
        assert!(left.is_empty(), "{limit}: {line}: {left:?}");
    }
    counts
}

fn bash() -> bool {
    let there = Command::new("bash").args(["-c", ":"]).status().is_ok_and(|status| status.success());
    if !there {
        eprintln!("SKIPPED: no bash, which sets the limits");
    }
    there
}

#[test]
fn memory_that_is_not_there_is_an_error() {
    if !bash() {
        return;
    }
    let mut failed = 0;
    // The program itself takes 26, and with less than a few more no line of it runs.
    for megabytes in [32, 34, 36, 40, 48, 56, 72, 96, 160] {
        failed += under(&format!("ulimit -v {}", megabytes << 10), COMMANDS, &[])[1];
    }
    assert!(failed > COMMANDS.len(), "{failed}");
    assert_eq!(under("ulimit -v 4000000", COMMANDS, &[]), [COMMANDS.len(), 0]);
}

/// A thread that is begun and has no room for the stack of its signals: Rust's library panics where no panic may pass,
/// and without memory its message would wait for itself.
#[test]
fn a_thread_without_room_for_its_signals_is_an_error() {
    if !bash() {
        return;
    }
    let under = |kilobytes: u64| {
        let script = format!("ulimit -v {kilobytes}; exec \"$0\" run demo Once -n 1 -t 1");
        let mut shell = Command::new("timeout");
        shell.args(["-s", "KILL", "60", "bash", "-c", &script, env!("CARGO_BIN_EXE_quipu")]).stdin(Stdio::null());
        let ended = shell.output().unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    // The least with which there are the threads for the work and for signals, the first ones; without them nothing is
    // done.
    let (mut refused, mut begun) = (16_u64 << 10, 256_u64 << 10);
    while begun - refused > 4 {
        let kilobytes = refused.midpoint(begun);
        match under(kilobytes) {
            (Some(1), message) if message.contains("cannot begin") || message.contains("cannot listen to signals") => {
                refused = kilobytes;
            }
            // It ended well, in some other way, or never.
            (Some(0 | 1 | 137), _) => begun = kilobytes,
            // Not even the program is loaded, or its first line run.
            _ => refused = kilobytes,
        }
    }
    for kilobytes in (refused..).step_by(4).take(12) {
        let (code, message) = under(kilobytes);
        // Rust's library may say before it that an allocation failed.
        let told = message.lines().any(|line| line.starts_with("error: "));
        assert!(code == Some(1) && told, "{kilobytes} kB: {code:?} {message}");
    }
}

/// Writes a model of one layer whose weights are all zero, 32 wide, with so many queries for each token (of one number
/// each) and so many tokens in its vocabulary.
fn write_model(path: &Path, queries: usize, vocabulary: usize) {
    let mut metadata = GgufFile::open(MODEL).unwrap().metadata().clone();
    for (key, value) in [
        ("embedding_length", 32),
        ("feed_forward_length", 32),
        ("block_count", 1),
        ("attention.head_count", queries as u32 / 2),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 2),
        ("attention.value_length", 2),
        ("rope.dimension_count", 2),
        ("context_length", 4096),
    ] {
        metadata.set(format!("llama.{key}"), Value::U32(value));
    }
    let Some(Value::Array(Array::String(pieces))) = metadata.get("tokenizer.ggml.tokens") else { panic!("no tokens") };
    let more: Vec<String> = (pieces.len()..vocabulary).map(|id| format!("<{id}>")).collect();
    let pieces = pieces.iter().chain(more.iter().map(String::as_str)).collect();
    for (key, value) in [("scores", Array::F32(vec![0.0; more.len()])), ("token_type", Array::I32(vec![1; more.len()]))]
    {
        let key = format!("tokenizer.ggml.{key}");
        let value = match (metadata.get(&key), value) {
            (Some(Value::Array(Array::F32(old))), Array::F32(new)) => Array::F32([&old[..], &new].concat()),
            (Some(Value::Array(Array::I32(old))), Array::I32(new)) => Array::I32([&old[..], &new].concat()),
            (other, _) => panic!("{key}: {other:?}"),
        };
        metadata.set(key, Value::Array(value));
    }
    metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(pieces)));
    let f16 = |name: &str, shape: &[usize]| TensorInfo::new(name, Encoding::Plain(TensorType::F16), shape);
    let tensors = [
        f16("token_embd.weight", &[32, vocabulary]),
        f16("output_norm.weight", &[32]),
        f16("blk.0.attn_norm.weight", &[32]),
        f16("blk.0.attn_q.weight", &[32, queries]),
        f16("blk.0.attn_k.weight", &[32, 2]),
        f16("blk.0.attn_v.weight", &[32, 2]),
        f16("blk.0.attn_output.weight", &[queries, 32]),
        f16("blk.0.ffn_norm.weight", &[32]),
        f16("blk.0.ffn_gate.weight", &[32, 32]),
        f16("blk.0.ffn_up.weight", &[32, 32]),
        f16("blk.0.ffn_down.weight", &[32, 32]),
    ];
    let mut writer = GgufWriter::create(path, None, &metadata, &tensors).unwrap();
    tensors.iter().for_each(|t| writer.write_tensor_part(&vec![0; t.byte_len().unwrap()]).unwrap());
    writer.finish().unwrap();
}

/// The error of a command under a limit, in a directory that gets a `text`; it must say what the memory is for.
fn shortage(dir: &Path, limit: &str, line: &str, what: &str) {
    std::fs::write(dir.join("text"), &std::fs::read(TEXT).unwrap()[..6000]).unwrap();
    let mut shell = Command::new("bash");
    shell.current_dir(dir).args(["-c", &format!("{limit}; exec \"$0\" {line}")]);
    let ended = shell.arg(env!("CARGO_BIN_EXE_quipu")).output().unwrap();
    let message = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), message.lines().count()), (Some(1), 1), "{line}: {message}");
    assert!(message.contains(what) && message.contains("MB of memory, but only"), "{line}: {message}");
}

/// Small files whose activations or predictions are large.
#[test]
fn memory_that_a_file_claims_is_counted_before_it_is_taken() {
    if !bash() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_model(&dir.path().join("wide.gguf"), 200_000, 512);
    shortage(dir.path(), "ulimit -v 700000", "score wide.gguf -f text", "a batch of 512 tokens takes ");
    // 600 MB for 256 places.
    write_model(&dir.path().join("wordy.gguf"), 64, 600_000);
    let choose = "quantize wordy.gguf out --target-bits 9 --calibrate=text -q";
    shortage(dir.path(), "ulimit -v 700000", choose, "what is predicted at 256 places of the texts takes ");
    let differ = "perplexity wordy.gguf -f text --kl wordy.gguf -c 512 -q";
    shortage(dir.path(), "ulimit -v 700000", differ, "what is predicted in a chunk of 512 tokens takes ");
    let compare = "compare wordy.gguf wordy.gguf -f text --no-speed -c 512 -q";
    shortage(dir.path(), "ulimit -v 700000", compare, "what is predicted in a chunk of 512 tokens takes ");
    assert!(!dir.path().join("out").exists());
}

#[test]
fn threads_that_are_not_there_are_an_error() {
    // The limit counts all processes of a user, so that it takes one who has none; and it does not bind root.
    let wrap = ["setpriv", "--reuid=61235", "--clear-groups"];
    if !Command::new(wrap[0]).args(&wrap[1..]).args(["bash", "-c", ":"]).status().is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: no setpriv or no bash, or not root");
    }
    let mut failed = 0;
    for threads in 1..=5 {
        failed += under(&format!("ulimit -u {threads}"), COMMANDS, &wrap)[1];
    }
    assert!(failed >= COMMANDS.len(), "{failed}");
}

#[test]
fn few_files_and_small_stacks_are_enough_or_an_error() {
    if !bash() {
        return;
    }
    for limit in ["ulimit -n 4", "ulimit -n 6", "ulimit -n 10", "ulimit -s 128", "ulimit -s 512"] {
        under(limit, &COMMANDS[..10], &[]);
    }
}

/// The file is mapped, and shortened between two turns.
#[test]
fn a_file_that_becomes_shorter_ends_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (model, template) = (dir.path().join("model.quipu"), dir.path().join("template"));
    let arg = |path: &Path| path.to_str().unwrap().to_string();
    quipu(["convert", &arg(tales()), "-o", &arg(&model), "--type", "q8_0", "--packed"]).ok();
    std::fs::write(&template, "{% for m in messages %}{{ m.content }} {% endfor %}").unwrap();
    let mut chat = command(["chat", &arg(&model), "--template", &arg(&template), "-v", "-n", "2"]);
    let mut child = chat.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("loaded") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0);
    }
    std::fs::File::options().write(true).open(&model).unwrap().set_len(4096).unwrap();
    let _ = child.stdin.take().unwrap().write_all(b"Once upon a time\n");
    let mut message = String::new();
    stderr.read_to_string(&mut message).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{message}");
    assert_eq!(
        message.trim_end(),
        "error: model.quipu: became shorter while it was read, or its disk fails; the work could not be done"
    );
}

/// While a file is made of it: whatever is done at the moment, no temporary file stays.
#[test]
fn a_source_that_becomes_shorter_leaves_no_output() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (dir.path().join("model.gguf"), dir.path().join("out"));
    let arg = |path: &Path| path.to_str().unwrap().to_string();
    for step in 0..12 {
        quipu(["convert", &arg(tales()), "-o", &arg(&model)]).ok();
        let child =
            command(["quantize", &arg(&model), &arg(&out), "--type", "q4_0", "--no-calibrate"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(4 + 12 * step));
        std::fs::File::options().write(true).open(&model).unwrap().set_len(4096).unwrap();
        let ended = child.wait_with_output().unwrap();
        let message = String::from_utf8(ended.stderr).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.retain(|name| name != "model.gguf");
        match ended.status.code() {
            Some(0) => std::fs::remove_file(&out).unwrap(),
            Some(1) => assert!(message.starts_with("error: ") && names.is_empty(), "{message} {names:?}"),
            other => panic!("{other:?}: {message}"),
        }
    }
}
