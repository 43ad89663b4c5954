//! `quipu pack`: the same weights, arranged as the kernels read them.

use std::path::PathBuf;

use anyhow::Result;
use quipu_formats::convert::TypeRule;
use quipu_measure::QuantizeOptions;

use super::convert::write;

/// Write a model in the packed form
///
/// The weights keep their values and their types; only their order changes, to the one that the kernels read. A packed
/// file is mapped and used as it lies on disk: it starts at once, and its pages are all the memory the weights take.
/// Only Quipu reads it.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  quipu pack llama-q4_0.gguf llama-q4_0.quipu")]
pub struct Args {
    /// A GGUF file or a Hugging Face directory
    input: PathBuf,
    /// The file to write
    output: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    let mut options = QuantizeOptions::new(TypeRule::Keep);
    options.packed = true;
    write(&args.input, &args.output, "packing", &options)
}
