//! How fast a model runs, beside what the machine could do.

mod guesses;
mod options;
mod peak;
mod results;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use quipu_formats::lora::Adapter;
use quipu_runtime::config::Config;
use quipu_runtime::host::{cores::Cores, cpu};
use quipu_runtime::model::BatchToken;
use quipu_runtime::{Adapters, Engine, Sequence};

use crate::cost::Cost;
use crate::error::MeasureError;
use crate::monitor::{BenchStep, Event, Monitor};
use crate::roofline::{Roof, caches, largest};
use crate::speed::{Test, random_tokens, time};

pub use guesses::GuessesResult;
use options::FIRST_PROMPT;
pub use options::{BenchOptions, Guesses};
use peak::Peak;
use results::Task;
pub use results::{Bench, BenchResult, BenchRun, Limits, Rate, SequencesResult};

/// Measures how fast the model called `name` (see [`open`](fn@quipu_runtime::open)) runs: prompts read at once, tokens
/// read one by one or of several sequences together, all after some context; and beside it how fast the same threads
/// read memory and multiply. Tests take turns, so that what else the machine does meets all of them, and the machine is
/// looked at again and again between them.
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

/// How long the machine is not looked at.
const LOOK: Duration = Duration::from_secs(1);

/// From so many times the caches on, what is read comes from memory.
const BEYOND: u64 = 8;

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
    let mut roof = Roof::new(options.isa(), threads, cost.ty)?;

    doing(BenchStep::Loading)?;
    let mut peak = Peak::start();
    let load = options.load.clone().threads(Some(threads)).context(Some(context));
    let start = Instant::now();
    let mut engine = Engine::load(quipu_runtime::open(name)?, &load, &|_, _| {})?;
    let load_ms = 1e3 * start.elapsed().as_secs_f64();
    let adapters = load_adapters(&mut engine, &options.lora)?;
    let first = adapters.first().cloned().unwrap_or_default();
    let tokens = random_tokens(context, engine.vocabulary());
    engine.prefill(&mut engine.new_sequence(), &tokens[..FIRST_PROMPT])?;
    let first_token_ms = 1e3 * start.elapsed().as_secs_f64();

    // The first pass of a large batch also waits for the system to give it memory.
    let warm_up = options.load.batch.min(options.longest_prompt()).max(1);
    engine.prefill(&mut engine.new_sequence(), &tokens[..warm_up])?;
    let (mut found, mut kv_bytes, mut looked) = (Vec::new(), 0, Instant::now());
    for &depth in &options.depths {
        let mut read =
            |adapters: &Adapters| context_of(&mut engine, adapters, &tokens[..depth], options.load.batch, &doing);
        let before = read(&first)?;
        let others = adapters.iter().skip(1).map(read).collect::<Result<Vec<_>, _>>()?;
        // Sequences that share pages would read them from the cache.
        let in_turns = std::iter::once(&before).chain(&others).cycle();
        let mut sequences: Vec<Sequence> = in_turns.take(options.most_sequences()).cloned().collect();
        sequences.iter_mut().for_each(Sequence::unshare);
        if let Some(&token) = tokens.get(depth).filter(|_| !sequences.is_empty()) {
            // As above, for the memory of so many tokens in a step.
            time_together(&mut engine, &mut sequences, &[token])?;
            sequences.iter_mut().for_each(|sequence| sequence.truncate(depth));
        }
        let mut tests: Vec<_> = tests(options, depth).map(|task| (task, Vec::new())).collect();
        let total = options.repetitions;
        for run in 1..=total {
            for (task, samples) in &mut tests {
                if looked.elapsed() > LOOK {
                    doing(BenchStep::Machine)?;
                    peak.without(|| roof.look())?;
                    looked = Instant::now();
                }
                let (count, tokens) = (task.sequences, &tokens[depth..][..task.tokens]);
                let seconds = if let Some(test) = task.test {
                    doing(BenchStep::Run { test, tokens: tokens.len(), depth, run, total })?;
                    let mut sequence = before.clone();
                    let seconds = time(&mut engine, &mut sequence, test, tokens)?;
                    kv_bytes = kv_bytes.max(sequence.bytes());
                    seconds
                } else {
                    doing(BenchStep::Sequences { sequences: count, tokens: tokens.len(), depth, run, total })?;
                    let seconds = time_together(&mut engine, &mut sequences[..count], tokens)?;
                    sequences.iter_mut().for_each(|sequence| sequence.truncate(depth));
                    seconds
                };
                samples.push((count * tokens.len()) as f64 / seconds);
            }
        }
        found.append(&mut tests);
    }
    peak.without(|| roof.look())?;

    let mut limits = Limits::new(roof.reads(), roof.multiplications());
    let from_memory = cost.decode_weight_bytes() >= BEYOND * caches(threads);
    found.iter().for_each(|(task, samples)| limits.include(cost, task, largest(samples), from_memory));
    let (mut results, mut sequences) = (Vec::new(), Vec::new());
    for (task, samples) in found {
        match task.test {
            Some(test) => results.push(BenchResult::new(cost, &limits, test, &task, samples)),
            None => sequences.push(SequencesResult::new(cost, &limits, &task, samples)),
        }
    }
    let guesses = guesses::measure(engine, options, &doing)?;
    let peak_rss_bytes = peak.most();
    Ok(BenchRun { threads, limits, load_ms, first_token_ms, peak_rss_bytes, kv_bytes, results, sequences, guesses })
}

/// The tests after a context of `depth` tokens, in their order.
fn tests(options: &BenchOptions, depth: usize) -> impl Iterator<Item = Task> {
    let prompts = options.prompts.iter().map(|&tokens| (Some(Test::Prefill), 1, tokens));
    let decode = (Some(Test::Decode), 1, options.decode);
    let together = options.sequences.iter().map(|&sequences| (None, sequences, options.decode));
    let all = prompts.chain([decode]).chain(together).filter(|&(_, _, tokens)| tokens > 0);
    all.map(move |(test, sequences, tokens)| Task { test, sequences, tokens, depth })
}

/// Loads adapters, each for itself.
fn load_adapters(engine: &mut Engine, lora: &[(PathBuf, f32)]) -> Result<Vec<Adapters>, MeasureError> {
    let load = |(path, scale): &(PathBuf, f32)| {
        let id = engine.load_adapter(&Adapter::open(path, engine.source())?)?;
        Ok(Adapters::new([(id, *scale)]).unwrap_or_default())
    };
    lora.iter().map(load).collect()
}

/// A sequence that has read `tokens` with `adapters`, `batch` of them at a time.
fn context_of(
    engine: &mut Engine,
    adapters: &Adapters,
    tokens: &[u32],
    batch: usize,
    doing: &impl Fn(BenchStep) -> Result<(), MeasureError>,
) -> Result<Sequence, MeasureError> {
    let mut sequence = engine.new_sequence_with(adapters)?;
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
