//! `quipu man`: the help as pages of the manual.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_mangen::Man;
use quipu_formats::output::{Inputs, OutputFile};

use crate::out;
use crate::usage::Usage;

/// Write the help as pages of the manual
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu man | man -l -
  quipu man bench | man -l -
  quipu man --all ~/.local/share/man/man1")]
pub struct Args {
    /// The subcommand whose page goes to stdout; without one, the program
    #[arg(conflicts_with = "all")]
    command: Option<String>,
    /// Write all pages into this directory, which is made if it is not there
    #[arg(long, value_name = "DIRECTORY")]
    all: Option<PathBuf>,
}

pub fn run(args: Args, mut program: clap::Command) -> Result<()> {
    // Options that all subcommands share are told with each of them, and pages get their names.
    program.build();
    if let Some(directory) = args.all {
        std::fs::create_dir_all(&directory).with_context(|| format!("{}: cannot be made", directory.display()))?;
        for command in std::iter::once(&program).chain(commands(&program)) {
            let page = page(command);
            let mut file = OutputFile::create(&directory.join(page.get_filename()), &Inputs::new())?;
            page.render(&mut file)?;
            file.finish()?;
        }
        return Ok(());
    }
    let command = match &args.command {
        None => program,
        Some(name) => commands(&program).find(|command| command.get_name() == name).cloned().ok_or_else(|| {
            let known: Vec<&str> = commands(&program).map(clap::Command::get_name).collect();
            Usage::new(format!("{name}: no such command; there are: {}", known.join(", ")))
        })?,
    };
    let mut text = Vec::new();
    page(&command).render(&mut text)?;
    out::print(&String::from_utf8(text)?)
}

/// All subcommands but the one that shows what `--help` shows.
fn commands(program: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    program.get_subcommands().filter(|command| command.get_name() != "help")
}

fn page(command: &clap::Command) -> Man {
    Man::new(command.clone()).source(concat!("Quipu ", env!("CARGO_PKG_VERSION")))
}
