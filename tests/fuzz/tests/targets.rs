//! Every target, for some seconds, in a process of its own with 2 GB of addresses and half a megabyte of stack, where a
//! crash is seen: it ends well, whatever its input. `QUIPU_FUZZ_SECONDS=600` goes on for so long, `QUIPU_FUZZ_SEED=7`
//! begins elsewhere.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use quipu_fuzz_targets::TARGETS;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
const LIMITS: &str = "ulimit -v 2000000; ulimit -s 512; exec \"$0\" \"$@\"";

fn check(name: &str) {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let or = |value: String, default: &str| if value.is_empty() { default.to_string() } else { value };
    let (seconds, seed) = (or(variable("QUIPU_FUZZ_SECONDS"), "2"), or(variable("QUIPU_FUZZ_SEED"), "0"));
    let findings = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let current = findings.join(format!("{name}-current"));
    let args = ["hunt", name, &format!("{CORPUS}/{name}"), current.to_str().unwrap(), &seed, &seconds];
    let mut shell = Command::new("bash");
    let ended = shell.args(["-c", LIMITS, env!("CARGO_BIN_EXE_quipu-fuzz")]).args(args).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    print!("{said}");
    if !ended.status.success() {
        let found = findings.join(format!("{name}-found"));
        std::fs::rename(&current, &found).unwrap();
        panic!("{name}: {}: quipu-fuzz run {name} {}\n{wrong}", ended.status, found.display());
    }
    let numbers: Vec<u64> = said.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [known, made, outcomes] = numbers[..] else { panic!("{said}") };
    // Not stuck at the first check of the format.
    assert!(known > 0 && made > 20 && outcomes > 8, "{said}");
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        #[test]
        fn all_targets_are_here() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
            // And cargo-fuzz has the same ones, each with a corpus.
            for target in TARGETS {
                let path = format!("{}/../../fuzz/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), target.name);
                assert!(Path::new(&path).exists(), "{path}");
                let corpus = Path::new(CORPUS).join(target.name);
                assert!(corpus.read_dir().is_ok_and(|files| files.count() > 30), "{}", corpus.display());
            }
        }
    };
}

targets! { gguf packed imatrix safetensors torch checkpoint pieces tokenizer template answer shape adapter session }
