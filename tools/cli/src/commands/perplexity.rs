//! `quipu perplexity`: how well a model predicts a text.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use quipu_runtime::sampler::log_probability;
use serde_json::json;

use crate::args::{self, ModelArgs};
use crate::{model, out, talk};

/// Measure how well a model predicts a text, as llama.cpp's tool does
///
/// The text is tokenised as a whole and cut into pieces of -c tokens, the first of each replaced by the beginning-of-text token if the
/// model uses one. In each piece the second half is predicted from all that precedes it in the piece. The result is the exponential of the
/// mean negative log-likelihood, with its standard error. Lower is better; only figures for the same text and -c compare.
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  quipu perplexity llama-q4_0.gguf -f wiki.test.raw --chunks 20")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; without it, what is piped in
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens of a piece
    #[arg(short, long = "ctx", value_name = "N", default_value_t = 512)]
    context: usize,
    /// Stop after so many pieces
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// One JSON object: ppl, error, nll, tokens, chunks, ctx
    #[arg(long)]
    json: bool,
}

/// Sums over the tokens predicted.
#[derive(Default)]
struct Sums {
    count: usize,
    nll: f64,
    nll_squared: f64,
}

impl Sums {
    fn add(&mut self, nll: f64) {
        self.count += 1;
        self.nll += nll;
        self.nll_squared += nll * nll;
    }

    fn mean(&self) -> f64 {
        self.nll / self.count as f64
    }

    fn perplexity(&self) -> f64 {
        self.mean().exp()
    }

    /// The standard error of the mean, carried through the exponential. Zero for a single token.
    fn error(&self) -> f64 {
        let variance = self.nll_squared / self.count as f64 - self.mean() * self.mean();
        let deviation = (variance.max(0.0) / (self.count.max(2) - 1) as f64).sqrt();
        deviation * self.perplexity()
    }
}

pub fn run(args: Args) -> Result<()> {
    let n = args.context;
    ensure!(n >= 4, "-c {n}: a piece needs at least 4 tokens");
    let text = args::text(None, args.file.as_deref(), "text")?;
    let (mut engine, _) = model::load(&args.model, Some(n))?;
    let tokenizer = engine.tokenizer().clone();
    let mut tokens = tokenizer.encode(&text, true, false);
    // One piece says little, so llama.cpp asks for two; that keeps figures from being compared that should not be.
    ensure!(tokens.len() >= 2 * n, "the text has {} tokens, but -c {n} needs at least {}", tokens.len(), 2 * n);

    let pieces = (tokens.len() / n).min(args.chunks.unwrap_or(usize::MAX));
    ensure!(pieces > 0, "--chunks 0: there is nothing to measure");
    let first = n / 2;
    let mut sums = Sums::default();
    let started = std::time::Instant::now();
    for (i, piece) in tokens.chunks_exact_mut(n).take(pieces).enumerate() {
        if let Some(bos) = tokenizer.bos().filter(|_| tokenizer.add_bos()) {
            piece[0] = bos;
        }
        let mut sequence = engine.new_sequence();
        engine
            .score(&mut sequence, piece, |position, logits| {
                if let Some(&next) = piece.get(position + 1).filter(|_| position >= first) {
                    sums.add(-log_probability(logits, next));
                }
            })
            .context("cannot score the text")?;
        ensure!(sums.nll.is_finite(), "piece {}: the model's logits are not finite numbers", i + 1);
        let left = started.elapsed().as_secs_f64() / (i + 1) as f64 * (pieces - i - 1) as f64;
        talk::note_part(&format!("\r[{}/{pieces}] {:.4}, {left:.0} s left   ", i + 1, sums.perplexity()));
    }
    talk::note("");
    let (ppl, error) = (sums.perplexity(), sums.error());
    if args.json {
        return out::json(&json!({
            "ppl": ppl, "error": error, "nll": sums.mean(), "tokens": sums.count, "chunks": pieces, "ctx": n,
        }));
    }
    out::line(format_args!("perplexity {ppl:.4} ± {error:.5} ({} tokens in {pieces} pieces of {n})", sums.count))
}

#[cfg(test)]
mod tests {
    use super::Sums;

    /// A model that gives every token one of `n` equal chances has perplexity n, without error.
    #[test]
    fn chance_among_n_has_perplexity_n() {
        let mut sums = Sums::default();
        (0..1000).for_each(|_| sums.add(50f64.ln()));
        assert!((sums.perplexity() - 50.0).abs() < 1e-9);
        assert!(sums.error() < 1e-5);
    }

    #[test]
    fn the_error_is_that_of_the_mean() {
        let mut sums = Sums::default();
        for nll in [1.0, 3.0, 1.0, 3.0, 1.0] {
            sums.add(nll);
        }
        // Mean 1.8; sample deviation √1.2; of the mean √(1.2 / 5) = √0.24; times e^1.8.
        assert!((sums.error() - 0.24f64.sqrt() * 1.8f64.exp()).abs() < 1e-9);
    }
}
