//! `quipu run`: a text goes on.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use quipu_formats::output::Inputs;
use quipu_runtime::Engine;
use quipu_runtime::generate::{
    Drafted, Event, Finished, Request, Scheduler, SchedulerOptions, StopReason, Timing, prompt_tokens,
};
use quipu_runtime::host::memory;
use quipu_runtime::sampler::SamplerState;
use quipu_runtime::session::Session;
use quipu_runtime::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::adapters::LoraArgs;
use crate::args::{self, ContextArgs, Limit, ModelArgs, token_limit};
use crate::draft::DraftArgs;
use crate::interrupt::Listening;
use crate::sampling::SamplingArgs;
use crate::session::SessionArgs;
use crate::shape::{self, ShapeArgs};
use crate::{interrupt, model, out, talk};

/// Continue a text
///
/// Prints the prompt and, as it comes, what the model writes after it. Without PROMPT it is read from -f or from a
/// pipe. Ctrl-C ends the text and keeps what there is (exit code 130). With --session the next run goes on with the
/// text: PROMPT, which may be missing then, stands after it, and without a --seed the random numbers go on as well.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu run demo \"Once upon a time\"
  quipu run llama.gguf \"The capital of Peru is\" -n 20 --temp 0
  quipu run llama.gguf -f letter.txt --json --seed 7
  git log -5 | quipu run llama.gguf --no-echo
  quipu run llama.gguf --lora adapter/ --lora style.gguf:0.5 \"Dear Mr. President,\"
  quipu run llama-3b.gguf --draft llama-1b.gguf \"Dear Mr. President,\"
  quipu run llama.gguf -f mail.txt --no-echo --schema order.json
  quipu run llama.gguf \"Once upon a time\" -n 100 --session tale; quipu run llama.gguf --session tale
  quipu run llama.gguf \"The capital of Peru is\" --regex \" [A-Z][a-z]+\\.\"")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    lora: LoraArgs,
    /// The text to continue; special tokens such as <|eot_id|> may be written in it
    prompt: Option<String>,
    /// Read the prompt from a file; a line end at its end does not count
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens to write at most; -1: until the text or the context ends
    #[arg(short, long, value_name = "N", default_value = "256", allow_hyphen_values = true, value_parser = token_limit)]
    number: Limit,
    #[command(flatten)]
    context: ContextArgs,
    /// Do not print the prompt
    #[arg(long)]
    no_echo: bool,
    /// Take special tokens that are written in the prompt as plain text
    #[arg(long)]
    plain: bool,
    /// One JSON object at the end instead of text: prompt, text, tokens, stop, seed, timings, peak_rss_bytes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    draft: DraftArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    shape: ShapeArgs,
}

pub fn run(args: Args) -> Result<()> {
    let shape = args.shape.read()?;
    let has_prompt = args.prompt.is_some() || args.file.is_some() || !args.session.exists();
    let mut inputs = Inputs::new();
    if has_prompt && args.prompt.is_none() {
        inputs.extend(&args::text_inputs(args.file.as_deref()));
    }
    let prompt = if has_prompt { args::prompt(args.prompt, args.file.as_deref())? } else { String::new() };
    let mut options = args.sampling.options().max_tokens(args.number).logprobs(args.json);
    let (mut engine, load_time) = model::load(&args.model, args.context.context)?;
    let adapters = args.lora.load(&mut engine)?;
    let tokenizer = engine.tokenizer().clone();
    options.grammar = shape::grammar(shape.as_ref(), &tokenizer)?;
    inputs.extend(&Inputs::of(engine.source().files()));
    inputs.extend(&Inputs::of(args.lora.inputs()));
    let (tokens, sequence) = match args.session.open(&engine, &adapters, &inputs)? {
        None => (prompt_tokens(&tokenizer, &prompt, !args.plain), None),
        Some(Session { mut tokens, sequence, state }) => {
            tokens.extend(tokenizer.encode(&prompt, false, !args.plain));
            if let (None, Ok(Kept { seed, sampler })) = (args.sampling.seed(), serde_json::from_value(state)) {
                options.sampler.seed = seed;
                options.resume = Some(sampler);
            }
            (tokens, Some(sequence))
        }
    };
    let seed = options.sampler.seed;
    let show = |text: &str| if args.json { Ok(()) } else { out::print(text) };
    // What can't guess is refused before anything is said.
    let mut scheduler = args.draft.scheduler(engine, SchedulerOptions::default(), &args.model.machine)?;
    if !args.no_echo {
        show(&prompt)?;
    }

    let interrupt = interrupt::listen();
    let request = Request::new(tokens, options).cancel(interrupt.cancel().clone());
    let request = request.adapters(adapters).sequence(sequence);
    let Written { text, tokens: written, end, shown } = write(&mut scheduler, request, &tokenizer, &interrupt, &show)?;
    let shown = shown.and_then(|()| show("\n"));
    args.session.save(scheduler.engine(), &inputs, || Session {
        tokens: end.tokens.clone(),
        sequence: end.sequence.clone(),
        state: json!(Kept { seed, sampler: end.sampler.clone() }),
    })?;
    shown?;

    if args.json {
        out::json(&json!({
            "prompt": prompt,
            "text": text,
            "tokens": written,
            "stop": end.stop.name(),
            "seed": seed,
            "timings": timings(load_time, &end),
            "peak_rss_bytes": memory::peak(),
        }))?;
    }
    shape::warn_unfinished(shape.as_ref(), &end);
    talk::note(&format!("load {:.2} s, {}", load_time.as_secs_f64(), speeds(scheduler.engine(), &end)));
    talk::note(&format!("seed {seed}; ended by {}", describe(end.stop)));
    if end.stop == StopReason::Cancelled { Err(interrupt::Interrupted.into()) } else { Ok(()) }
}

/// A text, and how it ended.
pub struct Written {
    pub text: String,
    /// Its tokens in JSON.
    pub tokens: Vec<Json>,
    pub end: Finished,
    /// Why it could not be shown, if it could not.
    pub shown: Result<()>,
}

/// Writes the text that `request` asks for, and shows each piece as it comes.
///
/// # Errors
/// When it cannot be written.
pub fn write(
    scheduler: &mut Scheduler,
    request: Request,
    tokenizer: &Tokenizer,
    interrupt: &Listening,
    show: &dyn Fn(&str) -> Result<()>,
) -> Result<Written> {
    let (mut text, mut tokens, mut shown) = (String::new(), Vec::new(), Ok(()));
    let end = scheduler.stream(request, |event| {
        if let Event::Token(token) = event
            && shown.is_ok()
        {
            shown = show(&token.text);
            text.push_str(&token.text);
            tokens.push(model::token_json(tokenizer, token.id, token.logprob));
            if shown.is_err() {
                // Nobody reads the rest.
                interrupt.cancel().cancel();
            }
        }
    })?;
    text.push_str(&end.text);
    let shown = shown.and_then(|()| show(&end.text));
    Ok(Written { text, tokens, end, shown })
}

/// What a session has besides its text.
#[derive(Serialize, Deserialize)]
struct Kept {
    seed: u64,
    sampler: SamplerState,
}

/// What ended a text, for a person.
pub fn describe(stop: StopReason) -> &'static str {
    match stop {
        StopReason::End => "a token that ends texts",
        StopReason::StopString => "a stop string",
        StopReason::Limit => "-n (tokens to write)",
        StopReason::ContextFull => "-c (the context is full)",
        StopReason::Cancelled => "a signal (Ctrl-C)",
        other => other.name(),
    }
}

/// What took how long.
pub fn timings(load: Duration, end: &Finished) -> Json {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let timing = |timing: Timing| json!({"tokens": timing.tokens, "ms": ms(timing.time)});
    json!({
        "load_ms": ms(load),
        "cached": {"tokens": end.cached_tokens},
        "prefill": timing(end.prefill),
        "decode": timing(end.decode),
        "drafted": {"tokens": end.drafted.tokens, "accepted": end.drafted.accepted},
    })
}

/// A line about speed, for a person.
pub fn speeds(engine: &Engine, end: &Finished) -> String {
    let rate = |name: &str, timing: Timing| {
        let seconds = timing.time.as_secs_f64();
        let per_second = timing.tokens as f64 / seconds.max(1e-9);
        format!("{name} {} tokens in {seconds:.2} s ({per_second:.1}/s)", timing.tokens)
    };
    let (prefill, decode) = (rate("prefill", end.prefill), rate("decode", end.decode));
    let guesses = match end.drafted {
        Drafted { tokens: 0, .. } => String::new(),
        Drafted { tokens, accepted } => format!(", {accepted} of {tokens} guesses right"),
    };
    format!("{prefill}, {decode}{guesses}; {} threads, {}", engine.threads(), engine.isa().name())
}
