//! `quipu bench`: how fast a model runs, beside what the machine could do.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use quipu_measure::cost::Cost;
use quipu_measure::roofline::Roofline;
use quipu_runtime::host::cores::Cores;
use quipu_runtime::host::{cpu, memory};
use quipu_runtime::{Engine, Isa, LoadOptions, Sequence};
use serde_json::{Value as Json, json};

use crate::args::{IsaArgs, ResidenceArgs};
use crate::commands::doctor::cpu_name;
use crate::{model, out, talk};

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
  quipu bench llama-q4_0.gguf --isa avx2 -p 0 -n 32")]
pub struct Args {
    /// A GGUF file, a packed file, a Hugging Face directory, or `demo`
    model: PathBuf,
    /// Tokens of the prompt; 0: no prefill
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    prompt: usize,
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
    /// One JSON object: the model, the machine, and a list of runs, each with its roof and results
    #[arg(long)]
    json: bool,
}

/// Tokens of the prompt for the time to the first token.
const FIRST_PROMPT: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prefill,
    Decode,
}

/// One test at one depth.
struct Test {
    kind: Kind,
    tokens: usize,
    depth: usize,
    /// Tokens per second, one for each repetition.
    samples: Vec<f64>,
}

impl Test {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
        }
    }

    /// Tokens per second.
    fn speed(&self) -> f64 {
        median(&self.samples)
    }

    /// How much of its limit the test used per second: multiplications or bytes.
    fn rate(&self, cost: &Cost) -> f64 {
        let (tokens, depth) = (self.tokens as u64, self.depth as u64);
        let all = match self.kind {
            Kind::Prefill => cost.prefill_macs(tokens),
            Kind::Decode => cost.decode_bytes(depth, tokens),
        };
        all as f64 / self.tokens as f64 * self.speed()
    }
}

/// Everything measured with one number of threads.
struct Run {
    threads: usize,
    /// Bytes per second.
    bandwidth: f64,
    /// Multiplications per second.
    peak: f64,
    load_seconds: f64,
    first_token_seconds: f64,
    tests: Vec<Test>,
    peak_rss_bytes: Option<u64>,
    /// Of the longest sequence.
    kv_bytes: usize,
}

impl Run {
    fn roof(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Prefill => self.peak,
            Kind::Decode => self.bandwidth,
        }
    }
}

pub fn run(args: Args) -> Result<()> {
    ensure!(args.repetitions > 0, "-r 0: there is nothing to measure");
    ensure!(args.prompt + args.number > 0, "-p 0 -n 0: there is nothing to measure");
    let cores = Cores::here();
    let allowed = cores.allowed_threads();
    let threads = if args.threads.is_empty() { vec![cores.default_threads()] } else { args.threads.clone() };
    for &n in &threads {
        ensure!((1..=allowed).contains(&n), "-t {n}: this process can use 1 to {allowed} threads");
    }
    let isa = args.isa.asked_for()?.map_or_else(Isa::best, |(isa, _)| isa);

    let source = model::open_path(&args.model)?;
    let config = quipu_runtime::config::Config::from_metadata(source.metadata())
        .with_context(|| args.model.display().to_string())?;
    let cost = Cost::new(&*source, &config, LoadOptions::default().kv_type);
    model::warn_recoded(&*source);
    drop(source);
    let runs = threads.iter().map(|&n| measure(&args, n, isa, &cost)).collect::<Result<Vec<_>>>()?;
    talk::note_part("\r\x1b[K");
    if args.json { out::json(&report(&args, isa, &cost, &runs)) } else { table(&args, isa, &cost, &runs) }
}

/// What is happening, on a line that the next call replaces.
fn doing(threads: usize, what: &str) {
    talk::note_part(&format!("\r\x1b[K{}: {what}", count(threads, "thread")));
}

fn measure(args: &Args, threads: usize, isa: Isa, cost: &Cost) -> Result<Run> {
    doing(threads, "the machine's own limits");
    let mut roofline = Roofline::new(isa, threads)?;
    let (bandwidth, peak) = (roofline.read_bandwidth(true)?, roofline.multiply_peak(cost.ty));
    drop(roofline);

    doing(threads, "loading");
    let resettable = memory::reset_peak();
    let longest = args.prompt.max(args.number).max(FIRST_PROMPT);
    let context = args.depth.iter().copied().max().unwrap_or(0) + longest;
    let options = LoadOptions {
        threads: Some(threads),
        isa: Some(isa),
        context: Some(context),
        batch: args.batch,
        residence: args.residence.get(),
        ..LoadOptions::default()
    };
    let start = Instant::now();
    let mut engine = Engine::load(model::open_path(&args.model)?, &options, &|_, _| {})?;
    let load_seconds = start.elapsed().as_secs_f64();
    let tokens = random_tokens(context, engine.vocabulary());
    engine.prefill(&mut engine.new_sequence(), &tokens[..FIRST_PROMPT])?;
    let first_token_seconds = start.elapsed().as_secs_f64();

    // The first pass over a large batch finds its memory not yet there.
    let warm_up = args.batch.min(args.prompt).max(1);
    engine.prefill(&mut engine.new_sequence(), &tokens[..warm_up])?;
    let (mut tests, mut kv_bytes) = (Vec::new(), 0);
    for &depth in &args.depth {
        let mut context = engine.new_sequence();
        if depth > 0 {
            doing(threads, &format!("{depth} tokens of context"));
            engine.prefill(&mut context, &tokens[..depth])?;
        }
        for (kind, count) in [(Kind::Prefill, args.prompt), (Kind::Decode, args.number)] {
            if count == 0 {
                continue;
            }
            let mut test = Test { kind, tokens: count, depth, samples: Vec::new() };
            for repetition in 1..=args.repetitions {
                doing(threads, &format!("{} {count}, run {repetition} of {}", label(&test), args.repetitions));
                let mut sequence = context.clone();
                let seconds = time(&mut engine, &mut sequence, kind, &tokens[depth..depth + count])?;
                test.samples.push(count as f64 / seconds);
                kv_bytes = kv_bytes.max(sequence.bytes());
            }
            tests.push(test);
        }
    }
    let peak_rss_bytes = memory::peak().filter(|_| resettable);
    Ok(Run { threads, bandwidth, peak, load_seconds, first_token_seconds, tests, peak_rss_bytes, kv_bytes })
}

/// Medians of `repetitions` runs, in tokens per second: a prompt of `prompt` tokens, and `number` tokens one by one.
pub(super) fn speeds(engine: &mut Engine, prompt: usize, number: usize, repetitions: usize) -> Result<[f64; 2]> {
    let tokens = random_tokens(prompt.max(number), engine.vocabulary());
    engine.prefill(&mut engine.new_sequence(), &tokens[..prompt])?;
    let mut speed = |kind, count: usize| -> Result<f64> {
        let run = |_| Ok(count as f64 / time(engine, &mut engine.new_sequence(), kind, &tokens[..count])?);
        Ok(median(&(0..repetitions).map(run).collect::<Result<Vec<_>>>()?))
    };
    Ok([speed(Kind::Prefill, prompt)?, speed(Kind::Decode, number)?])
}

/// Seconds that `tokens` take.
fn time(engine: &mut Engine, sequence: &mut Sequence, kind: Kind, tokens: &[u32]) -> Result<f64> {
    let start = Instant::now();
    match kind {
        Kind::Prefill => {
            engine.prefill(sequence, tokens)?;
        }
        Kind::Decode => {
            for &token in tokens {
                engine.decode(sequence, token)?;
            }
        }
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Tokens without meaning, always the same: how fast a model reads does not depend on what.
fn random_tokens(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocabulary as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn label(test: &Test) -> String {
    let depth = if test.depth > 0 { format!(" after {}", test.depth) } else { String::new() };
    format!("{} {}{depth}", test.name(), test.tokens)
}

fn report(args: &Args, isa: Isa, cost: &Cost, runs: &[Run]) -> Json {
    let test = |run: &Run, test: &Test| {
        let rate = test.rate(cost);
        let mut json = json!({
            "test": test.name(),
            "tokens": test.tokens,
            "depth": test.depth,
            "tokens_per_s": test.speed(),
            "samples": test.samples,
        });
        let (unit, share) = match test.kind {
            Kind::Prefill => ("macs_per_s", "percent_of_peak"),
            Kind::Decode => ("bytes_per_s", "percent_of_bandwidth"),
        };
        json[unit] = json!(rate);
        json[share] = json!(100.0 * rate / run.roof(test.kind));
        json
    };
    let run = |run: &Run| {
        json!({
            "threads": run.threads,
            "roof": {"read_bytes_per_s": run.bandwidth, "macs_per_s": run.peak},
            "load_ms": 1e3 * run.load_seconds,
            "first_token_ms": 1e3 * run.first_token_seconds,
            "peak_rss_bytes": run.peak_rss_bytes,
            "kv_bytes": run.kv_bytes,
            "results": run.tests.iter().map(|t| test(run, t)).collect::<Json>(),
        })
    };
    json!({
        "model": args.model,
        "type": cost.ty.name().to_ascii_lowercase(),
        "weight_bytes": cost.resident_bytes,
        "weight_bytes_per_token": cost.decode_weight_bytes(),
        "kv_bytes_per_position": cost.position_bytes,
        "cpu": cpu_name(),
        "isa": isa.name(),
        "batch": args.batch,
        "repetitions": args.repetitions,
        "version": env!("CARGO_PKG_VERSION"),
        "runs": runs.iter().map(run).collect::<Json>(),
    })
}

fn table(args: &Args, isa: Isa, cost: &Cost, runs: &[Run]) -> Result<()> {
    let number = if cost.ty.is_float() { "f32" } else { "int8" };
    out::line(format_args!(
        "{}: {}, {:.1} MB of weights; {}, {}\n",
        args.model.display(),
        cost.ty,
        cost.resident_bytes as f64 / 1e6,
        cpu_name(),
        isa.name()
    ))?;
    out::line(format_args!(
        "{:>7}  {:24} {:>9}  {:>12}  of what the machine can do",
        "threads", "test", "tokens/s", ""
    ))?;
    for run in runs {
        for test in &run.tests {
            let (rate, roof) = (test.rate(cost), run.roof(test.kind));
            let (unit, of) = match test.kind {
                Kind::Prefill => ("GMAC/s", format!("{number} peak")),
                Kind::Decode => ("GB/s", "memory bandwidth".to_string()),
            };
            out::line(format_args!(
                "{:>7}  {:24} {:>9.2}  {:>6.1} {unit:6} {:>3.0} % of {:.1} ({of})",
                run.threads,
                label(test),
                test.speed(),
                rate / 1e9,
                100.0 * rate / roof,
                roof / 1e9,
            ))?;
        }
    }
    out::line("")?;
    for run in runs {
        let memory = run.peak_rss_bytes.map_or(String::new(), |bytes| {
            format!(
                ", at most {:.0} MB of memory, {:.0} of them context",
                bytes as f64 / 1e6,
                run.kv_bytes as f64 / 1e6
            )
        });
        out::line(format_args!(
            "{}: loaded in {:.2} s, first token after {:.2} s{memory}",
            count(run.threads, "thread"),
            run.load_seconds,
            run.first_token_seconds
        ))?;
    }
    let cache = cpu::last_level_cache().unwrap_or(0);
    if cost.decode_weight_bytes() < 2 * cache {
        let cache = cache >> 20;
        out::line(format_args!(
            "The caches ({cache} MB) hold a good part of the weights, so memory is not what limits decode."
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quipu_measure::cost::Part;
    use quipu_quant::TensorType;

    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn tokens_are_of_the_vocabulary_and_always_the_same() {
        let tokens = random_tokens(1000, 37);
        assert!(tokens.iter().all(|&t| t < 37));
        assert_eq!(tokens[..10], random_tokens(10, 37));
        assert!((0..37).all(|t| tokens.contains(&t)));
    }

    /// A thousand bytes a token at 2 tokens per second are 2000 bytes per second; the context adds its part.
    #[test]
    fn rates_are_the_cost_times_the_speed() {
        let cost = Cost {
            layers: Part { bytes: 900, macs: 1800 },
            head: Part { bytes: 100, macs: 200 },
            resident_bytes: 1000,
            position_bytes: 10,
            ty: TensorType::Q4_0,
        };
        let test = |kind, tokens, depth| Test { kind, tokens, depth, samples: vec![2.0] };
        assert_eq!(test(Kind::Decode, 1, 0).rate(&cost), 2.0 * 1010.0);
        assert_eq!(test(Kind::Decode, 3, 100).rate(&cost), 2.0 * (1000.0 + 1020.0));
        assert_eq!(test(Kind::Prefill, 10, 0).rate(&cost), 2.0 * (1800.0 + 20.0));
    }
}
