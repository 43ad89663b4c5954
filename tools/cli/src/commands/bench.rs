//! `quipu bench`: how fast a model runs, beside what the machine could do.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use quipu_formats::source::recoded_types;
use quipu_measure::{Bench, BenchOptions, Rate, bench};
use quipu_runtime::LoadOptions;
use quipu_runtime::host::cpu;

use crate::args::{self, IsaArgs, ResidenceArgs};
use crate::watch::{self, Watch, count, label};
use crate::{model, out};

/// Measure how fast a model runs, and how close that is to what the machine can do
///
/// Prefill reads a prompt of -p random tokens at once, decode reads -n tokens one by one, both after a context of -d
/// tokens. Figures are medians of -r runs. Decode is compared with the bandwidth at which the same threads read memory
/// (it reads all weights and the context for every token), prefill with the most that they can multiply; both are
/// measured in the same run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  quipu bench llama-q4_0.gguf
  quipu bench llama-q4_0.gguf -t 1,2,4 -d 0,4096 --json
  quipu bench llama-q4_0.gguf -p 128,512,2048 -n 0
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
    #[command(flatten)]
    residence: ResidenceArgs,
    #[command(flatten)]
    isa: IsaArgs,
    /// One JSON object: the model, the machine, and a list of runs, each with what its threads do at best (roof) and
    /// its results
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    ensure!(args.repetitions > 0, "-r 0: there is nothing to measure");
    let tokens = args.prompt.iter().sum::<usize>() + args.number;
    ensure!(tokens > 0, "-p 0 -n 0: there is nothing to measure");
    args.threads.iter().try_for_each(|&n| args::check_threads(n))?;
    let mut options = BenchOptions::default();
    (options.prompts, options.decode) = (args.prompt, args.number);
    (options.depths, options.threads, options.repetitions) = (args.depth, args.threads, args.repetitions);
    options.load.isa = args.isa.asked_for()?.map(|(isa, _)| isa);
    options.load.batch = args.batch;
    options.load.residence = args.residence.get();

    let name = model::name(&args.model)?;
    model::warn_recoded(&recoded_types(&*model::open_path(&args.model)?));
    let found = Watch::new().run(|monitor| bench(name, &options, monitor));
    watch::clear();
    if args.json { out::json(&found?) } else { show(&found?) }
}

fn show(bench: &Bench) -> Result<()> {
    let number = if bench.ty.is_float() { "f32" } else { "int8" };
    out::line(format_args!(
        "{}: {}, {:.1} MB of weights; {}, {}\n",
        bench.model,
        bench.ty,
        bench.weight_bytes as f64 / 1e6,
        bench.cpu,
        bench.isa.name()
    ))?;
    out::line(format_args!(
        "{:>7}  {:24} {:>9}  {:>12}  of what the machine can do",
        "threads", "test", "tokens/s", ""
    ))?;
    for run in &bench.runs {
        for result in &run.results {
            let (rate, unit, percent, limit, of) = match result.rate {
                Rate::Prefill { macs_per_s, percent_of_peak } => {
                    (macs_per_s, "GMAC/s", percent_of_peak, run.limits.macs_per_s, format!("{number} peak"))
                }
                Rate::Decode { bytes_per_s, percent_of_bandwidth } => {
                    let limit = run.limits.read_bytes_per_s;
                    (bytes_per_s, "GB/s", percent_of_bandwidth, limit, "memory bandwidth".to_string())
                }
            };
            out::line(format_args!(
                "{:>7}  {:24} {:>9.2}  {:>6.1} {unit:6} {percent:>3.0} % of {:.1} ({of})",
                run.threads,
                label(result.test, result.tokens, result.depth),
                result.tokens_per_s,
                rate / 1e9,
                limit / 1e9,
            ))?;
        }
    }
    out::line("")?;
    for run in &bench.runs {
        let memory = run.peak_rss_bytes.map_or(String::new(), |bytes| {
            let (all, context) = (bytes as f64 / 1e6, run.kv_bytes as f64 / 1e6);
            format!(", at most {all:.0} MB of memory, {context:.0} of them context")
        });
        out::line(format_args!(
            "{}: loaded in {:.2} s, first token after {:.2} s{memory}",
            count(run.threads, "thread"),
            run.load_ms / 1e3,
            run.first_token_ms / 1e3
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
