//! `quipu list`: the models that are there.

use anyhow::Result;
use quipu_formats::stores::Stores;
use quipu_store::list::list;
use serde_json::json;

use crate::out;

/// Show the models that are in the Hub's cache and in ollama's store
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu list
  quipu list --json | jq -r .name")]
pub struct Args {
    /// A line of JSON for each model
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let models = list(&Stores::here());
    let width = models.iter().map(|model| model.name.chars().count()).max().unwrap_or(0);
    for model in &models {
        if args.json {
            out::json(&json!({"name": model.name, "bytes": model.bytes, "path": model.path}))?;
        } else {
            out::line(format_args!("{:width$}  {:>9.1} MB", model.name, model.bytes as f64 / 1e6))?;
        }
    }
    Ok(())
}
