//! What the scheduler costs and gives: its own time in a step, the stalls of texts while a long prompt is read, and the
//! first token of a prompt that was seen before.
//!
//! ```text
//! cargo run --release -p quipu-bench --bin scheduler -- MODEL [TOKENS OF THE LONG PROMPT [THREADS [TEXTS, as 1,4]]]
//! ```

use std::time::{Duration, Instant};

use quipu_runtime::generate::{Event, GenerateOptions, Request, Scheduler, SchedulerOptions};
use quipu_runtime::sampler::SamplerOptions;
use quipu_runtime::{BatchToken, Engine, LoadOptions, Sequence};
use quipu_test_random::Random;

type Error = Box<dyn std::error::Error>;

fn tokens(engine: &Engine, n: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.below(engine.vocabulary()) as u32).collect()
}

fn request(tokens: Vec<u32>, max_tokens: usize) -> Request {
    Request::new(tokens, GenerateOptions::new(SamplerOptions::greedy()).max_tokens(max_tokens))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

const STEPS: usize = 24;

/// Medians of the time of a step of so many texts: all of it, and what is not the model's.
fn steps(engine: Engine, texts: usize) -> (Engine, Duration, Duration) {
    let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().kv_memory(1 << 33));
    for text in 0..texts {
        let prompt = tokens(scheduler.engine(), 16, text as u64);
        scheduler.submit(request(prompt, STEPS + 8));
    }
    let (mut all, mut own) = (Vec::new(), Vec::new());
    while scheduler.is_busy() {
        let before = scheduler.stats();
        let begun = Instant::now();
        let events = scheduler.step();
        let (time, stats) = (begun.elapsed(), scheduler.stats());
        if events.iter().filter(|(_, event)| matches!(event, Event::Token(_))).count() == texts {
            all.push(time);
            own.push(time - (stats.forward_time - before.forward_time));
        }
    }
    let engine = scheduler.into_engine();
    if all.is_empty() { (engine, Duration::ZERO, Duration::ZERO) } else { (engine, median(all), median(own)) }
}

/// The same of the engine alone.
fn passes(engine: &mut Engine, texts: usize) -> Result<Duration, Error> {
    let mut sequences: Vec<Sequence> = Vec::new();
    for text in 0..texts {
        let (mut sequence, prompt) = (engine.new_sequence(), tokens(engine, 16, text as u64));
        engine.prefill(&mut sequence, &prompt)?;
        sequences.push(sequence);
    }
    let mut sequences: Vec<&mut Sequence> = sequences.iter_mut().collect();
    let mut times = Vec::new();
    for token in 0..STEPS as u32 {
        let batch: Vec<_> = (0..texts).map(|sequence| BatchToken { token, sequence, logits: true }).collect();
        let begun = Instant::now();
        engine.forward_each(&batch, &mut sequences, &|_, logits| {
            // As a greedy sampler does.
            std::hint::black_box(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        })?;
        times.push(begun.elapsed());
    }
    Ok(median(times))
}

/// Seconds until the first token.
fn first_token(scheduler: &mut Scheduler, prompt: &[u32]) -> Result<(f64, usize), Error> {
    let begun = Instant::now();
    let end = scheduler.complete(request(prompt.to_vec(), 1))?.1;
    Ok((begun.elapsed().as_secs_f64(), end.cached_tokens))
}

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or("demo".into());
    let long: usize = arguments.next().map_or(Ok(2000), |n| n.parse())?;
    let threads: Option<usize> = arguments.next().map(|n| n.parse()).transpose()?;
    let options = LoadOptions::default().threads(threads).context(Some(long + 512));
    let mut engine = Engine::load(quipu_runtime::open(&model)?, &options, &|_, _| {})?;
    let counts = arguments.next().unwrap_or("1,4,16,32".into());
    for texts in counts.split(',').filter_map(|n| n.parse().ok()) {
        passes(&mut engine, texts)?;
        let alone = passes(&mut engine, texts)?;
        let (same, step, own) = steps(engine, texts);
        engine = same;
        println!(
            "{texts:>2} texts: the engine {:.3} ms, a step {:.3} ms, of which the scheduler's own {:.1} µs ({:.3} %)",
            1e3 * alone.as_secs_f64(),
            1e3 * step.as_secs_f64(),
            1e6 * own.as_secs_f64(),
            100.0 * own.as_secs_f64() / step.as_secs_f64().max(1e-9)
        );
    }

    let directory = tempfile::tempdir()?;
    let settings = || SchedulerOptions::default().kv_memory(1 << 33);
    let mut scheduler = Scheduler::with_options(engine, settings());
    scheduler.keep_on_disk(directory.path(), 1 << 34)?;
    let prompt = tokens(scheduler.engine(), long, 99);
    for text in 0..4 {
        let prompt = tokens(scheduler.engine(), 16, text);
        scheduler.submit(request(prompt, long));
    }
    let (mut stalls, mut begun) = (Vec::new(), None);
    for step in 0.. {
        if step == 40 {
            scheduler.submit(request(prompt.clone(), 1));
            begun = Some(Instant::now());
        }
        let now = Instant::now();
        let events = scheduler.step();
        // Of a prompt alone nobody's text stands still.
        if begun.is_some() && events.iter().any(|(_, event)| matches!(event, Event::Token(_))) {
            stalls.push(now.elapsed());
        }
        let is_read =
            events.iter().any(|(_, event)| matches!(event, Event::Finished(end) if end.prompt_tokens == long));
        if is_read || !scheduler.is_busy() {
            break;
        }
    }
    let time = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
    let (worst, mut sorted) = (stalls.iter().max().copied().unwrap_or_default(), stalls.clone());
    sorted.sort();
    println!(
        "4 texts while {long} tokens are read: {} steps in {time:.1} s, median {:.0} ms, 99 % {:.0} ms, worst {:.0} ms",
        stalls.len(),
        1e3 * sorted[sorted.len() / 2].as_secs_f64(),
        1e3 * sorted[sorted.len() * 99 / 100].as_secs_f64(),
        1e3 * worst.as_secs_f64()
    );
    scheduler.clear();
    let again = first_token(&mut scheduler, &prompt)?;
    let engine = scheduler.into_engine();
    let mut scheduler = Scheduler::with_options(engine, settings());
    let cold = first_token(&mut scheduler, &prompt)?;
    let engine = scheduler.into_engine();
    let mut scheduler = Scheduler::with_options(engine, settings());
    let opening = Instant::now();
    scheduler.keep_on_disk(directory.path(), 1 << 34)?;
    let opening = opening.elapsed().as_secs_f64();
    let restarted = first_token(&mut scheduler, &prompt)?;
    println!(
        "first token of {long}: {:.3} s; seen before {:.4} s ({:.2} %, {} known); after a restart {:.3} s ({:.2} %, {} known), and {opening:.3} s once",
        cold.0,
        again.0,
        100.0 * again.0 / cold.0,
        again.1,
        restarted.0,
        100.0 * restarted.0 / cold.0,
        restarted.1
    );
    Ok(())
}
