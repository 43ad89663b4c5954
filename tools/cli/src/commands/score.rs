//! `quipu score`: how likely a text is, token by token.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use quipu_runtime::generate::prompt_tokens;
use quipu_runtime::sampler::{log_probability, top_log_probabilities};
use serde_json::{Value as Json, json};

use crate::args::{self, ContextArgs, ModelArgs};
use crate::{model, out};

/// Show how likely each token of a text is, given what precedes it
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu score demo \"Once upon a time\" --top 3
  quipu score llama.gguf -f story.txt --json
  quipu score llama.gguf --tokens 128000,9906,1917")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The text; without it, what is piped in
    text: Option<String>,
    /// Read the text from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Score these token ids instead of a text
    #[arg(long, value_name = "1,2,3", value_delimiter = ',', conflicts_with_all = ["text", "file"])]
    tokens: Option<Vec<u32>>,
    /// Show the K likeliest tokens at each place, too
    #[arg(long, value_name = "K", default_value_t = 0)]
    top: usize,
    /// Take special tokens that are written in the text, such as <|eot_id|>, as plain text
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    context: ContextArgs,
    /// One JSON object: tokens (id, text, logprob, top), next (the likeliest tokens after the text), total
    #[arg(long)]
    json: bool,
}

/// What the model thought at one place, before it saw the token there.
struct Place {
    logprob: Option<f64>,
    top: Vec<(u32, f64)>,
}

pub fn run(args: Args) -> Result<()> {
    let text = match &args.tokens {
        Some(_) => String::new(),
        None => args::text(args.text, args.file.as_deref(), "text")?,
    };
    let (mut engine, _) = model::load(&args.model, args.context.context)?;
    let tokenizer = engine.tokenizer().clone();
    let tokenizer = tokenizer.as_ref();
    let tokens = args.tokens.unwrap_or_else(|| prompt_tokens(tokenizer, &text, !args.plain));
    ensure!(!tokens.is_empty(), "there is nothing to score");

    // The logits after token i judge token i + 1; nothing judges the first.
    let mut places = vec![Place { logprob: None, top: Vec::new() }];
    let mut sequence = engine.new_sequence();
    engine
        .score(&mut sequence, &tokens, |i, logits| {
            let logprob = tokens.get(i + 1).map(|&next| log_probability(logits, next));
            places.push(Place { logprob, top: top_log_probabilities(logits, args.top) });
        })
        .context("cannot score the text")?;
    let next = places.pop().map(|place| place.top).unwrap_or_default();
    let total: f64 = places.iter().filter_map(|p| p.logprob).sum();

    if args.json {
        let list = |top: &[(u32, f64)]| -> Json {
            top.iter().map(|&(id, logprob)| model::token_json(tokenizer, id, Some(logprob))).collect()
        };
        let tokens: Vec<Json> = tokens
            .iter()
            .zip(&places)
            .map(|(&id, place)| {
                let mut json = model::token_json(tokenizer, id, place.logprob);
                json["top"] = list(&place.top);
                json
            })
            .collect();
        return out::json(&json!({"tokens": tokens, "next": list(&next), "total": total}));
    }
    let list = |top: &[(u32, f64)]| -> String {
        let entry = |&(id, logprob): &(u32, f64)| format!("  {:?} {logprob:.3}", model::token_text(tokenizer, id));
        top.iter().map(entry).collect()
    };
    for ((i, &id), place) in tokens.iter().enumerate().zip(&places) {
        let logprob = place.logprob.map_or("-".to_string(), |l| format!("{l:.4}"));
        let text = format!("{:?}", model::token_text(tokenizer, id));
        out::line(format_args!("{i:>5} {id:>7} {logprob:>10}  {text:20}{}", list(&place.top)).to_string().trim_end())?;
    }
    if args.top > 0 {
        out::line(format_args!(" next{}", list(&next)))?;
    }
    out::line(format_args!("total {total:.4}"))
}
