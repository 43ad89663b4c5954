//! Options that add LoRA adapters to a model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use quipu_formats::lora::{Adapter, Merged};
use quipu_formats::output::Inputs;
use quipu_formats::source::Source;

use crate::{out, talk};

/// LoRA adapters.
#[derive(Clone, clap::Args)]
pub struct LoraArgs {
    /// A LoRA adapter: the directory that PEFT writes, or llama.cpp's GGUF; with a factor behind it, another scale. May
    /// be given several times. The matrices that it changes are run as F32
    #[arg(long = "lora", value_name = "FILE[=SCALE]", value_parser = scaled)]
    lora: Vec<Scaled>,
}

/// An adapter's file, and its factor.
pub type Scaled = (PathBuf, f32);

/// `FILE` or `FILE=SCALE`.
pub fn scaled(text: &str) -> Result<Scaled, String> {
    match text.rsplit_once('=').map(|(file, scale)| (file, scale.parse())) {
        Some((file, Ok(scale))) if f32::is_finite(scale) => Ok((file.into(), scale)),
        // A name may have the sign in it.
        _ => Ok((text.into(), 1.0)),
    }
}

impl LoraArgs {
    /// `model` with the adapters that are asked for.
    pub fn add(&self, model: Box<dyn Source>) -> Result<Box<dyn Source>> {
        if self.lora.is_empty() {
            return Ok(model);
        }
        let merged = merged(model.into(), &self.lora)?;
        let coarse = merged.changed().filter(|(_, ty)| !ty.is_float()).count();
        if coarse > 0 {
            talk::warning(&format!(
                "{coarse} matrices that an adapter changes are run as F32, which takes several times their memory and time; \
                 `quipu merge` writes a model that is run as it is"
            ));
        }
        Ok(Box::new(merged))
    }
}

/// `model` with these adapters.
pub fn merged(model: Arc<dyn Source>, adapters: &[Scaled]) -> Result<Merged> {
    let read = |(path, scale): &Scaled| {
        let path: &Path = path;
        let adapter = Adapter::open(path, &*model).context("cannot use the adapter")?;
        out::apart_from(&Inputs::of(adapter.files()), path)?;
        Ok((adapter, *scale))
    };
    let adapters = adapters.iter().map(read).collect::<Result<Vec<_>>>()?;
    Ok(Merged::new(model, adapters))
}
