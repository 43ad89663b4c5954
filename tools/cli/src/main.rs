//! The `quipu` command: runs, converts and looks into quantised Llama models.
//!
//! - `commands`: one file for each subcommand; each begins with its options. Start with `commands/run.rs`.
//! - [`args`]: options that several subcommands share; [`sampling`]: those for how tokens are chosen, [`policy`]: those
//!   for how a guard is asked.
//! - [`bundled`]: what a program does that carries a model.
//! - [`model`]: from a model's name to an engine that is loaded.
//! - [`out`]: results to stdout; [`plot`]: as a picture. [`talk`]: everything else to stderr; [`watch`]: how far long
//!   work is; [`visible`]: names from files without what a terminal would obey; [`hints`]: what to do about an error.
//!   [`input`]: turns of a conversation; [`tools`]: what a model may call in one.
//!   [`interrupt`]: Ctrl-C and other requests to end; `fatal`: what ends the process without asking;
//!   `console`: what Windows says instead of signals.
//!
//! `quipu-measure` measures and chooses, `quipu-runtime` runs the models; here are arguments, progress and printing.
//!
//! Exit codes: 0 done (also when whoever reads stdout has had enough), 1 an error, 2 a wrong command line, 3 what
//! `guard` finds unsafe; after a signal 128 and its number: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP (but 0 from `serve`
//! when its texts had time to end).

#![deny(unsafe_code)]

mod adapters;
mod args;
mod bundled;
mod commands;
#[cfg(windows)]
#[allow(unsafe_code)]
mod console;
mod draft;
#[cfg(unix)]
#[allow(unsafe_code)]
mod fatal;
mod hints;
mod input;
mod interrupt;
mod keeper;
mod kv;
mod mcp;
mod model;
mod out;
mod plot;
mod policy;
mod sampling;
mod session;
mod shape;
mod talk;
mod tools;
mod usage;
mod visible;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use quipu_runtime::host::threads;

/// Runs quantised Llama models on CPUs.
///
/// MODEL is a GGUF file, a packed file, a Hugging Face directory, a model that ollama or Hugging Face's programs have
/// fetched (`ollama:NAME`, `hf:ORG/REPO[:TYPE]`), or the word `demo` for the small model inside this program.
#[derive(Parser)]
#[command(
    name = "quipu",
    version,
    max_term_width = 110,
    after_help = "\
Examples:
  quipu run demo \"Once upon a time\"
  quipu chat llama-3.2-1b-instruct-q4_0.gguf
  quipu convert Llama-3.2-1B-Instruct/ -o llama.gguf --type q8_0
  quipu inspect llama.gguf"
)]
struct Cli {
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Talk on stderr (timings, progress) even when it is not a terminal
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    #[command(subcommand)]
    command: commands::Command,
}

/// What the work's stack may take, whatever a shell's limit leaves the main thread: half of what that has on Linux,
/// four times what it has on Windows.
const STACK: usize = 4 << 20;

fn main() -> ExitCode {
    #[cfg(unix)]
    fatal::set_up();
    match threads::builder_with_stack("quipu", STACK).and_then(|builder| builder.spawn(work)) {
        Ok(work) => work.join().unwrap_or(ExitCode::from(PANICKED)),
        Err(error) => {
            talk::error(&format!("cannot begin (the limit on memory or on processes, or the container's?): {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a program that panicked.
const PANICKED: u8 = 101;

fn work() -> ExitCode {
    let words = kv::written_out(std::env::args_os());
    let cli = match bundled::start(words, Cli::command()) {
        Ok((words, program)) => Cli::from_arg_matches(&program.get_matches_from(words)).unwrap_or_else(|e| e.exit()),
        Err(error) => {
            talk::error(&hints::message(&error));
            return ExitCode::FAILURE;
        }
    };
    talk::set_up(cli.quiet, cli.verbose);
    if let Err(error) = interrupt::set_up() {
        // Nobody could stop the work; and it needs threads of its own.
        talk::error(&format!("cannot listen to signals (the limit on processes, or the container's?): {error}"));
        return ExitCode::FAILURE;
    }
    match commands::run(cli.command, Cli::command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<out::Closed>() => ExitCode::SUCCESS,
        Err(error) if error.is::<interrupt::Interrupted>() => ExitCode::from(interrupt::exit_code()),
        Err(error) if error.is::<commands::Unsafe>() => ExitCode::from(commands::Unsafe::CODE),
        Err(error) => {
            talk::error(&hints::message(&error));
            if error.is::<usage::Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
