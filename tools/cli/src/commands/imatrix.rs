//! `quipu imatrix`: what the inputs of a model's matrices are on a text.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use quipu_formats::output::{self, Inputs};
use quipu_measure::{ImatrixOptions, imatrix};

use crate::args::{self, ModelArgs};
use crate::watch::Watch;
use crate::{model, talk};

/// Measure the inputs of a model's matrices on a text, so that `quantize --imatrix` can round by them
///
/// The text is read in chunks of -c tokens. For each matrix the file gets the sums of squares of its inputs, which
/// llama.cpp reads too, and the sums of products of inputs within windows of 256, by which `quantize` makes the error
/// of one weight good with the next ones. Some 100 KB of text are enough, of the kind that the model will read later;
/// use the unquantised model. The file takes about 1 KB for each input of each layer's four products.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  quipu imatrix llama-bf16.gguf -f calibration.txt -o llama.imatrix")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; without it, what is piped in
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens of a chunk
    #[arg(short, long = "ctx", value_name = "N", default_value_t = 512)]
    context: usize,
    /// Stop after so many chunks
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
}

pub fn run(args: Args) -> Result<()> {
    let n = args.context;
    ensure!(n > 0, "-c 0: a chunk needs at least one token");
    let text = args::text(None, args.file.as_deref(), "text")?;
    let (mut engine, _) = model::load(&args.model, Some(n))?;
    let mut inputs = Inputs::of(engine.source().files());
    inputs.extend(&args::text_inputs(args.file.as_deref()));
    // Before the work, which may take hours.
    output::check(&args.output, &inputs)?;
    let mut options = ImatrixOptions::default();
    (options.context, options.chunks) = (n, args.chunks);
    options.datasets = args.file.iter().map(|path| path.display().to_string()).collect();
    let imatrix = Watch::of_file("").run(|monitor| imatrix(&mut engine, &text, &options, monitor))?;
    let bytes = imatrix.write(&args.output, &inputs)?;
    let (path, chunks, megabytes) = (args.output.display(), imatrix.chunks, bytes as f64 / 1e6);
    talk::note(&format!("{path}: {chunks} chunks of {n} tokens, {megabytes:.1} MB"));
    Ok(())
}
