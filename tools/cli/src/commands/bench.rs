//! `quipu bench`: how fast a model runs, beside what the machine could do.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use quipu_formats::source::recoded_types;
use quipu_measure::{
    Bench, BenchOptions, BenchResult, BenchRun, Guesses, GuessesResult, Rate, SequencesResult, Test, bench,
};
use quipu_runtime::LoadOptions;
use quipu_runtime::host::cpu;

use crate::adapters::LoraArgs;
use crate::args::{self, IsaArgs, ResidenceArgs, TuningArgs};
use crate::kv::KvArgs;
use crate::watch::{Watch, count, label, label_together};
use crate::{model, out, talk};

/// Measure how fast a model runs, and how close that is to what the machine can do
///
/// Prefill reads a prompt of -p random tokens at once, decode reads -n tokens one by one, both after a context of -d
/// tokens. With --sequences, so many texts are decoded together, one token of each in a step; several adapters (--lora)
/// are those of one text after the other. Figures are medians of -r runs, for which the tests take turns. Decode is
/// compared with the bandwidth at which the same threads read memory (each step reads all weights and every text's
/// context), prefill with the most that they can multiply; both are measured again and again between the tests, and the
/// highest figure counts.
///
/// With --draft, texts are also written by the scheduler, greedily, with guesses of their next tokens and without in
/// turns. Guesses of random weights are wrong, so --acceptance says how many are to be right.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu bench llama-q4_0.gguf
  quipu bench llama-q4_0.gguf -t 1,2,4 -d 0,4096 --json
  quipu bench llama-q4_0.gguf -p 128,512,2048 -n 0
  quipu bench llama-q4_0.gguf -p 0 -d 16384 --kv q8
  quipu bench llama-q4_0.gguf -p 0 -n 32 --sequences 1,2,4,8,16,32
  quipu bench llama-3b.gguf -p 0 --draft llama-1b.gguf --acceptance 0.7
  quipu bench llama-q4_0.gguf -p 0 --sequences 8 --lora one.gguf --lora two.gguf
  quipu bench llama-q4_0.gguf --isa avx2 -p 0 -n 32")]
pub struct Args {
    /// A GGUF file, a packed file, a Hugging Face directory, or `demo`
    model: PathBuf,
    /// Tokens of the prompt, or of several prompts that are measured one after the other; 0: no prefill
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,
    /// Tokens to decode; 0: no decode
    #[arg(short, long, value_name = "N", default_value_t = 128)]
    number: usize,
    /// Sequences that are decoded together, -n tokens of each; several numbers are measured in turns
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    sequences: Vec<usize>,
    /// Tokens of context before each test
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Threads [default: one for each fast core; `quipu doctor` tells which]
    #[arg(short, long, value_name = "N,…", value_delimiter = ',')]
    threads: Vec<usize>,
    /// Runs of each test
    #[arg(short, long, value_name = "N", default_value_t = 3)]
    repetitions: usize,
    /// Prompt tokens that go through the model at once
    #[arg(short, long, value_name = "N", default_value_t = LoadOptions::default().batch)]
    batch: usize,
    /// What guesses are worth: those of a model (named as MODEL), or of the `text` itself
    #[arg(long, value_name = "text|MODEL")]
    draft: Option<PathBuf>,
    /// Simulate that a guess of the draft model is right with this probability
    #[arg(long, value_name = "P", requires = "draft", value_parser = probability)]
    acceptance: Option<f64>,
    #[command(flatten)]
    residence: ResidenceArgs,
    #[command(flatten)]
    isa: IsaArgs,
    #[command(flatten)]
    tuning: TuningArgs,
    #[command(flatten)]
    kv: KvArgs,
    #[command(flatten)]
    lora: LoraArgs,
    /// One JSON object: the model, the machine, and a list of runs, each with what its threads do at best (roof), its
    /// results, and those of sequences decoded together (sequences) and of guesses (guesses)
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    ensure!(args.repetitions > 0, "-r 0: there is nothing to measure");
    let prompts = args.prompt.iter().any(|&tokens| tokens > 0);
    ensure!(prompts || args.number > 0, "-p 0 -n 0: there is nothing to measure");
    ensure!(!args.sequences.contains(&0), "--sequences 0: there is nothing to measure");
    ensure!(args.sequences.is_empty() || args.number > 0, "-n 0: --sequences decodes -n tokens of each");
    args.threads.iter().try_for_each(|&n| args::check_threads(n))?;
    let mut options = BenchOptions::default();
    (options.prompts, options.decode) = (args.prompt, args.number);
    (options.depths, options.threads, options.repetitions) = (args.depth, args.threads, args.repetitions);
    options.sequences = args.sequences;
    options.guesses = guesses(args.draft.as_deref(), args.acceptance)?;
    ensure!(options.guesses.is_none() || args.number > 0, "-n 0: --draft writes -n tokens");
    options.load.isa = args.isa.asked_for()?.map(|(isa, _)| isa);
    options.load.tuning = args.tuning.get(options.load.isa)?;
    options.load.batch = args.batch;
    options.load.kv_type = args.kv.get()?;
    options.load.residence = args.residence.get();
    options.lora = args.lora.files();

    let name = model::name(&args.model)?;
    let source = model::open_path(&args.model)?;
    model::warn_recoded(&recoded_types(&*source));
    model::warn_oddities(&args.model, source.oddities());
    drop(source);
    let found = Watch::new().run(|monitor| bench(name, &options, monitor));
    talk::clear_progress();
    if args.json { out::json(&found?) } else { show(&found?) }
}

/// A number from 0 to 1.
fn probability(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|p| (0.0..=1.0).contains(p));
    number.ok_or_else(|| "expected a number from 0 to 1".into())
}

/// What is to guess.
fn guesses(draft: Option<&Path>, acceptance: Option<f64>) -> Result<Option<Guesses>> {
    let Some(draft) = draft.filter(|draft| *draft != Path::new("none")) else { return Ok(None) };
    let model = if draft == Path::new("text") { None } else { Some(model::name(draft)?.to_string()) };
    ensure!(model.is_some() || acceptance.is_none(), "--acceptance is for the guesses of a model: --draft MODEL");
    Ok(Some(Guesses { model, acceptance }))
}

fn show(bench: &Bench) -> Result<()> {
    out::line(format_args!(
        "{}: {}, {:.1} MB of weights; {}, {}\n",
        bench.model,
        bench.ty,
        bench.weight_bytes as f64 / 1e6,
        bench.cpu,
        bench.isa.name()
    ))?;
    let rows: Vec<_> = bench.runs.iter().flat_map(|run| rows(run, bench.ty.is_float())).collect();
    // A test with large numbers in its name is longer than most.
    let width = rows.iter().map(|row| row.test.len()).max().unwrap_or(0).max(20);
    out::line(format_args!(
        "{:>7}  {:width$}  {:>9}  {:>9}  {:13}  of what the machine can do",
        "threads", "test", "tokens/s", "ms a step", ""
    ))?;
    for Row { threads, test, tokens_per_s, step, rate, percent, limit } in rows {
        let step = step.map_or(String::new(), |ms| format!("{ms:.2}"));
        out::line(format_args!(
            "{threads:>7}  {test:width$}  {tokens_per_s:>9.2}  {step:>9}  {rate:13}  {percent:>3.0} % of {limit}"
        ))?;
    }
    out::line("")?;
    for run in &bench.runs {
        run.guesses.iter().try_for_each(|found| out::line(format_args!("{:>7}  {}", run.threads, worth(found))))?;
        let memory = run.peak_rss_bytes.map_or(String::new(), |bytes| {
            let (all, context) = (bytes as f64 / 1e6, run.kv_bytes as f64 / 1e6);
            format!(", at most {all:.0} MB of memory, {context:.0} of them the longest context")
        });
        out::line(format_args!(
            "{}: loaded in {:.2} s, first token after {:.2} s{memory}",
            count(run.threads, "thread"),
            run.load_ms / 1e3,
            run.first_token_ms / 1e3
        ))?;
        let reads = &run.limits.read_samples;
        let least = reads.iter().copied().fold(f64::INFINITY, f64::min) / 1e9;
        let most = reads.iter().copied().fold(0.0, f64::max) / 1e9;
        out::line(format_args!(
            "{:>7}  memory was read at {least:.1} to {most:.1} GB/s, looked at {} times between the tests",
            "",
            reads.len()
        ))?;
    }
    let cache = cpu::last_level_cache().unwrap_or(0);
    if bench.weight_bytes_per_token < 2 * cache {
        let cache = cache >> 20;
        out::line(format_args!(
            "The caches ({cache} MB) hold a good part of the weights, so memory is not what limits decode."
        ))?;
    }
    Ok(())
}

/// What guesses were worth, in a line.
fn worth(found: &GuessesResult) -> String {
    let GuessesResult { sequences, tokens, depth, plain_tokens_per_s, tokens_per_s, speedup, .. } = found;
    let test = match sequences {
        1 => label(Test::Decode, *tokens, *depth),
        _ => label_together(*sequences, *tokens, *depth),
    };
    let simulated = found.acceptance.map_or(String::new(), |p| format!(" (simulated: {:.0} % right)", 100.0 * p));
    let source = found.draft.as_deref().unwrap_or("the text");
    format!(
        "{test} with guesses by {source}{simulated}: {tokens_per_s:.2} tokens/s, without {plain_tokens_per_s:.2}, \
         {speedup:.2} times; {} of {} guesses right",
        found.accepted, found.guessed
    )
}

/// A line of the table.
struct Row {
    threads: usize,
    test: String,
    tokens_per_s: f64,
    /// Milliseconds.
    step: Option<f64>,
    rate: String,
    percent: f64,
    limit: String,
}

fn rows(run: &BenchRun, float: bool) -> Vec<Row> {
    let peak = |macs_per_s: f64| {
        let number = if float { "f32" } else { "int8" };
        (format!("{:>6.1} GMAC/s", macs_per_s / 1e9), format!("{:.1} ({number} peak)", run.limits.macs_per_s / 1e9))
    };
    let memory = |bytes_per_s: f64| {
        let limit = run.limits.read_bytes_per_s / 1e9;
        (format!("{:>6.1} GB/s", bytes_per_s / 1e9), format!("{limit:.1} (memory bandwidth)"))
    };
    let row = |test, tokens_per_s, step, percent, (rate, limit)| {
        let threads = run.threads;
        Row { threads, test, tokens_per_s, step, rate, percent, limit }
    };
    let alone = |r: &BenchResult| {
        let (step, percent, rate) = match r.rate {
            Rate::Prefill { macs_per_s, percent_of_peak } => (None, percent_of_peak, peak(macs_per_s)),
            Rate::Decode { bytes_per_s, percent_of_bandwidth } => {
                (Some(1e3 / r.tokens_per_s), percent_of_bandwidth, memory(bytes_per_s))
            }
        };
        row(label(r.test, r.tokens, r.depth), r.tokens_per_s, step, percent, rate)
    };
    let together = |r: &SequencesResult| {
        let bound_by_memory = r.percent_of_bandwidth >= r.percent_of_peak;
        let (percent, rate) = match bound_by_memory {
            true => (r.percent_of_bandwidth, memory(r.bytes_per_s)),
            false => (r.percent_of_peak, peak(r.macs_per_s)),
        };
        row(label_together(r.sequences, r.tokens, r.depth), r.tokens_per_s, Some(r.ms_per_step), percent, rate)
    };
    run.results.iter().map(alone).chain(run.sequences.iter().map(together)).collect()
}
