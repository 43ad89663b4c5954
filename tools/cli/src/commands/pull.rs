//! `quipu pull`: a model fetched by its name.

use std::sync::atomic::AtomicBool;

use anyhow::Result;
use quipu_store::pull::{Event, Puller};
use serde_json::json;

use crate::{out, talk};

/// Fetch models from the Hub or from ollama's registry
///
/// What is fetched lies where Hugging Face's programs and ollama look for it, and what they have fetched is not fetched
/// again. Every command takes the same names. What was begun goes on where it stopped; each file is held against its
/// digest.
///
/// HF_TOKEN or `hf auth login` let you fetch what is not for everybody; a token is sent to the Hub alone. HF_ENDPOINT
/// and OLLAMA_REGISTRY name mirrors, SSL_CERT_FILE other certificates, HTTPS_PROXY a proxy. No other command uses the
/// network.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu pull hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M
  quipu pull ollama:llama3.2:1b && quipu chat ollama:llama3.2:1b
  HF_ENDPOINT=http://mirror.lan:8000 quipu pull hf:HuggingFaceTB/SmolLM2-135M-Instruct")]
pub struct Args {
    /// `hf:ORG/REPO`, `hf:ORG/REPO:TYPE` for one GGUF of several, or `ollama:NAME[:TAG]`
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// A line of JSON for each model
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let puller = Puller::here()?;
    for name in &args.names {
        let mut shown = Shown::default();
        // A signal ends the process: what came stays, and nothing has its name that is not whole.
        let path = puller.pull(name, &mut |event| shown.show(event), &AtomicBool::new(false))?;
        drop(shown);
        if args.json {
            out::json(&json!({"name": name, "path": path}))?;
        } else {
            out::line(path.display())?;
        }
    }
    Ok(())
}

/// What a person sees of it: a bar for each file, and a line for what does not go well.
#[derive(Default)]
struct Shown {
    bar: Option<(String, talk::Bar)>,
}

impl Shown {
    fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Bytes { file, done, total, .. } => {
                if self.bar.as_ref().is_none_or(|(shown, _)| shown != file) {
                    self.bar = Some((file.into(), talk::Bar::new("fetching")));
                }
                if let Some((_, bar)) = &self.bar {
                    bar.update(done, total, file);
                }
            }
            Event::Again { why, wait } => {
                self.bar = None;
                talk::note(&format!("{why}; trying again in {:.1} s", wait.as_secs_f64()));
            }
            Event::Waiting { file } => talk::note(&format!("{file}: another program fetches it; waiting")),
            _ => self.bar = None,
        }
    }
}
