//! `quipu rm`: models taken out of the stores.

use anyhow::Result;
use quipu_formats::stores::Stores;
use quipu_store::remove::remove;

use crate::talk;

/// Remove models from the Hub's cache or from ollama's store
///
/// Files that another model has, too, stay. `hf:ORG/REPO` removes all that there is of the repository.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu rm ollama:llama3.2:1b
  quipu rm hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M")]
pub struct Args {
    /// The names, as `quipu list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub fn run(args: Args) -> Result<()> {
    for name in &args.names {
        let bytes = remove(&Stores::here(), name)?;
        talk::note(&format!("{name}: removed, {:.1} MB are free", bytes as f64 / 1e6));
    }
    Ok(())
}
