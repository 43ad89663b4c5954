//! A program that carries a model: what its command line means.

use std::ffi::OsString;
use std::io::IsTerminal;

use anyhow::Result;
use clap::Command;
use quipu_formats::bundle::Bundle;

/// What the model in this program is called on a command line.
pub const NAME: &str = "bundled";

/// The command line to follow instead of `words`, and the `program` that reads it. Where there is no model in this
/// program both are what they were.
///
/// # Errors
/// When the file of this program is not whole.
pub fn start(words: impl IntoIterator<Item = OsString>, program: Command) -> Result<(Vec<OsString>, Command)> {
    let words: Vec<OsString> = words.into_iter().collect();
    let Some(bundle) = Bundle::here()? else { return Ok((words, program)) };
    let own = if bundle.notes.arguments.is_empty() { alone() } else { bundle.notes.arguments.clone() };
    let about = format!(
        "This file is quipu with the model {} in it, called `{NAME}` in place of a MODEL. By itself it does: {}. \
         Options are added to that and go before what stands there; a subcommand is done instead.",
        bundle.notes.name,
        own.join(" ")
    );
    let words = command_line(words, &own, &program);
    // Of an option that is given twice the second counts.
    Ok((words, program.before_help(about).args_override_self(true)))
}

/// `words`, the first of which is the program: as they are if they begin with a subcommand of `program` or ask for
/// help, otherwise behind what the program does by itself.
fn command_line(words: Vec<OsString>, own: &[String], program: &Command) -> Vec<OsString> {
    let asked = words.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    let is_command = asked == "help" || program.find_subcommand(asked).is_some();
    if is_command || ["-h", "--help", "-V", "--version"].contains(&asked) {
        return words;
    }
    let mut words = words.into_iter();
    words.next().into_iter().chain(own.iter().map(OsString::from)).chain(words).collect()
}

/// What a program does by itself if its notes say nothing: it talks with whoever sits at a terminal, answers what comes
/// through a pipe or from a file, and where it was started with a click shows its page.
fn alone() -> Vec<String> {
    let words: &[&str] = if std::io::stdin().is_terminal() || is_fed() {
        &["chat", NAME]
    } else {
        &["serve", NAME, "--port", "0", "--open"]
    };
    words.iter().map(|word| word.to_string()).collect()
}

/// Whether stdin has something to say: a pipe or a file, not what a desktop gives, the null device or a socket.
fn is_fed() -> bool {
    #[cfg(unix)]
    {
        use std::os::fd::AsFd;
        use std::os::unix::fs::FileTypeExt;
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
        let kind = stdin.and_then(|stdin| stdin.metadata()).map(|meta| meta.file_type());
        kind.is_ok_and(|kind| kind.is_fifo() || kind.is_file())
    }
    #[cfg(not(unix))]
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_added_and_subcommands_go_before() {
        let program = Command::new("quipu").subcommand(Command::new("run")).subcommand(Command::new("chat"));
        let own = ["chat".to_string(), "bundled".to_string()];
        for (given, meant) in [
            ("app", "app chat bundled"),
            ("app -c 100", "app chat bundled -c 100"),
            ("app run bundled x", "app run bundled x"),
            ("app help", "app help"),
            ("app --version", "app --version"),
            ("app runs", "app chat bundled runs"),
        ] {
            let words = given.split(' ').map(OsString::from).collect();
            let words: Vec<_> =
                command_line(words, &own, &program).into_iter().map(|word| word.into_string().unwrap()).collect();
            assert_eq!(words.join(" "), meant);
        }
    }
}
