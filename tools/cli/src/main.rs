//! The `quipu` command: runs, converts and looks into quantised Llama models.
//!
//! - `commands`: one file for each subcommand; each begins with its options. Start with `commands/run.rs`.
//! - [`args`]: options that several subcommands share.
//! - [`model`]: from a model's name to an engine that is loaded.
//! - [`predict`]: a model's predictions of a text; [`statistics`]: means, errors, divergences.
//! - [`calibrate`]: what a model's matrices meet; [`budget`]: which types a size allows them.
//! - [`out`]: results to stdout; [`plot`]: as a picture. [`talk`]: everything else to stderr. [`interrupt`]: Ctrl-C and
//!   SIGTERM.
//!
//! Exit codes: 0 done (also when whoever reads stdout has had enough), 1 an error, 2 a wrong command line, 130 Ctrl-C,
//! 143 SIGTERM.

mod args;
mod budget;
mod calibrate;
mod commands;
mod interrupt;
mod model;
mod out;
mod plot;
mod predict;
mod statistics;
mod talk;

use std::process::ExitCode;

use clap::Parser;

/// Runs quantised Llama models on CPUs.
///
/// MODEL is a GGUF file, a packed file, a Hugging Face directory, or the word `demo` for the small model inside this
/// program.
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    talk::set_up(cli.quiet, cli.verbose);
    if let Err(error) = interrupt::set_up() {
        talk::warning(&format!("Ctrl-C will not be handled: {error}"));
    }
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<out::Closed>() => ExitCode::SUCCESS,
        Err(error) if error.is::<interrupt::Interrupted>() => ExitCode::from(interrupt::exit_code()),
        Err(error) => {
            talk::error(&one_line(&error));
            if error.is::<args::Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// The error and its causes, joined by colons. Many messages end with their cause's; then it is not said twice.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn errors_are_one_line_without_repetition() {
        let io = std::io::Error::other("disk full");
        let error = anyhow::Error::new(io).context("a.gguf: cannot write: disk full").context("converting\nx");
        assert_eq!(super::one_line(&error), "converting x: a.gguf: cannot write: disk full");
    }
}
