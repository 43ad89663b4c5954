//! What `bench/record` and `bench/elsewhere` need besides the program itself: models of real sizes that need not be
//! downloaded, and whether all instruction sets of a CPU give the same bits.
//!
//! ```text
//! quipu-bench model 1b q4_k_m model.gguf
//! quipu-bench bits model.gguf 1,2,4
//! ```
#![forbid(unsafe_code)]

mod bits;
mod model;

use std::process::ExitCode;

const USAGE: &str = "quipu-bench model 1b|3b|8b TYPE OUT.gguf: a model of that size with random weights
quipu-bench bits MODEL THREADS,…: a hash of its logits by every instruction set and number of threads, as JSON";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["model", size, ty, out] => model::write(size, ty, out.as_ref()),
        ["bits", model, threads] => bits::print(model, threads),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
