//! The subcommands.

mod batch;
mod bench;
mod bundle;
mod chat;
mod compare;
mod completions;
mod convert;
mod doctor;
mod embed;
mod guard;
mod imatrix;
mod infill;
mod inspect;
mod list;
mod man;
mod merge;
mod pack;
mod perplexity;
#[cfg(feature = "pull")]
mod pull;
mod quantize;
mod rm;
mod run;
mod score;
mod serve;
mod tokenize;
mod tuning;
mod verify;

use anyhow::Result;
use clap::Subcommand;
pub use guard::Unsafe;

#[derive(Subcommand)]
pub enum Command {
    Run(run::Args),
    Chat(chat::Args),
    Infill(infill::Args),
    Serve(Box<serve::Args>),
    Batch(batch::Args),
    Convert(convert::Args),
    Quantize(quantize::Args),
    Imatrix(imatrix::Args),
    Pack(pack::Args),
    Bundle(bundle::Args),
    Merge(merge::Args),
    #[command(visible_alias = "show")]
    Inspect(inspect::Args),
    #[cfg(feature = "pull")]
    Pull(pull::Args),
    List(list::Args),
    Rm(rm::Args),
    Verify(verify::Args),
    Tokenize(tokenize::Args),
    Score(score::Args),
    Embed(embed::Args),
    Guard(guard::Args),
    Perplexity(perplexity::Args),
    Compare(compare::Args),
    Bench(bench::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Does what `command` says; `program` is the whole command line, for those that write about it.
pub fn run(command: Command, program: fn() -> clap::Command) -> Result<()> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Infill(args) => infill::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::Batch(args) => batch::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Quantize(args) => quantize::run(args),
        Command::Imatrix(args) => imatrix::run(args),
        Command::Pack(args) => pack::run(args),
        Command::Bundle(args) => bundle::run(args, program()),
        Command::Merge(args) => merge::run(args),
        Command::Inspect(args) => inspect::run(args),
        #[cfg(feature = "pull")]
        Command::Pull(args) => pull::run(args),
        Command::List(args) => list::run(args),
        Command::Rm(args) => rm::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Score(args) => score::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Guard(args) => guard::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args, program()),
        Command::Man(args) => man::run(args, program()),
    }
}
