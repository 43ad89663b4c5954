//! `quipu perplexity`: how well a model predicts a text, and how far it is from another one.

use std::path::PathBuf;

use anyhow::Result;
use quipu_measure::{Divergence, Perplexity, PerplexityOptions, kl_divergence, perplexity};

use quipu_runtime::KvType;

use crate::args::{self, ModelArgs};
use crate::watch::Watch;
use crate::{model, out};

/// Measure how well a model predicts a text, as llama.cpp's tool does
///
/// The text is tokenised as a whole and cut into chunks of -c tokens, the first of each replaced by the
/// beginning-of-text token if the model uses one. In each chunk the second half is predicted from all that precedes it
/// in the chunk. The result is the exponential of the mean negative log-likelihood, with its standard error. Lower is
/// better; only figures for the same text and -c compare.
///
/// With --kl, also how far the predictions are from those of a base model, usually the same one before it was
/// quantised: the mean Kullback-Leibler divergence (0 is the same), what 99 % of the places stay below, and how often
/// both find the same token likeliest. This tells good quantisations from better ones long before the perplexity does.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu perplexity llama-q4_0.gguf -f wiki.test.raw --chunks 20
  quipu perplexity llama-q4_0.gguf -f wiki.test.raw --chunks 20 --kl llama-f16.gguf
  quipu perplexity llama.gguf -f wiki.test.raw -c 4096 --chunks 4 --kv q4 --kl llama.gguf --kl-kv f16")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; without it, what is piped in
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens of a chunk
    #[arg(short, long = "ctx", value_name = "N", default_value_t = 512)]
    context: usize,
    /// Stop after so many chunks
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// Compare with this model, which must have the same vocabulary
    #[arg(long, value_name = "BASE")]
    kl: Option<PathBuf>,
    /// Numbers of the base's KV cache [default: those of --kv]
    #[arg(long, value_name = "TYPE", requires = "kl")]
    kl_kv: Option<KvType>,
    /// One JSON object: ppl, error, nll, tokens, chunks, ctx; with --kl also base_ppl, base_error, kl, kl_error, kl_99,
    /// same_top, same_top_error
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    let text = args::text(None, args.file.as_deref(), "text")?;
    let (mut engine, _) = model::load(&args.model, Some(args.context))?;
    let mut options = PerplexityOptions::default();
    (options.context, options.chunks) = (args.context, args.chunks);
    let watch = Watch::new();
    let Some(base) = &args.kl else {
        let found = watch.run(|monitor| perplexity(&mut engine, &text, &options, monitor))?;
        return if args.json { out::json(&found) } else { show(&found) };
    };
    let mut base_args = args.model.clone();
    base_args.model.clone_from(base);
    if let Some(kv_type) = args.kl_kv {
        base_args.machine.set_kv_type(kv_type);
    }
    let (mut base, _) = model::load(&base_args, Some(args.context))?;
    let found = watch.run(|monitor| kl_divergence(&mut engine, &mut base, &text, &options, monitor))?;
    if args.json {
        return out::json(&found);
    }
    show(&found.perplexity)?;
    out::line(format_args!("base       {:.4} ± {:.5}", found.base_ppl, found.base_error))?;
    let Divergence { kl, kl_error, kl_99, same_top, same_top_error, .. } = found.divergence;
    out::line(format_args!("KL         {kl:.6} ± {kl_error:.6}, 99 % below {kl_99:.6}"))?;
    out::line(format_args!("same top   {:.2} ± {:.2} %", 100.0 * same_top, 100.0 * same_top_error))
}

fn show(found: &Perplexity) -> Result<()> {
    let Perplexity { ppl, error, tokens, chunks, ctx, .. } = found;
    out::line(format_args!("perplexity {ppl:.4} ± {error:.5} ({tokens} tokens in {chunks} chunks of {ctx})"))
}
