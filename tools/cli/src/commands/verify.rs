//! `quipu verify`: whether the files of models are what they were.

use anyhow::{Result, bail};
use quipu_formats::stores::Stores;
use quipu_store::verify::{State, verify};
use serde_json::json;

use crate::{out, talk};

/// Hold the files of models in the stores against their digests
///
/// All of each file is read. The exit code is 1 if one is damaged; `quipu rm` and `quipu pull` fetch it anew.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu verify ollama:llama3.2:1b
  quipu verify hf:HuggingFaceTB/SmolLM2-135M-Instruct --json")]
pub struct Args {
    /// The names, as `quipu list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// A line of JSON for each file
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let mut damaged = Vec::new();
    for name in &args.names {
        let bar = talk::Bar::new("reading");
        let files = verify(&Stores::here(), name, &mut |path, done, total| {
            bar.update(done, total, &path.file_name().unwrap_or_default().to_string_lossy());
        })?;
        drop(bar);
        for file in files {
            let state = match file.state {
                State::Whole => "whole",
                State::Damaged => "damaged",
                State::Unknown => "unknown (its name is no digest)",
            };
            if args.json {
                let word = state.split(' ').next();
                out::json(&json!({"name": name, "path": file.path, "bytes": file.bytes, "state": word}))?;
            } else {
                out::line(format_args!("{state}  {}", file.path.display()))?;
            }
            if file.state == State::Damaged {
                damaged.push(file.path.display().to_string());
            }
        }
    }
    if !damaged.is_empty() {
        bail!("{}: not what was fetched; `quipu rm` and `quipu pull` fetch it anew", damaged.join(", "));
    }
    Ok(())
}
