//! `--draft`: where guesses of the next tokens come from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quipu_runtime::Engine;
use quipu_runtime::generate::{Draft, Scheduler, SchedulerOptions};

use crate::args::MachineArgs;
use crate::model;

/// Whether tokens are guessed, and from what.
#[derive(Clone, clap::Args)]
pub struct DraftArgs {
    /// Guess the next tokens, and read several in one step where that is faster; the text is the same. `text`: from
    /// what it has said before; a model (named as MODEL): by that one as well, which is smaller or has fewer bits, and
    /// the same vocabulary; `none`: not at all
    #[arg(long, value_name = "none|text|MODEL", default_value = Draft::default().name())]
    draft: PathBuf,
}

impl DraftArgs {
    /// The model that guesses, if one does.
    pub fn model(&self) -> Option<&Path> {
        let named = Draft::ALL.iter().any(|draft| self.draft.as_os_str() == draft.name());
        (!named).then_some(&self.draft)
    }

    /// A scheduler for `engine` that guesses in this way; a model for that may use as much of the machine.
    pub fn scheduler(&self, engine: Engine, options: SchedulerOptions, machine: &MachineArgs) -> Result<Scheduler> {
        let named = Draft::ALL.into_iter().find(|draft| self.draft.as_os_str() == draft.name());
        let mut scheduler = Scheduler::with_options(engine, options.draft(named.unwrap_or_default()));
        if let Some(path) = self.model() {
            let (draft, _) = model::load_on(machine, path, None)
                .with_context(|| format!("--draft {} (expected none, text or a model)", path.display()))?;
            scheduler.set_draft_model(draft)?;
        }
        Ok(scheduler)
    }
}
