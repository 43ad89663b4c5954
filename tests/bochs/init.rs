//! The first and only program of the emulated machine: runs every test binary in /tests, says how each ended, and
//! leaves.
//!
//! Its end makes the kernel restart, which is what `run` waits for.

use std::process::Command;
use std::time::Duration;

fn main() {
    let mut tests: Vec<_> = std::fs::read_dir("/tests").expect("/tests").map(|file| file.expect("a file").path()).collect();
    tests.sort();
    let mut all_passed = !tests.is_empty();
    for test in tests {
        println!("--- {}", test.display());
        let status = Command::new(&test).args(["--test-threads=1", "--nocapture"]).status();
        all_passed &= status.as_ref().is_ok_and(|status| status.success());
        if !matches!(&status, Ok(status) if status.success()) {
            println!("--- {}: {status:?}", test.display());
        }
    }
    println!("--- {}", if all_passed { "all passed" } else { "not all passed" });
    // The serial line is slower than this process.
    std::thread::sleep(Duration::from_secs(1));
}
