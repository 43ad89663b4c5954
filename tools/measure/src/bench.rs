//! How fast a model runs, beside what the machine could do.

use std::time::Instant;

use quipu_quant::TensorType;
use quipu_runtime::config::Config;
use quipu_runtime::host::{cores::Cores, cpu, memory};
use quipu_runtime::{Engine, Isa, LoadError, LoadOptions};
use serde::Serialize;

use crate::cost::Cost;
use crate::error::MeasureError;
use crate::monitor::{BenchStep, Event, Monitor};
use crate::roofline::Roofline;
use crate::speed::{Test, median, random_tokens, time};

/// Tokens of the prompt for the time to the first token.
const FIRST_PROMPT: usize = 16;

/// What is measured.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BenchOptions {
    /// Prompts that are read at once, by their numbers of tokens. Those of no tokens are left out.
    pub prompts: Vec<usize>,
    /// Tokens that are read one by one; 0: none.
    pub decode: usize,
    /// Tokens of context before each test; one round of tests for each.
    pub depths: Vec<usize>,
    /// Threads; one round of everything for each. When empty, one thread for each fast core.
    pub threads: Vec<usize>,
    /// Runs of each test, of which the median counts; at least 1.
    pub repetitions: usize,
    /// How the model is loaded; its threads and its context are replaced by what each round needs.
    pub load: LoadOptions,
}

impl Default for BenchOptions {
    fn default() -> BenchOptions {
        BenchOptions {
            prompts: vec![512],
            decode: 128,
            depths: vec![0],
            threads: Vec::new(),
            repetitions: 3,
            load: LoadOptions::default(),
        }
    }
}

/// What was measured of a model.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Bench {
    /// The model's name.
    pub model: String,
    /// The type of the weights that most multiplications are with.
    #[serde(rename = "type", serialize_with = "crate::json::lowercase")]
    pub ty: TensorType,
    /// Bytes of all matrices in memory.
    pub weight_bytes: u64,
    /// Bytes of weights that are read for every decoded token.
    pub weight_bytes_per_token: u64,
    /// Bytes of keys and values that one position adds, and that every later token reads.
    pub kv_bytes_per_position: u64,
    /// The CPU's name.
    pub cpu: String,
    /// The instruction set.
    #[serde(serialize_with = "crate::json::isa")]
    pub isa: Isa,
    /// Prompt tokens that go through the model at once.
    pub batch: usize,
    /// Runs of each test.
    pub repetitions: usize,
    /// The version of Quipu.
    pub version: &'static str,
    /// Everything again for each number of threads.
    pub runs: Vec<BenchRun>,
}

/// What was measured with one number of threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BenchRun {
    /// Threads in use.
    pub threads: usize,
    /// What the same threads do at best.
    #[serde(rename = "roof")]
    pub limits: Limits,
    /// Milliseconds from opening the model to where it can be used.
    pub load_ms: f64,
    /// Milliseconds from opening the model to the first token after a prompt of 16.
    pub first_token_ms: f64,
    /// The most memory that the process had resident; `None` where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// Bytes of the longest sequence's keys and values.
    pub kv_bytes: usize,
    /// The tests, depth by depth.
    pub results: Vec<BenchResult>,
}

/// What some threads do at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that they read from memory in a second.
    pub read_bytes_per_s: f64,
    /// Multiplications with weights of the model's type in a second.
    pub macs_per_s: f64,
}

/// What one test gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BenchResult {
    /// Which.
    pub test: Test,
    /// Tokens of it.
    pub tokens: usize,
    /// Tokens of context before it.
    pub depth: usize,
    /// The median of the samples.
    pub tokens_per_s: f64,
    /// Tokens per second, run by run.
    pub samples: Vec<f64>,
    /// How much of its limit it used.
    #[serde(flatten)]
    pub rate: Rate,
}

/// How much a test did in a second of what limits it, and what share of the machine's limit that is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Rate {
    /// Arithmetic limits how fast a prompt is read.
    Prefill {
        /// Multiplications with weights in a second.
        macs_per_s: f64,
        /// These in percent of the most that the threads can do.
        percent_of_peak: f64,
    },
    /// Memory limits how fast single tokens are read.
    Decode {
        /// Bytes of weights, keys and values that are read in a second.
        bytes_per_s: f64,
        /// These in percent of what the threads can read.
        percent_of_bandwidth: f64,
    },
}

impl Rate {
    /// For a test of `tokens` tokens after `depth` others at so many tokens per second.
    fn new(cost: &Cost, limits: &Limits, test: Test, (tokens, depth): (usize, usize), tokens_per_s: f64) -> Rate {
        let rate = |all: u64| all as f64 / tokens as f64 * tokens_per_s;
        match test {
            Test::Prefill => {
                let macs_per_s = rate(cost.prefill_macs(tokens as u64));
                Rate::Prefill { macs_per_s, percent_of_peak: 100.0 * macs_per_s / limits.macs_per_s }
            }
            Test::Decode => {
                let bytes_per_s = rate(cost.decode_bytes(depth as u64, tokens as u64));
                Rate::Decode { bytes_per_s, percent_of_bandwidth: 100.0 * bytes_per_s / limits.read_bytes_per_s }
            }
        }
    }
}

/// Measures how fast the model called `name` (see [`open`](fn@quipu_runtime::open)) runs: prompts read at once, tokens
/// read one by one, both after some context; and beside it how fast the same threads read memory and multiply.
///
/// # Errors
/// When there is nothing to measure, when the model can't be loaded, or when it has no room for the context.
///
/// # Examples
/// ```
/// use quipu_measure::{BenchOptions, Monitor, bench};
///
/// let mut options = BenchOptions::default();
/// (options.prompts, options.decode, options.repetitions) = (vec![16], 4, 1);
/// (options.threads, options.load.batch) = (vec![1], 16);
/// let found = bench("demo", &options, &Monitor::silent())?;
/// let [prefill, decode] = &found.runs[0].results[..] else { panic!("two tests") };
/// assert!(prefill.tokens_per_s > 0.0 && decode.tokens_per_s > 0.0);
/// # Ok::<(), quipu_measure::MeasureError>(())
/// ```
pub fn bench(name: &str, options: &BenchOptions, monitor: &Monitor<'_>) -> Result<Bench, MeasureError> {
    let nothing = |what| Err(MeasureError::Nothing { what });
    if options.repetitions == 0 {
        return nothing("the number of runs");
    }
    if options.decode == 0 && options.prompts.iter().all(|&tokens| tokens == 0) {
        return nothing("the number of tokens");
    }
    let cores = Cores::here();
    let threads = if options.threads.is_empty() { vec![cores.default_threads()] } else { options.threads.clone() };
    if threads.contains(&0) {
        return Err(LoadError::Zero { what: "the number of threads" }.into());
    }
    let allowed = cores.allowed_threads();
    if let Some(&wanted) = threads.iter().find(|&&n| n > allowed) {
        return Err(LoadError::Threads { wanted, allowed }.into());
    }
    let isa = options.load.isa.unwrap_or_else(Isa::best);
    let source = quipu_runtime::open(name)?;
    let path = || source.path().to_path_buf();
    let config = Config::from_metadata(source.metadata());
    let config = config.map_err(|error| MeasureError::Config { path: path(), error })?;
    let cost = Cost::new(&*source, &config, options.load.kv_type);
    drop(source);
    let run = |&threads: &usize| measure(name, options, threads, &cost, monitor);
    Ok(Bench {
        model: name.to_owned(),
        ty: cost.ty,
        weight_bytes: cost.resident_bytes,
        weight_bytes_per_token: cost.decode_weight_bytes(),
        kv_bytes_per_position: cost.position_bytes,
        cpu: cpu::name(),
        isa,
        batch: options.load.batch,
        repetitions: options.repetitions,
        version: env!("CARGO_PKG_VERSION"),
        runs: threads.iter().map(run).collect::<Result<_, _>>()?,
    })
}

/// Everything with one number of threads.
fn measure(
    name: &str,
    options: &BenchOptions,
    threads: usize,
    cost: &Cost,
    monitor: &Monitor<'_>,
) -> Result<BenchRun, MeasureError> {
    let doing = |step| monitor.step(Event::Benchmark { threads, step });
    doing(BenchStep::Machine)?;
    let mut roofline = Roofline::new(options.load.isa.unwrap_or_else(Isa::best), threads)?;
    let limits =
        Limits { read_bytes_per_s: roofline.read_bandwidth(true)?, macs_per_s: roofline.multiply_peak(cost.ty) };
    drop(roofline);

    doing(BenchStep::Loading)?;
    let resettable = memory::reset_peak();
    let longest_prompt = options.prompts.iter().copied().max().unwrap_or(0);
    let longest = longest_prompt.max(options.decode).max(FIRST_PROMPT);
    let context = options.depths.iter().copied().max().unwrap_or(0) + longest;
    let load = options.load.clone().threads(Some(threads)).context(Some(context));
    let start = Instant::now();
    let mut engine = Engine::load(quipu_runtime::open(name)?, &load, &|_, _| {})?;
    let load_ms = 1e3 * start.elapsed().as_secs_f64();
    let tokens = random_tokens(context, engine.vocabulary());
    engine.prefill(&mut engine.new_sequence(), &tokens[..FIRST_PROMPT])?;
    let first_token_ms = 1e3 * start.elapsed().as_secs_f64();

    // The first pass of a large batch also waits for the system to give it memory.
    let warm_up = options.load.batch.min(longest_prompt).max(1);
    engine.prefill(&mut engine.new_sequence(), &tokens[..warm_up])?;
    let (mut results, mut kv_bytes) = (Vec::new(), 0);
    for &depth in &options.depths {
        let mut context = engine.new_sequence();
        if depth > 0 {
            doing(BenchStep::Context { tokens: depth })?;
            engine.prefill(&mut context, &tokens[..depth])?;
        }
        let prefill = options.prompts.iter().map(|&count| (Test::Prefill, count));
        for (test, count) in prefill.chain([(Test::Decode, options.decode)]).filter(|&(_, count)| count > 0) {
            let mut samples = Vec::new();
            for run in 1..=options.repetitions {
                doing(BenchStep::Run { test, tokens: count, depth, run, total: options.repetitions })?;
                let mut sequence = context.clone();
                let seconds = time(&mut engine, &mut sequence, test, &tokens[depth..depth + count])?;
                samples.push(count as f64 / seconds);
                kv_bytes = kv_bytes.max(sequence.bytes());
            }
            let tokens_per_s = median(&samples);
            let rate = Rate::new(cost, &limits, test, (count, depth), tokens_per_s);
            results.push(BenchResult { test, tokens: count, depth, tokens_per_s, samples, rate });
        }
    }
    let peak_rss_bytes = memory::peak().filter(|_| resettable);
    Ok(BenchRun { threads, limits, load_ms, first_token_ms, peak_rss_bytes, kv_bytes, results })
}

#[cfg(test)]
mod tests {
    use crate::cost::Work;

    use super::*;

    /// A thousand bytes a token at 2 tokens per second are 2000 bytes per second; the context adds its part.
    #[test]
    fn rates_are_the_cost_times_the_speed() {
        let cost = Cost {
            layers: Work { bytes: 900, macs: 1800 },
            head: Work { bytes: 100, macs: 200 },
            resident_bytes: 1000,
            position_bytes: 10,
            ty: TensorType::Q4_0,
        };
        let limits = Limits { read_bytes_per_s: 1e4, macs_per_s: 1e5 };
        let decode = |tokens, depth, bytes_per_s: f64| {
            let percent_of_bandwidth = bytes_per_s / 100.0;
            let expected = Rate::Decode { bytes_per_s, percent_of_bandwidth };
            assert_eq!(Rate::new(&cost, &limits, Test::Decode, (tokens, depth), 2.0), expected);
        };
        decode(1, 0, 2.0 * 1010.0);
        decode(3, 100, 2.0 * (1000.0 + 1020.0));
        let macs_per_s = 2.0 * (1800.0 + 20.0);
        let expected = Rate::Prefill { macs_per_s, percent_of_peak: macs_per_s / 1000.0 };
        assert_eq!(Rate::new(&cost, &limits, Test::Prefill, (10, 0), 2.0), expected);
    }
}
