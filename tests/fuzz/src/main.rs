//! The small fuzzer as a program, which the test starts with limits on memory and stack. By hand:
//!
//! - `quipu-fuzz hunt TARGET CORPUS CURRENT SEED SECONDS`: see [`quipu_fuzz_targets::hunt`]
//! - `quipu-fuzz run TARGET FILE…`: what becomes of each file
//! - `quipu-fuzz seeds TARGET DIRECTORY`: writes the seeds, for cargo-fuzz
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;
use std::{env, fs, io};

use quipu_fuzz_targets::hunt::hunt;
use quipu_fuzz_targets::target;

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let known = |name: &str| target(name).ok_or_else(|| io::Error::other(format!("no target {name}")));
    match args.as_slice() {
        ["hunt", name, corpus, current, seed, seconds] => {
            let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
            let time = Duration::from_secs(number(seconds)?);
            let seen = hunt(&known(name)?, Path::new(corpus), Path::new(current), number(seed)?, time)?;
            println!("{name}: {} inputs known, {} made, {} outcomes", seen.known, seen.made, seen.outcomes);
        }
        ["run", name, files @ ..] => {
            for file in files {
                println!("{file}: {}", (known(name)?.run)(&fs::read(file)?));
            }
        }
        ["seeds", name, directory] => {
            fs::create_dir_all(directory)?;
            for (number, seed) in (known(name)?.seeds)().iter().enumerate() {
                fs::write(Path::new(directory).join(format!("seed-{number}")), seed)?;
            }
        }
        _ => return Err(io::Error::other("expected hunt, run or seeds, and what belongs to it")),
    }
    Ok(())
}
