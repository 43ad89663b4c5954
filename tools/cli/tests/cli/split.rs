//! Models in several files: written, and read by every command from the first part.

use std::path::{Path, PathBuf};

use crate::{quipu, tales};

fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The demo in Q8_0 in parts of 3 MB, and in one file.
fn parts(dir: &Path) -> (Vec<PathBuf>, PathBuf) {
    let (out, whole) = (dir.join("m.gguf"), dir.join("whole.gguf"));
    quipu(["convert", arg(tales()), "-o", arg(&whole), "--type", "q8_0"]).ok();
    quipu(["convert", arg(tales()), "-o", arg(&out), "--type", "q8_0", "--split-size", "3M"]).ok();
    let is_part = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("m-0");
    let mut parts: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(is_part).collect();
    parts.sort();
    assert!(parts.len() > 2 && parts[0].ends_with(format!("m-00001-of-{:05}.gguf", parts.len())), "{parts:?}");
    assert!(!out.exists());
    (parts, whole)
}

#[test]
fn every_command_reads_a_model_by_its_first_part() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, whole) = parts(dir.path());
    let text = dir.path().join("text");
    std::fs::write(&text, "Once upon a time there was a king who had a daughter. ".repeat(60)).unwrap();
    let both = |args: &[&str]| {
        let of = |model: &Path| {
            let args = args.iter().map(|a| if *a == "MODEL" { arg(model) } else { a });
            quipu(args).ok().replace(arg(model), "MODEL")
        };
        let found = of(&parts[0]);
        assert_eq!(found, of(&whole), "{args:?}");
        found
    };
    both(&["run", "MODEL", "Once upon a time", "-n", "8", "--temp", "0"]);
    both(&["tokenize", "MODEL", "Once upon", "--json"]);
    both(&["score", "MODEL", "Once upon a time", "--json"]);
    both(&["embed", "MODEL", "Once upon a time"]);
    both(&["perplexity", "MODEL", "-f", arg(&text), "-c", "64", "--json"]);
    quipu(["inspect", arg(&parts[0])]).ok();
    // What is made of it is made of the whole.
    for command in [["quantize", "MODEL", "OUT", "--type", "f16"].as_slice(), &["pack", "MODEL", "OUT"]] {
        let made = |model: &Path, name: &str| {
            let out = dir.path().join(name);
            quipu(command.iter().map(|a| match *a {
                "MODEL" => arg(model),
                "OUT" => arg(&out),
                other => other,
            }));
            std::fs::read(out).unwrap()
        };
        assert!(made(&parts[0], "a") == made(&whole, "b"), "{command:?}");
    }
    quipu(["imatrix", arg(&parts[0]), "-f", arg(&text), "-o", arg(&dir.path().join("i"))]);
    assert!(dir.path().join("i").exists());
    let compared = quipu(["compare", arg(&parts[0]), arg(&whole), "-f", arg(&text), "-c", "64", "--json"]).json();
    let bytes = |i: usize| compared["files"][i]["bytes"].as_u64().unwrap();
    let all: u64 = parts.iter().map(|part| std::fs::metadata(part).unwrap().len()).sum();
    assert_eq!((bytes(0), bytes(1)), (all, std::fs::metadata(&whole).unwrap().len()));
}

#[test]
fn what_is_wrong_with_parts_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, _) = parts(dir.path());
    let error = quipu(["run", arg(&parts[1]), "Once"]).error();
    assert!(error.contains("part 2 of") && error.ends_with(arg(&parts[0])), "{error}");
    std::fs::remove_file(&parts[2]).unwrap();
    let error = quipu(["run", arg(&parts[0]), "Once"]).error();
    assert!(error.contains("part 3 of") && error.ends_with(arg(&parts[2])), "{error}");
    for size in ["0", "3X", "-1", "99999999999T", "M"] {
        let out = dir.path().join("n.gguf");
        let ended = quipu(["convert", arg(tales()), "-o", arg(&out), &format!("--split-size={size}")]);
        assert!(ended.code == 2 && ended.stderr.contains("expected a number of bytes"), "{size}: {}", ended.stderr);
    }
}
