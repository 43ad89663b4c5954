//! From a model's name to an engine that is loaded.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use quipu_formats::oddity::Oddity;
use quipu_formats::output::Inputs;
use quipu_formats::source::{Recoded, Source, recoded_types};
use quipu_runtime::tokenizer::Tokenizer;
use quipu_runtime::{Engine, LoadOptions};
use serde_json::{Value as Json, json};

use crate::args::{self, MachineArgs, ModelArgs};
use crate::{out, talk};

/// Opens a model without loading its weights.
pub fn open_path(model: &Path) -> Result<Box<dyn Source>> {
    let source = quipu_runtime::open(name(model)?)?;
    out::apart_from(&Inputs::of(source.files()), model)?;
    Ok(source)
}

/// A model's name as text.
pub fn name(model: &Path) -> Result<&str> {
    model.to_str().with_context(|| format!("{}: the name is no UTF-8 text", model.display()))
}

/// Says which types of a model are not run as they are.
pub fn warn_recoded(types: &[Recoded]) {
    types.iter().for_each(|recoded| talk::warning(&recoded.to_string()));
}

/// Loads a model. Returns how long that took, too.
pub fn load(args: &ModelArgs, context: Option<usize>) -> Result<(Engine, Duration)> {
    load_on(&args.machine, &args.model, context)
}

/// Loads `model`, which may use so much of the machine. Returns how long that took, too.
pub fn load_on(args: &MachineArgs, model: &Path, context: Option<usize>) -> Result<(Engine, Duration)> {
    let started = Instant::now();
    let (threads, isa, residence) = (args::threads(args.threads), args.isa()?, args.residence());
    let context = context.filter(|&n| n > 0);
    let options = LoadOptions::default().threads(threads).isa(isa).context(context).residence(residence);
    let options = options.tuning(args.tuning()?).kv_type(args.kv_type()?);
    let source = open_path(model)?;
    warn_recoded(&recoded_types(&*source));
    let bar = talk::Bar::new("loading");
    let engine = Engine::load(source, &options, &|done, total| bar.update(done, total, ""))?;
    warn_oddities(model, &engine.oddities());
    Ok((engine, started.elapsed()))
}

/// Says what is odd about a model's files.
pub fn warn_oddities(model: &Path, oddities: &[Oddity]) {
    oddities.iter().for_each(|oddity| talk::warning(&format!("{}: {oddity}", model.display())));
}

/// What one token looks like in a listing: its text, control tokens spelled out, bytes that are no character by
/// themselves as replacement characters.
pub fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(tokenizer.token_bytes(id, true)).into_owned()
}

/// A token in JSON: id, text, and its bytes where they are no text by themselves.
pub fn token_json(tokenizer: &Tokenizer, id: u32, logprob: Option<f64>) -> Json {
    let bytes = tokenizer.token_bytes(id, true);
    let mut json = json!({"id": id, "text": token_text(tokenizer, id), "logprob": logprob});
    if str::from_utf8(bytes).is_err() {
        json["bytes"] = json!(bytes);
    }
    json
}
