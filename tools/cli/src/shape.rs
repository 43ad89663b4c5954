//! Options that say what an answer is to be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use quipu_constrain::{Grammars, Shape};
use quipu_formats::output::Inputs;
use quipu_runtime::constraint::Grammar;
use quipu_runtime::generate::{Finished, StopReason};
use quipu_runtime::tokenizer::Tokenizer;

use crate::{out, talk};

/// What the answer is to be.
#[derive(clap::Args)]
#[group(multiple = false)]
#[command(next_help_heading = "Shape of the answer")]
pub struct ShapeArgs {
    /// Write JSON that is valid against a JSON schema: a file, or the schema itself
    #[arg(long, value_name = "FILE|JSON")]
    schema: Option<String>,
    /// Write what a grammar allows: a file with GBNF, or with Lark after the word %llguidance
    #[arg(long, value_name = "FILE")]
    grammar: Option<PathBuf>,
    /// Write what matches a regular expression from its beginning to its end
    #[arg(long, value_name = "RE", allow_hyphen_values = true)]
    regex: Option<String>,
}

impl ShapeArgs {
    /// The shape, if there is one: what is wrong with it should be said before a model is loaded.
    pub fn read(&self) -> Result<Option<Shape>> {
        let (shape, origin) = if let Some(schema) = &self.schema {
            let is_text = schema.trim_start().starts_with('{') || ["true", "false"].contains(&schema.trim());
            let text = if is_text { schema.clone() } else { file(Path::new(schema))? };
            let origin = if is_text { "--schema".to_string() } else { schema.clone() };
            (Shape::schema(&text).with_context(|| origin.clone())?, origin)
        } else if let Some(path) = &self.grammar {
            (Shape::grammar(&file(path)?), path.display().to_string())
        } else if let Some(regex) = &self.regex {
            (Shape::Regex(regex.clone()), "--regex".to_string())
        } else {
            return Ok(None);
        };
        shape.check().context(origin)?;
        Ok(Some(shape))
    }
}

fn file(path: &Path) -> Result<String> {
    out::apart_from(&Inputs::of([path]), path)?;
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The grammar of a shape, for the tokens of a model.
pub fn grammar(shape: Option<&Shape>, tokenizer: &Arc<Tokenizer>) -> Result<Option<Arc<dyn Grammar>>> {
    let Some(shape) = shape else { return Ok(None) };
    Ok(Some(Grammars::new(tokenizer.clone()).compile(shape)?))
}

/// Says so if an answer that was to have a shape is only the beginning of one.
pub fn warn_unfinished(shape: Option<&Shape>, end: &Finished) {
    if shape.is_some() && end.stop != StopReason::End {
        talk::warning(&format!("the answer is not complete ({}): it is only a beginning", end.stop.name()));
    }
}
