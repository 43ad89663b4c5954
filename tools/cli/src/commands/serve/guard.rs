//! Options that have a model guard the others.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use quipu_server::moderation::form::Form;
use quipu_server::moderation::gate::GateOptions;

use super::names;
use crate::policy;

/// Whether and how a model guards the others.
#[derive(clap::Args)]
#[command(next_help_heading = "Guard")]
pub struct GuardArgs {
    /// A Llama Guard model that judges what the others are told and what they answer
    #[arg(long, value_name = "MODEL")]
    guard: Option<PathBuf>,
    /// What it judges
    #[arg(long, value_name = "WHAT", value_enum, default_value = "both", requires = "guard")]
    guard_check: Check,
    /// What becomes of what is not safe
    #[arg(long, value_name = "HOW", value_enum, default_value = "refuse", requires = "guard")]
    guard_action: Action,
    /// Tokens of a streamed answer that are held back until they are judged
    #[arg(long, value_name = "N", default_value_t = 64, requires = "guard")]
    guard_piece: usize,
    /// Other categories than the guard was trained with, as for `quipu guard`
    #[arg(long, value_name = "FILE", requires = "guard")]
    guard_categories: Option<PathBuf>,
    /// Categories that are left out
    #[arg(long, value_name = "CODE,…", value_delimiter = ',', requires = "guard")]
    guard_exclude: Vec<String>,
    /// The probability of `unsafe` from which on something is flagged
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = policy::probability, requires = "guard")]
    guard_threshold: f64,
    /// The generation of Llama Guard, 1, 2 or 3 [default: what the model's chat template or its name says]
    #[arg(long, value_name = "GENERATION", value_parser = policy::form, requires = "guard")]
    guard_form: Option<Form>,
}

/// What is judged.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    /// What the models are told
    Prompt,
    /// What they answer
    Answer,
    /// Both
    Both,
}

/// What becomes of what is not safe.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// It is refused
    Refuse,
    /// It is let through with what was found
    Flag,
}

impl GuardArgs {
    /// The guard's file or name, if there is a guard.
    pub fn model(&self) -> Option<&PathBuf> {
        self.guard.as_ref()
    }

    /// The same for the library.
    pub fn options(&self) -> Result<Option<GateOptions>> {
        let Some(model) = &self.guard else { return Ok(None) };
        ensure!(self.guard_piece > 0, "--guard-piece must be at least 1");
        let (mut offers, _) = names::offers(std::slice::from_ref(model), &[])?;
        let categories = self.guard_categories.as_deref();
        Ok(Some(GateOptions {
            offer: offers.remove(0),
            moderator: policy::options(categories, &self.guard_exclude, self.guard_threshold, self.guard_form)?,
            prompts: self.guard_check != Check::Answer,
            answers: self.guard_check != Check::Prompt,
            refuse: self.guard_action == Action::Refuse,
            piece: self.guard_piece,
        }))
    }
}
