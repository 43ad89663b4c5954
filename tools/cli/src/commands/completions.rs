//! `quipu completions`: what a shell has to know to complete command lines.

use anyhow::Result;
use clap_complete::Shell;

use crate::out;

/// Write a script by which a shell completes command lines
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu completions bash > ~/.local/share/bash-completion/completions/quipu
  quipu completions zsh > \"${fpath[1]}/_quipu\"
  quipu completions fish > ~/.config/fish/completions/quipu.fish
  quipu completions powershell >> $PROFILE")]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: Args, mut program: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "quipu", &mut script);
    out::print(&String::from_utf8(script)?)
}
