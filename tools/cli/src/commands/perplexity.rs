//! `quipu perplexity`: how well a model predicts a text, and how far it is from another one.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use quipu_runtime::Engine;
use serde_json::json;

use crate::args::{self, ModelArgs};
use crate::predict::{Pieces, predict, same_vocabulary, seconds_left};
use crate::statistics::{Divergence, Mean, Place};
use crate::{model, out, talk};

/// Measure how well a model predicts a text, as llama.cpp's tool does
///
/// The text is tokenised as a whole and cut into pieces of -c tokens, the first of each replaced by the
/// beginning-of-text token if the model uses one. In each piece the second half is predicted from all that precedes it
/// in the piece. The result is the exponential of the mean negative log-likelihood, with its standard error. Lower is
/// better; only figures for the same text and -c compare.
///
/// With --kl, also how far the predictions are from those of a base model, usually the same one before it was
/// quantised: the mean Kullback-Leibler divergence (0 is the same), what 99 % of the places stay below, and how often
/// both find the same token likeliest. This tells good quantisations from better ones long before the perplexity does.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu perplexity llama-q4_0.gguf -f wiki.test.raw --chunks 20
  quipu perplexity llama-q4_0.gguf -f wiki.test.raw --chunks 20 --kl llama-f16.gguf")]
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
    /// Compare with this model, which must have the same vocabulary
    #[arg(long, value_name = "BASE")]
    kl: Option<PathBuf>,
    /// One JSON object: ppl, error, nll, tokens, chunks, ctx; with --kl also base_ppl, base_error, kl, kl_error, kl_99,
    /// same_top, same_top_error
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let n = args.context;
    let text = args::text(None, args.file.as_deref(), "text")?;
    let (mut engine, _) = model::load(&args.model, Some(n))?;
    let mut base = match &args.kl {
        Some(path) => Some(load_base(&args, path, &engine)?),
        None => None,
    };
    let text = Pieces::new(engine.tokenizer(), &text, n, args.chunks)?;
    let pieces = text.iter().len();
    let (mut nll, mut base_nll, mut divergence) = (Mean::default(), Mean::default(), Divergence::default());
    let started = std::time::Instant::now();
    for (i, piece) in text.iter().enumerate() {
        if let Some(base) = &mut base {
            let expected = predict(base, piece, &mut base_nll, |_, logits| logits.to_vec())?;
            let compare = |place: usize, logits: &[f32]| Place::new(&expected[place], logits);
            divergence.add(&predict(&mut engine, piece, &mut nll, compare)?);
        } else {
            predict(&mut engine, piece, &mut nll, |_, _| ())?;
        }
        let finite = nll.value().is_finite() && (base.is_none() || base_nll.value().is_finite());
        ensure!(finite, "piece {}: the model's logits are not finite numbers", i + 1);
        let left = seconds_left(started.elapsed().as_secs_f64(), i + 1, pieces);
        let kl = base.as_ref().map_or(String::new(), |_| format!(", KL {:.5}", divergence.mean().value()));
        talk::note_part(&format!("\r[{}/{pieces}] {:.4}{kl}, {left}   ", i + 1, nll.perplexity().0));
    }
    talk::note("");
    let (ppl, error) = nll.perplexity();
    let (base_ppl, base_error) = base_nll.perplexity();
    let (kl, (same, same_error)) = (divergence.mean(), divergence.same_top());
    if args.json {
        let mut json = json!({
            "ppl": ppl, "error": error, "nll": nll.value(), "tokens": nll.count, "chunks": pieces, "ctx": n,
        });
        if base.is_some() {
            json["base_ppl"] = base_ppl.into();
            json["base_error"] = base_error.into();
            json["kl"] = kl.value().into();
            json["kl_error"] = kl.error().into();
            json["kl_99"] = divergence.percentile(0.99).into();
            json["same_top"] = same.into();
            json["same_top_error"] = same_error.into();
        }
        return out::json(&json);
    }
    out::line(format_args!("perplexity {ppl:.4} ± {error:.5} ({} tokens in {pieces} pieces of {n})", nll.count))?;
    if base.is_some() {
        out::line(format_args!("base       {base_ppl:.4} ± {base_error:.5}"))?;
        let percentile = divergence.percentile(0.99);
        out::line(format_args!("KL         {:.6} ± {:.6}, 99 % below {percentile:.6}", kl.value(), kl.error()))?;
        out::line(format_args!("same top   {:.2} ± {:.2} %", 100.0 * same, 100.0 * same_error))?;
    }
    Ok(())
}

fn load_base(args: &Args, path: &std::path::Path, engine: &Engine) -> Result<Engine> {
    let mut base_args = args.model.clone();
    base_args.model = path.to_owned();
    let (base, _) = model::load(&base_args, Some(args.context))?;
    let same = engine.vocabulary() == base.vocabulary() && same_vocabulary(engine.tokenizer(), base.tokenizer());
    ensure!(same, "{}: its vocabulary is not the model's, so their predictions do not compare", path.display());
    Ok(base)
}
