//! A caller of the library that has too little memory gets errors; its process goes on. (The program has a sentence for
//! allocations that fail; a library has nothing between an error and the end of its caller.)
#![cfg(target_os = "linux")]

use std::process::Command;

use quipu_runtime::{BatchToken, Engine, EngineError, LoadOptions, TuningChoice};

const INSIDE: &str = "QUIPU_TEST_INSIDE_LIMIT";

fn kilobytes_of_addresses() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse().unwrap()
}

fn engine() -> Result<Engine, String> {
    let options = LoadOptions::default().threads(1).context(100_000).batch(1 << 16).tuning(TuningChoice::Defaults);
    let source = quipu_runtime::open("demo").map_err(|e| e.to_string())?;
    Engine::load(source, &options, &|_, _| {}).map_err(|e| e.to_string())
}

/// Runs the test called `test` again, with so many kilobytes of addresses, and returns what it prints.
fn again(test: &str, limit: u64) -> String {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("ulimit -v {limit}; exec \"$0\" \"$@\"")]).arg(std::env::current_exe().unwrap());
    // One thread of tests, so that another one's memory does not count.
    shell.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    // glibc reserves 64 MB of addresses for a thread's allocations where the limit lets it, which would be measured.
    let ended = shell.env("MALLOC_ARENA_MAX", "1").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{limit} kB: {}: {said}{wrong}", ended.status);
    said
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Keys and values of ever more sequences, each of a size that nobody counts, until there is no more room.
#[test]
fn sequences_without_room_are_errors() {
    if is_inside() {
        let mut engine = engine().unwrap();
        let mut sequences = Vec::new();
        let error = loop {
            let mut sequence = engine.new_sequence();
            match engine.prefill(&mut sequence, &[1]) {
                Ok(_) => sequences.push(sequence),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, EngineError::Memory(_)), "{error}");
        // What was read before is there, and goes on when there is room again.
        let mut first = sequences.swap_remove(0);
        let full = sequences.len();
        drop(sequences);
        engine.prefill(&mut first, &[2; 200]).unwrap();
        return println!("room for {full} sequences: {error}");
    }
    let said = again("sequences_without_room_are_errors", kilobytes_of_addresses() + 300_000);
    assert!(said.contains("room for ") && said.contains("of memory, but"), "{said}");
}

/// Activations of ever larger batches.
#[test]
fn batches_without_room_are_errors() {
    if is_inside() {
        let mut engine = engine().unwrap();
        for exponent in 4.. {
            let mut sequence = engine.new_sequence();
            let batch = vec![BatchToken { token: 1, sequence: 0, logits: false }; 1 << exponent];
            match engine.forward(&batch, &mut [&mut sequence], &mut |_, _| {}) {
                Ok(()) => assert_eq!(sequence.len(), batch.len()),
                Err(EngineError::Memory(shortage)) => return println!("1 << {exponent}: {shortage}"),
                Err(other) => panic!("{other}"),
            }
        }
    }
    let said = again("batches_without_room_are_errors", kilobytes_of_addresses() + 200_000);
    assert!(said.contains("of memory, but"), "{said}");
}

/// Whatever the limit, a model is loaded or refused.
#[test]
fn models_without_room_are_errors() {
    if is_inside() {
        return println!(
            "kB: {} loaded: {:?}",
            kilobytes_of_addresses(),
            engine().map(drop).map_err(|error| assert!(error.contains("memory"), "{error}"))
        );
    }
    // What such a process has before it loads anything: this one runs other tests as well.
    let first = again("models_without_room_are_errors", 4 << 20);
    let base: u64 = first.split_once("kB: ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).expect(&first);
    // The header is a quarter of a megabyte of small pieces that nobody counts; all else is asked for, threads too.
    let limits = (0..20).map(|n| base + 1000 + n * 1250);
    let said: Vec<String> = limits.map(|limit| again("models_without_room_are_errors", limit)).collect();
    assert!(said.iter().any(|said| said.contains("Ok")), "{said:?}");
    assert!(said.iter().any(|said| said.contains("Err")), "{said:?}");
}
