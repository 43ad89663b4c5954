//! `quipu embed`: texts as vectors.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use quipu_runtime::embedding::{EmbedOptions, Pooling};
use quipu_runtime::generate::prompt_tokens;

use crate::args::{self, ContextArgs, ModelArgs};
use crate::{model, out};

/// Turn texts into vectors
///
/// Prints one JSON array for each text: its hidden states after the final norm as one vector. Texts that mean alike
/// have vectors that point alike, as far as the model was trained for that. Without TEXT, each line of -f or of a pipe
/// is a text.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu embed llama.gguf \"a llama\" \"an alpaca\"
  quipu embed llama.gguf -f lines.txt --pooling last > vectors.jsonl")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The texts
    texts: Vec<String>,
    /// Read texts from a file, one in each line
    #[arg(short, long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// How the tokens' vectors become one
    #[arg(long, value_enum, default_value = "mean")]
    pooling: PoolingArg,
    /// Leave the vector at its length instead of bringing it to 1
    #[arg(long)]
    no_normalize: bool,
    /// Take special tokens that are written in a text as plain text
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    context: ContextArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum PoolingArg {
    /// The mean of all
    Mean,
    /// The last token's
    Last,
}

pub fn run(args: Args) -> Result<()> {
    let texts = if args.texts.is_empty() {
        args::text(None, args.file.as_deref(), "text")?.lines().map(str::to_string).collect()
    } else {
        args.texts
    };
    ensure!(!texts.is_empty(), "there is no text");
    let pooling = match args.pooling {
        PoolingArg::Mean => Pooling::Mean,
        PoolingArg::Last => Pooling::Last,
    };
    let options = EmbedOptions::default().pooling(pooling).normalize(!args.no_normalize);
    let (mut engine, _) = model::load(&args.model, args.context.context)?;
    for (i, text) in texts.iter().enumerate() {
        let tokens = prompt_tokens(engine.tokenizer(), text, !args.plain);
        let vector = engine.embed(&tokens, &options).with_context(|| format!("text {}", i + 1))?;
        out::json(&vector)?;
    }
    Ok(())
}
