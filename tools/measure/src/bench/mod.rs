//! How fast a model runs, beside what the machine could do.

mod options;
mod results;

use std::time::Instant;

use quipu_runtime::config::Config;
use quipu_runtime::host::{cores::Cores, cpu, memory};
use quipu_runtime::model::BatchToken;
use quipu_runtime::{Engine, Sequence};

use crate::cost::Cost;
use crate::error::MeasureError;
use crate::monitor::{BenchStep, Event, Monitor};
use crate::roofline::Roofline;
use crate::speed::{Test, median, random_tokens, time};

pub use options::BenchOptions;
use options::FIRST_PROMPT;
pub use results::{Bench, BenchResult, BenchRun, Limits, Rate, SequencesResult};

/// Measures how fast the model called `name` (see [`open`](fn@quipu_runtime::open)) runs: prompts read at once, tokens
/// read one by one or of several sequences together, all after some context; and beside it how fast the same threads
/// read memory and multiply. Tests take turns, so that what else the machine does meets all of them.
///
/// # Errors
/// When there is nothing to measure, when the model can't be loaded, or when there is no room for the context.
///
/// # Examples
/// ```
/// use quipu_measure::{BenchOptions, Monitor, bench};
///
/// let mut options = BenchOptions::default();
/// (options.prompts, options.decode, options.repetitions) = (vec![16], 4, 1);
/// (options.threads, options.load.batch, options.sequences) = (vec![1], 16, vec![3]);
/// let found = bench("demo", &options, &Monitor::silent())?;
/// let [prefill, decode] = &found.runs[0].results[..] else { panic!("two tests") };
/// assert!(prefill.tokens_per_s > 0.0 && decode.tokens_per_s > 0.0);
/// assert!(found.runs[0].sequences[0].ms_per_step > 0.0);
/// # Ok::<(), quipu_measure::MeasureError>(())
/// ```
pub fn bench(name: &str, options: &BenchOptions, monitor: &Monitor<'_>) -> Result<Bench, MeasureError> {
    options.check()?;
    let cores = Cores::here();
    let threads = options::threads(&options.threads, cores.default_threads(), cores.allowed_threads())?;
    let source = quipu_runtime::open(name)?;
    let path = || source.path().to_path_buf();
    let config = Config::from_metadata(source.metadata());
    let config = config.map_err(|error| MeasureError::Config { path: path(), error })?;
    let cost = Cost::new(&*source, &config, options.load.kv_type);
    let context = options.context(&cost, source.tensors().iter().any(|tensor| tensor.encoding.is_packed()))?;
    drop(source);
    let run = |&threads: &usize| measure(name, options, (threads, context), &cost, monitor);
    Ok(Bench {
        model: name.to_owned(),
        ty: cost.ty,
        weight_bytes: cost.resident_bytes,
        weight_bytes_per_token: cost.decode_weight_bytes(),
        kv_bytes_per_position: cost.position_bytes,
        cpu: cpu::name(),
        isa: options.isa(),
        batch: options.load.batch,
        repetitions: options.repetitions,
        version: env!("CARGO_PKG_VERSION"),
        runs: threads.iter().map(run).collect::<Result<_, _>>()?,
    })
}

/// A test, and its tokens per second in each run.
struct Samples<T> {
    test: T,
    depth: usize,
    found: Vec<f64>,
}

impl<T> Samples<T> {
    fn new(test: T, depth: usize) -> Samples<T> {
        Samples { test, depth, found: Vec::new() }
    }

    fn finish(self) -> (f64, Vec<f64>) {
        (median(&self.found), self.found)
    }
}

/// Everything with one number of threads and a context of so many positions.
fn measure(
    name: &str,
    options: &BenchOptions,
    (threads, context): (usize, usize),
    cost: &Cost,
    monitor: &Monitor<'_>,
) -> Result<BenchRun, MeasureError> {
    let doing = |step| monitor.step(Event::Benchmark { threads, step });
    doing(BenchStep::Machine)?;
    let mut roofline = Roofline::new(options.isa(), threads)?;
    let limits =
        Limits { read_bytes_per_s: roofline.read_bandwidth(true)?, macs_per_s: roofline.multiply_peak(cost.ty) };
    drop(roofline);

    doing(BenchStep::Loading)?;
    let resettable = memory::reset_peak();
    let load = options.load.clone().threads(Some(threads)).context(Some(context));
    let start = Instant::now();
    let mut engine = Engine::load(quipu_runtime::open(name)?, &load, &|_, _| {})?;
    let load_ms = 1e3 * start.elapsed().as_secs_f64();
    let tokens = random_tokens(context, engine.vocabulary());
    engine.prefill(&mut engine.new_sequence(), &tokens[..FIRST_PROMPT])?;
    let first_token_ms = 1e3 * start.elapsed().as_secs_f64();

    // The first pass of a large batch also waits for the system to give it memory.
    let warm_up = options.load.batch.min(options.longest_prompt()).max(1);
    engine.prefill(&mut engine.new_sequence(), &tokens[..warm_up])?;
    let (mut alone, mut together, mut kv_bytes) = (Vec::new(), Vec::new(), 0);
    for &depth in &options.depths {
        let before = context_of(&mut engine, &tokens[..depth], options.load.batch, &doing)?;
        // Sequences that share pages would read them from the cache.
        let mut sequences = vec![before.clone(); options.most_sequences()];
        sequences.iter_mut().for_each(Sequence::unshare);
        if let Some(&token) = tokens.get(depth).filter(|_| !sequences.is_empty()) {
            // As above, for the memory of so many tokens in a step.
            time_together(&mut engine, &mut sequences, &[token])?;
            sequences.iter_mut().for_each(|sequence| sequence.truncate(depth));
        }
        let (these, those) = (alone.len(), together.len());
        let prompts = options.prompts.iter().map(|&count| (Test::Prefill, count));
        let tests = prompts.chain([(Test::Decode, options.decode)]).filter(|&(_, count)| count > 0);
        alone.extend(tests.map(|test| Samples::new(test, depth)));
        together.extend(options.sequences.iter().map(|&n| Samples::new(n, depth)));
        let total = options.repetitions;
        for run in 1..=total {
            for Samples { test: (test, count), found, .. } in &mut alone[these..] {
                let (test, tokens) = (*test, &tokens[depth..][..*count]);
                doing(BenchStep::Run { test, tokens: tokens.len(), depth, run, total })?;
                let mut sequence = before.clone();
                found.push(tokens.len() as f64 / time(&mut engine, &mut sequence, test, tokens)?);
                kv_bytes = kv_bytes.max(sequence.bytes());
            }
            for Samples { test: count, found, .. } in &mut together[those..] {
                let (sequences, tokens) = (&mut sequences[..*count], &tokens[depth..][..options.decode]);
                doing(BenchStep::Sequences { sequences: *count, tokens: tokens.len(), depth, run, total })?;
                found.push((*count * tokens.len()) as f64 / time_together(&mut engine, sequences, tokens)?);
                kv_bytes = kv_bytes.max(sequences[0].bytes());
                sequences.iter_mut().for_each(|sequence| sequence.truncate(depth));
            }
        }
    }
    let result = |samples: Samples<(Test, usize)>| {
        let ((test, tokens), depth) = (samples.test, samples.depth);
        BenchResult::new(cost, &limits, (test, tokens, depth), samples.finish())
    };
    let sequences = |samples: Samples<usize>| {
        let what = (samples.test, options.decode, samples.depth);
        SequencesResult::new(cost, &limits, what, samples.finish())
    };
    Ok(BenchRun {
        threads,
        limits,
        load_ms,
        first_token_ms,
        peak_rss_bytes: memory::peak().filter(|_| resettable),
        kv_bytes,
        results: alone.into_iter().map(result).collect(),
        sequences: together.into_iter().map(sequences).collect(),
    })
}

/// A sequence that has read `tokens`, `batch` of them at a time.
fn context_of(
    engine: &mut Engine,
    tokens: &[u32],
    batch: usize,
    doing: &impl Fn(BenchStep) -> Result<(), MeasureError>,
) -> Result<Sequence, MeasureError> {
    let mut sequence = engine.new_sequence();
    for part in tokens.chunks(batch) {
        doing(BenchStep::Context { done: sequence.len(), total: tokens.len() })?;
        engine.prefill(&mut sequence, part)?;
    }
    Ok(sequence)
}

/// Seconds that `tokens` take when all of `sequences` read them, one of each in a step.
fn time_together(engine: &mut Engine, sequences: &mut [Sequence], tokens: &[u32]) -> Result<f64, MeasureError> {
    let mut sequences: Vec<&mut Sequence> = sequences.iter_mut().collect();
    let start = Instant::now();
    for &token in tokens {
        let batch: Vec<_> = (0..sequences.len()).map(|sequence| BatchToken { token, sequence, logits: true }).collect();
        engine.forward(&batch, &mut sequences, &mut |_, _| {})?;
    }
    Ok(start.elapsed().as_secs_f64())
}
