//! `quipu infill`: what stands between two texts.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};
use quipu_runtime::generate::{InfillNames, InfillOrder, InfillTokens, Request, SchedulerOptions, StopReason};
use serde_json::json;

use super::run::{Written, describe, speeds, timings, write};
use crate::args::{self, ContextArgs, Limit, ModelArgs, token_limit};
use crate::draft::DraftArgs;
use crate::sampling::SamplingArgs;
use crate::usage::Usage;
use crate::{interrupt, model, out, talk};

/// Write what stands between two texts, with a model that was trained for it
///
/// Code Llama (7B and 13B), Qwen2.5-Coder, StarCoder, CodeGemma, DeepSeek-Coder and others have tokens for it. Prints
/// nothing but what it writes, to the byte: the prefix, this and the suffix make the whole text.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu infill codellama-7b.gguf --prefix head.py --suffix tail.py
  tail -n +20 main.rs | quipu infill codellama-7b.gguf --prefix <(head -n 18 main.rs) --temp 0
  quipu infill codellama-7b.gguf --prefix head.py --suffix tail.py --spm
  quipu infill coder.gguf --prefix a.go --suffix b.go --fim '<PRE>,<SUF>,<MID>'")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The file with what comes before
    #[arg(short, long, value_name = "FILE")]
    prefix: PathBuf,
    /// The file with what comes after; without it, what is piped in
    #[arg(short, long, value_name = "FILE")]
    suffix: Option<PathBuf>,
    /// Tell the suffix before the prefix
    #[arg(long)]
    spm: bool,
    /// The tokens for prefix, suffix and middle, where neither the file names them nor the vocabulary has them under a
    /// name that is known
    #[arg(long, value_name = "PRE,SUF,MID")]
    fim: Option<InfillNames>,
    /// Tokens to write at most; -1: until the text or the context ends
    #[arg(short, long, value_name = "N", default_value = "256", allow_hyphen_values = true, value_parser = token_limit)]
    number: Limit,
    #[command(flatten)]
    context: ContextArgs,
    /// One JSON object at the end instead of text: text, tokens, prompt_tokens (ids), stop, seed, timings
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub fn run(args: Args) -> Result<()> {
    if args.suffix.is_none() && std::io::stdin().is_terminal() {
        return Err(Usage::new("there is no suffix: give it with --suffix FILE, or through a pipe").into());
    }
    let before = args::text(None, Some(&args.prefix), "prefix")?;
    let after = args::text(None, args.suffix.as_deref(), "suffix")?;
    let options = args.sampling.options().max_tokens(args.number).logprobs(args.json);
    let seed = options.sampler.seed;
    let (engine, load_time) = model::load(&args.model, args.context.context)?;
    let tokenizer = engine.tokenizer().clone();
    let marks = match &args.fim {
        Some(names) => InfillTokens::named(&tokenizer, names).context("--fim")?,
        None => InfillTokens::of(&tokenizer).with_context(|| {
            let model = args.model.model.display();
            format!("{model}: this model has no tokens for infilling that are known; --fim names others")
        })?,
    };
    let order = if args.spm { InfillOrder::SuffixFirst } else { InfillOrder::PrefixFirst };
    let prompt = marks.prompt(&tokenizer, &before, &after, order);
    let mut scheduler = args.draft.scheduler(engine, SchedulerOptions::default(), &args.model.machine)?;

    let interrupt = interrupt::listen();
    let request = Request::new(prompt.clone(), options).cancel(interrupt.cancel().clone());
    let show = |text: &str| if args.json { Ok(()) } else { out::print(text) };
    let Written { text, tokens: written, end, shown } = write(&mut scheduler, request, &tokenizer, &interrupt, &show)?;
    shown?;
    if std::io::stdout().is_terminal() {
        show("\n")?;
    }
    if args.json {
        out::json(&json!({
            "text": text,
            "tokens": written,
            "prompt_tokens": prompt,
            "stop": end.stop.name(),
            "seed": seed,
            "timings": timings(load_time, &end),
        }))?;
    }
    talk::note(&format!("load {:.2} s, {}", load_time.as_secs_f64(), speeds(scheduler.engine(), &end)));
    talk::note(&format!("seed {seed}; ended by {}", describe(end.stop)));
    if end.stop == StopReason::Cancelled { Err(interrupt::Interrupted.into()) } else { Ok(()) }
}
