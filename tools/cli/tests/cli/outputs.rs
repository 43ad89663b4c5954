//! No output replaces, or is written to, what is read: every command, every input, every way to name it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{command, ended, quipu};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/stories260K/stories260K-f32.gguf");
const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/tiny-llama2-f16");
const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design.md");

/// A directory of inputs: two models, a text, requests, an importance matrix, and a checkpoint as the Hub's cache has
/// it, a snapshot of links to blobs.
struct Inputs {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, Vec<u8>>,
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    found
}

impl Inputs {
    fn new() -> Inputs {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["blobs", "snapshot", "links"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::copy(MODEL, path("a.gguf")).unwrap();
        std::fs::copy(MODEL, path("b.gguf")).unwrap();
        std::fs::write(path("text"), &std::fs::read(TEXT).unwrap()[..6000]).unwrap();
        let request = r#"{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "Once"}}"#;
        std::fs::write(path("requests"), request).unwrap();
        for entry in std::fs::read_dir(CHECKPOINT).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), path("blobs").join(&name)).unwrap();
                link(&Path::new("../blobs").join(&name), &path("snapshot").join(&name));
            }
        }
        let mut inputs = Inputs { dir, before: BTreeMap::new() };
        let (model, text, imatrix) = (inputs.arg("a.gguf"), inputs.arg("text"), inputs.arg("of.imatrix"));
        quipu(["imatrix", &model, "-f", &text, "-o", &imatrix, "-c", "64"]).ok();
        inputs.before = contents(inputs.dir.path());
        inputs
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn arg(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    #[track_caller]
    fn unchanged(&self, what: &str) {
        let now = contents(self.dir.path());
        assert!(now.keys().eq(self.before.keys()), "{what}: {:?}", now.keys());
        assert!(now == self.before, "{what}: an input has changed");
    }

    /// The commands that write, each with an argument `OUT`, and the inputs that it reads.
    fn commands(&self) -> Vec<(Vec<String>, Vec<&'static str>)> {
        let (a, b, text, imatrix) = (self.arg("a.gguf"), self.arg("b.gguf"), self.arg("text"), self.arg("of.imatrix"));
        let (snapshot, calibrate) = (self.arg("snapshot"), format!("--calibrate={text}"));
        let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        let checkpoint =
            vec!["snapshot/config.json", "snapshot/model-00002-of-00003.safetensors", "snapshot/tokenizer.json"];
        vec![
            (words(&["convert", &a, "-o", "OUT"]), vec!["a.gguf"]),
            (words(&["convert", &snapshot, "-o", "OUT"]), checkpoint),
            (words(&["pack", &a, "OUT"]), vec!["a.gguf"]),
            (words(&["quantize", &a, "OUT", "--type", "q8_0"]), vec!["a.gguf"]),
            (words(&["quantize", &a, "OUT", "--type", "q5_0", "--imatrix", &imatrix]), vec!["a.gguf", "of.imatrix"]),
            (words(&["quantize", &a, "OUT", "--type", "q5_0", &calibrate]), vec!["a.gguf", "text"]),
            (words(&["quantize", &a, "OUT", "--target-bits", "9", &calibrate]), vec!["text"]),
            (words(&["batch", &a, &self.arg("requests"), "-o", "OUT"]), vec!["a.gguf", "requests"]),
            (words(&["imatrix", &a, "-f", &text, "-o", "OUT", "-c", "64"]), vec!["a.gguf", "text"]),
            (
                words(&["compare", &a, "--base", &b, "-f", &text, "--plot", "OUT", "--no-speed", "-c", "64"]),
                vec!["a.gguf", "b.gguf", "text"],
            ),
        ]
    }
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}

#[cfg(not(unix))]
fn link(to: &Path, at: &Path) {
    std::fs::copy(at.parent().unwrap().join(to), at).unwrap();
}

#[test]
fn an_output_is_no_input_under_any_name() {
    let inputs = Inputs::new();
    let mut runs = 0;
    for (words, read) in inputs.commands() {
        for input in read {
            let real = inputs.path(input).canonicalize().unwrap();
            let (hard, soft, far) = (inputs.path("links/hard"), inputs.path("links/soft"), inputs.path("links/far"));
            std::fs::hard_link(&real, &hard).unwrap();
            link(&Path::new("..").join(input), &soft);
            link(Path::new("soft"), &far);
            let around = inputs.path("links/..").join(input);
            let mut names = vec![inputs.path(input), real.clone(), around, hard.clone()];
            if cfg!(unix) {
                names.extend([soft.clone(), far.clone()]);
            }
            if cfg!(target_os = "linux") {
                // Open as descriptor 3, by a shell.
                names.push("/proc/self/fd/3".into());
            }
            for name in names {
                let args = words.iter().map(|word| if word == "OUT" { name.as_os_str() } else { word.as_ref() });
                let run = match name.starts_with("/proc") {
                    false => command(args),
                    true => {
                        let mut shell = command(["--version"]);
                        let quipu = std::mem::replace(&mut shell, Command::new("sh"));
                        shell.args(["-c".as_ref(), r#"exec "$@" 3<"$0""#.as_ref(), real.as_os_str()]);
                        shell.arg(quipu.get_program()).args(args);
                        shell.stdin(std::process::Stdio::null());
                        shell
                    }
                };
                let message = ended(run).error();
                assert!(message.contains("same file"), "{words:?} {name:?}: {message}");
                runs += 1;
            }
            [hard, soft, far].iter().for_each(|link| std::fs::remove_file(link).unwrap());
            inputs.unchanged(&format!("{words:?} {input}"));
        }
    }
    assert!(runs > 80, "{runs}");
}

/// The way over a descriptor that the command was given: stdin as the text, stdout as the output.
#[cfg(target_os = "linux")]
#[test]
fn an_output_is_no_input_that_a_shell_has_opened() {
    let inputs = Inputs::new();
    let lines = [
        // The text is what stdin is.
        r#""$0" imatrix a.gguf -o text -c 64 <text"#,
        r#""$0" compare a.gguf b.gguf --plot text --no-speed -c 64 <text"#,
        // Stdout leads into what is read.
        r#""$0" pack a.gguf /dev/stdout >>a.gguf"#,
        r#""$0" pack a.gguf /proc/self/fd/1 >>a.gguf"#,
        r#""$0" quantize a.gguf /dev/fd/5 --type q8_0 5>>a.gguf"#,
        r#""$0" run a.gguf Once -n 2 >>a.gguf"#,
        r#""$0" inspect a.gguf >>a.gguf"#,
        r#""$0" inspect a.gguf -v 2>>a.gguf"#,
        r#""$0" score a.gguf -f text >>text"#,
        r#""$0" tokenize a.gguf -f text >>text"#,
        r#""$0" perplexity a.gguf -f text -c 64 --kl b.gguf >>b.gguf"#,
        r#""$0" inspect snapshot >>blobs/config.json"#,
        r#""$0" batch a.gguf requests -o /dev/stdout >>requests"#,
        // A socket takes the place of a socket alone.
        r#""$0" serve a.gguf --socket a.gguf"#,
    ];
    for line in lines {
        let mut shell = Command::new("sh");
        shell.current_dir(inputs.dir.path()).args(["-c", line, env!("CARGO_BIN_EXE_quipu")]);
        let ended = shell.output().unwrap();
        let message = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{line}: {message}");
        // Where the message would be written into an input, it is not written.
        let told = ["same file", "is read", "Address already in use"].iter().any(|why| message.contains(why));
        assert!(told || line.contains("2>>"), "{line}: {message}");
        inputs.unchanged(line);
    }
}

/// What goes into a pipe, to stdout, or through a link, and what of it stays.
#[cfg(target_os = "linux")]
#[test]
fn outputs_go_where_their_names_lead() {
    let inputs = Inputs::new();
    let run = |line: &str| {
        let mut shell = Command::new("sh");
        shell.current_dir(inputs.dir.path()).args(["-c", line, env!("CARGO_BIN_EXE_quipu")]);
        let ended = shell.output().unwrap();
        assert!(ended.status.success(), "{line}: {}", String::from_utf8_lossy(&ended.stderr));
        ended.stdout
    };
    run(r#""$0" pack a.gguf packed.quipu"#);
    let expected = std::fs::read(inputs.path("packed.quipu")).unwrap();
    assert!(run(r#""$0" pack a.gguf /dev/stdout | cat"#) == expected);
    assert!(run(r#""$0" pack a.gguf /dev/stdout >out; cat out"#) == expected);
    assert!(run(r#"ln -s /proc/self/fd/1 link; "$0" pack a.gguf link | cat; test -L link"#) == expected);
    // What a log had before stays in it.
    let log = run(r#"echo header >log; "$0" pack a.gguf /dev/stdout >>log; cat log"#);
    assert!(log.strip_prefix(b"header\n") == Some(&expected));
    let log = run(r#"echo header >log; "$0" pack a.gguf /dev/fd/5 5>>log; cat log"#);
    assert!(log.strip_prefix(b"header\n") == Some(&expected));
    // A file without a name.
    assert!(run(r#"(rm held; "$0" pack a.gguf link >&7; cat <&8) 7>held 8<held"#) == expected);
    assert_eq!(
        run(r#"mkfifo pipe; cat pipe >copy & "$0" pack a.gguf pipe; wait; cmp copy packed.quipu; ls pipe"#),
        b"pipe\n"
    );
}
