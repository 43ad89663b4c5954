//! `quipu tokenize`: a text's tokens.

use std::path::PathBuf;

use anyhow::Result;
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::json;

use crate::{args, model, out};

/// Show the tokens of a text
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu tokenize demo \"Once upon a time\"
  quipu tokenize llama.gguf -f story.txt --json")]
pub struct Args {
    /// A GGUF file (a vocabulary alone will do), a packed file, a Hugging Face directory, or `demo`
    model: PathBuf,
    /// The text; without it, what is piped in
    text: Option<String>,
    /// Read the text from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// One JSON object: count, ids, pieces
    #[arg(long)]
    json: bool,
    /// Do not add the tokens that the model wants around a text, such as BOS
    #[arg(long)]
    no_special: bool,
    /// Take special tokens that are written in the text, such as <|eot_id|>, as plain text
    #[arg(long)]
    plain: bool,
}

pub fn run(args: Args) -> Result<()> {
    let text = args::text(args.text, args.file.as_deref(), "text")?;
    let source = model::open_path(&args.model)?;
    let tokenizer = Tokenizer::from_metadata(source.metadata())?;
    model::warn_oddities(&args.model, source.oddities());
    model::warn_oddities(&args.model, tokenizer.oddities());
    let ids = tokenizer.encode(&text, !args.no_special, !args.plain);
    let pieces: Vec<String> = ids.iter().map(|&id| model::token_text(&tokenizer, id)).collect();
    if args.json {
        return out::json(&json!({"count": ids.len(), "ids": ids, "pieces": pieces}));
    }
    for (id, piece) in ids.iter().zip(&pieces) {
        out::line(format_args!("{id:>7}  {piece:?}"))?;
    }
    Ok(())
}
