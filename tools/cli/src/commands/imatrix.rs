//! `quipu imatrix`: what a model's matrices meet on a text.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::args::{self, ModelArgs};
use crate::{calibrate, model, out};

/// Measure what a model's matrices meet on a text, so that `quantize --imatrix` can round for it
///
/// The text is read in pieces of -c tokens. For each matrix the file gets the sums of squares of its inputs, which
/// llama.cpp reads too, and the sums of products of inputs within windows of 256, by which `quantize` makes good the
/// error of one weight with the next ones. Some 100 KB of text as the model will meet it are enough; run it on the
/// unquantised model. The file has about 1 KB for each input of each layer's four products.
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
    /// Tokens of a piece
    #[arg(short, long = "ctx", value_name = "N", default_value_t = 512)]
    context: usize,
    /// Stop after so many pieces
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
}

pub fn run(args: Args) -> Result<()> {
    let n = args.context;
    ensure!(n > 0, "-c 0: a piece needs at least one token");
    let text = args::text(None, args.file.as_deref(), "text")?;
    let (mut engine, _) = model::load(&args.model, Some(n))?;
    let mut imatrix = calibrate::on_text(&mut engine, &text, n, args.chunks)?.imatrix;
    imatrix.datasets = args.file.iter().map(|path| path.display().to_string()).collect();
    let bytes = imatrix.write(&args.output)?;
    out::line(format_args!(
        "{}: {} pieces of {n} tokens, {:.1} MB",
        args.output.display(),
        imatrix.chunks,
        bytes as f64 / 1e6
    ))
}
