//! `quipu imatrix`: what a model's matrices meet on a text.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use quipu_formats::imatrix::Imatrix;
use quipu_runtime::model::Input;

use crate::args::{self, ModelArgs};
use crate::{interrupt, model, out, talk};

/// Measure what a model's matrices meet on a text, so that `quantize --imatrix` can round for it
///
/// The text is read in pieces of -c tokens. For each matrix the file gets the sums of squares of its inputs, which llama.cpp reads too, and
/// the sums of products of inputs within windows of 256, by which `quantize` makes good the error of one weight with the next ones. Some 100
/// KB of text as the model will meet it are enough; run it on the unquantised model. The file has about 1 KB for each input of each layer's
/// four products.
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

/// Below so many tokens a calibration may do more harm than good (`docs/quantisation.md`).
const ENOUGH_TOKENS: usize = 10_000;

pub fn run(args: Args) -> Result<()> {
    let n = args.context;
    ensure!(n > 0, "-c 0: a piece needs at least one token");
    let text = args::text(None, args.file.as_deref(), "text")?;
    let (mut engine, _) = model::load(&args.model, Some(n))?;
    let tokenizer = engine.tokenizer().clone();
    let mut tokens = tokenizer.encode(&text, true, false);
    let pieces = (tokens.len() / n).min(args.chunks.unwrap_or(usize::MAX));
    ensure!(pieces > 0, "the text has {} tokens; at least one piece of -c {n} is needed", tokens.len());

    if pieces * n < ENOUGH_TOKENS {
        talk::warning(&format!(
            "{} tokens are few to calibrate with: below {ENOUGH_TOKENS} the result may be worse than without",
            pieces * n
        ));
    }

    let datasets = args.file.iter().map(|path| path.display().to_string()).collect();
    let mut imatrix = Imatrix::new(datasets, pieces as u32, n as u32);
    let tied = engine.source().find("output.weight").is_none();
    let interrupt = interrupt::listen();
    let started = std::time::Instant::now();
    for (i, piece) in tokens.chunks_exact_mut(n).take(pieces).enumerate() {
        if interrupt.flag().load(std::sync::atomic::Ordering::Relaxed) {
            talk::note("cancelled; nothing was written");
            return Err(interrupt::Interrupted.into());
        }
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
            piece[0] = bos;
        }
        let mut sequence = engine.new_sequence();
        engine
            .observe(&mut sequence, piece, &mut |input, rows| {
                let name = match input {
                    Input::Attention(layer) => format!("blk.{layer}.attn_q.weight"),
                    Input::AttentionOutput(layer) => format!("blk.{layer}.attn_output.weight"),
                    Input::FeedForward(layer) => format!("blk.{layer}.ffn_gate.weight"),
                    Input::FeedForwardDown(layer) => format!("blk.{layer}.ffn_down.weight"),
                    Input::Head if tied => "token_embd.weight".into(),
                    Input::Head => "output.weight".into(),
                };
                imatrix.entry(&name, rows.cols).add(rows.x, rows.count, rows.stride);
            })
            .context("cannot read the text")?;
        let left = started.elapsed().as_secs_f64() / (i + 1) as f64 * (pieces - i - 1) as f64;
        talk::note_part(&format!("\r[{}/{pieces}] {left:.0} s left   ", i + 1));
    }
    talk::note("");
    let bytes = imatrix.write(&args.output)?;
    out::line(format_args!("{}: {pieces} pieces of {n} tokens, {:.1} MB", args.output.display(), bytes as f64 / 1e6))
}
