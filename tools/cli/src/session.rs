//! A text that another run goes on with.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use quipu_formats::output::{self, Inputs};
use quipu_runtime::session::Session;
use quipu_runtime::{Adapters, Engine};

use crate::{out, talk};

/// Where a text is kept.
#[derive(clap::Args)]
pub struct SessionArgs {
    /// Keep the text in a file when the command ends, with what the model has read of it; if the file is there, go on
    /// with what it has
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
}

impl SessionArgs {
    /// Whether there is something to go on with.
    pub fn exists(&self) -> bool {
        self.session.as_deref().is_some_and(Path::exists)
    }

    /// What there is to go on with, read with `adapters`. That the file can be written in the end, and is none of
    /// `inputs`, is looked at first.
    pub fn open(&self, engine: &Engine, adapters: &Adapters, inputs: &Inputs) -> Result<Option<Session>> {
        let Some(path) = &self.session else { return Ok(None) };
        output::check(path, inputs)?;
        if !path.exists() {
            return Ok(None);
        }
        out::apart_from(&Inputs::of([path]), path)?;
        let started = Instant::now();
        let session = Session::open_with(engine, adapters, path)?;
        let (tokens, ms) = (session.sequence.len(), started.elapsed().as_secs_f64() * 1e3);
        talk::note(&format!("{}: {tokens} tokens, opened in {ms:.0} ms", path.display()));
        Ok(Some(session))
    }

    /// Keeps a text, if that is asked for.
    pub fn save(&self, engine: &Engine, inputs: &Inputs, session: impl FnOnce() -> Session) -> Result<()> {
        if let Some(path) = &self.session {
            session().save(engine, path, inputs)?;
        }
        Ok(())
    }
}
