//! A small fuzzer that every compiler builds.
//!
//! It has no instruments to see where an input goes, but each target says in words what became of it: an input with a
//! new outcome is kept, and changed in turn. So it gets past the checks of a format one after the other.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quipu_test_random::Random;

use crate::Target;
use crate::mutate::mutant;

/// What one input may take. The largest budgets, those of templates, end within a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Inputs that are kept.
const POOL: usize = 10_000;

/// What a hunt saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Inputs that were there: seeds and corpus.
    pub known: u64,
    /// Inputs that were made.
    pub made: u64,
    /// Different outcomes.
    pub outcomes: usize,
}

/// Runs the seeds, the files of the directory `corpus`, and then, for so long, inputs that are made of both. Each input
/// is in the file `current` before it is run, so that whatever ends the process, it is known; and an input that takes
/// too long ends it.
///
/// # Errors
/// When `corpus` cannot be read or `current` not be written.
///
/// # Panics
/// When the target does.
pub fn hunt(target: &Target, corpus: &Path, current: &Path, seed: u64, time: Duration) -> io::Result<Seen> {
    let mut runner = Runner { target, file: File::create(current)?, outcomes: HashSet::new(), started: watch() };
    let mut pool = (target.seeds)();
    if corpus.is_dir() {
        let mut paths: Vec<_> = corpus.read_dir()?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
        paths.sort();
        for path in paths {
            pool.push(std::fs::read(path)?);
        }
    }
    let mut seen = Seen { known: pool.len() as u64, made: 0, outcomes: 0 };
    for input in &pool {
        runner.run(input)?;
    }
    let (end, mut random) = (Instant::now() + time, Random::new(seed));
    while Instant::now() < end {
        let input = mutant(&pool, target.words, &mut random);
        seen.made += 1;
        if runner.run(&input)? && pool.len() < POOL {
            pool.push(input);
        }
    }
    seen.outcomes = runner.outcomes.len();
    Ok(seen)
}

struct Runner<'a> {
    target: &'a Target,
    file: File,
    outcomes: HashSet<String>,
    /// How many inputs have been started.
    started: Arc<AtomicU64>,
}

impl Runner<'_> {
    /// Runs an input; true when its outcome is new.
    fn run(&mut self, input: &[u8]) -> io::Result<bool> {
        self.file.rewind()?;
        self.file.write_all(input)?;
        self.file.set_len(input.len() as u64)?;
        self.started.fetch_add(1, Ordering::Relaxed);
        let outcome = (self.target.run)(input);
        Ok(self.outcomes.insert(outcome))
    }
}

/// A thread that ends the process when the number has not changed for too long.
fn watch() -> Arc<AtomicU64> {
    let number = Arc::new(AtomicU64::new(0));
    let watched = number.clone();
    std::thread::spawn(move || {
        let mut last = (watched.load(Ordering::Relaxed), Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = watched.load(Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                eprintln!("an input takes more than {} s", PATIENCE.as_secs());
                std::process::exit(3);
            }
        }
    });
    number
}
