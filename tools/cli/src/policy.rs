//! How a Llama Guard model is asked, as options say it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use quipu_formats::output::Inputs;
use quipu_server::moderation::form::Form;
use quipu_server::moderation::moderator::ModeratorOptions;
use quipu_server::moderation::policy::Policy;

use crate::out;

/// How a guard is asked.
#[derive(clap::Args)]
pub struct PolicyArgs {
    /// Other categories than the guard was trained with: lines `S1: Name.`, each with further lines that say what
    /// belongs to it
    #[arg(long, value_name = "FILE")]
    categories: Option<PathBuf>,
    /// Categories that are left out
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    exclude: Vec<String>,
    /// The probability of `unsafe` from which on something is flagged
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = probability)]
    threshold: f64,
    /// The generation of Llama Guard, 1, 2 or 3 [default: what the model's chat template or its name says]
    #[arg(long, value_name = "GENERATION", value_parser = form)]
    form: Option<Form>,
}

impl PolicyArgs {
    /// The same for the library.
    pub fn options(&self) -> Result<ModeratorOptions> {
        options(self.categories.as_deref(), &self.exclude, self.threshold, self.form)
    }
}

/// How a guard is asked, with the categories in a file.
pub fn options(
    categories: Option<&Path>,
    excluded: &[String],
    threshold: f64,
    form: Option<Form>,
) -> Result<ModeratorOptions> {
    let read = |path: &Path| {
        out::apart_from(&Inputs::of([path]), path)?;
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Policy::parse(&text).with_context(|| path.display().to_string())
    };
    let policy = categories.map(read).transpose()?;
    Ok(ModeratorOptions { form, policy, excluded: excluded.to_vec(), threshold })
}

/// Parses a probability.
pub fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".into())
}

/// Parses a generation of Llama Guard.
pub fn form(text: &str) -> Result<Form, String> {
    let form = Form::ALL.into_iter().find(|form| form.number().to_string() == text);
    form.ok_or_else(|| "expected 1, 2 or 3".into())
}
