//! What guesses of the next tokens are worth.

use quipu_runtime::Engine;
use quipu_runtime::generate::{Draft, Drafted, Event, Finished, GenerateOptions, Request, Scheduler, SchedulerOptions};
use quipu_runtime::sampler::SamplerOptions;
use serde::Serialize;

use super::options::{BenchOptions, FIRST_PROMPT, Guesses};
use crate::error::MeasureError;
use crate::monitor::BenchStep;
use crate::speed::{median, random_tokens};

/// How fast texts are written with guesses of their next tokens, and without.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GuessesResult {
    /// The model that guesses; `None` for the text itself.
    pub draft: Option<String>,
    /// How many of its guesses are right, if that is simulated.
    pub acceptance: Option<f64>,
    /// Texts that are written together.
    pub sequences: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Tokens of context before them, in each.
    pub depth: usize,
    /// The median of the samples: tokens of all texts, without guesses.
    pub plain_tokens_per_s: f64,
    /// The median of the samples with guesses.
    pub tokens_per_s: f64,
    /// The latter by the former.
    pub speedup: f64,
    /// Tokens per second without guesses, run by run.
    pub plain_samples: Vec<f64>,
    /// Tokens per second with guesses, run by run.
    pub samples: Vec<f64>,
    /// Guesses in all runs.
    pub guessed: usize,
    /// Those that were right.
    pub accepted: usize,
}

/// Writes texts with `engine`, with guesses and without in turns. They are greedy, after prompts without meaning.
pub(super) fn measure(
    engine: Engine,
    options: &BenchOptions,
    doing: &impl Fn(BenchStep) -> Result<(), MeasureError>,
) -> Result<Vec<GuessesResult>, MeasureError> {
    let Some(Guesses { model, acceptance }) = &options.guesses else { return Ok(Vec::new()) };
    let draft = if model.is_some() { Draft::None } else { Draft::Text };
    let load = options.load.clone().threads(engine.threads());
    let mut scheduler = Scheduler::with_options(engine, SchedulerOptions::default().draft(draft));
    if let Some(name) = model {
        scheduler.set_draft_model(Engine::load(quipu_runtime::open(name)?, &load, &|_, _| {})?)?;
    }
    let alone = [1];
    let counts = if options.sequences.is_empty() { &alone[..] } else { &options.sequences };
    let mut results = Vec::new();
    for &depth in &options.depths {
        for &sequences in counts {
            let (tokens, total) = (options.decode, options.repetitions);
            let requests = requests(&scheduler, sequences, depth.max(FIRST_PROMPT), tokens);
            let (mut plain_samples, mut samples, mut drafted) = (Vec::new(), Vec::new(), Drafted::default());
            // The first two show what steps cost, and what the texts are.
            for run in 0..=total {
                doing(BenchStep::Guesses { sequences, tokens, depth, run, total })?;
                scheduler.set_guessing(false);
                let plain = write(&mut scheduler, &requests)?;
                if let Some(acceptance) = acceptance {
                    scheduler.simulate_acceptance(*acceptance, plain.iter().map(|end| end.tokens.clone()).collect());
                }
                scheduler.set_guessing(true);
                let guessed = write(&mut scheduler, &requests)?;
                if run > 0 {
                    plain_samples.push(speed(&plain));
                    samples.push(speed(&guessed));
                    drafted.tokens += guessed.iter().map(|end| end.drafted.tokens).sum::<usize>();
                    drafted.accepted += guessed.iter().map(|end| end.drafted.accepted).sum::<usize>();
                }
            }
            let (plain_tokens_per_s, tokens_per_s) = (median(&plain_samples), median(&samples));
            results.push(GuessesResult {
                draft: model.clone(),
                acceptance: *acceptance,
                sequences,
                tokens,
                depth,
                plain_tokens_per_s,
                tokens_per_s,
                speedup: tokens_per_s / plain_tokens_per_s,
                plain_samples,
                samples,
                guessed: drafted.tokens,
                accepted: drafted.accepted,
            });
        }
    }
    Ok(results)
}

/// Requests of different prompts, each for so many steps.
fn requests(scheduler: &Scheduler, sequences: usize, prompt: usize, tokens: usize) -> Vec<Request> {
    let all = random_tokens(prompt + sequences, scheduler.engine().tokenizer().vocab_size());
    // The first token comes with the prompt.
    let options = GenerateOptions::new(SamplerOptions::greedy()).ignore_end(true).max_tokens(tokens + 1);
    all.windows(prompt).take(sequences).map(|prompt| Request::new(prompt.to_vec(), options.clone())).collect()
}

/// Writes all of them together.
fn write(scheduler: &mut Scheduler, requests: &[Request]) -> Result<Vec<Finished>, MeasureError> {
    // Each run reads its prompts.
    scheduler.forget();
    let ids: Vec<_> = requests.iter().map(|request| scheduler.submit(request.clone())).collect();
    let mut ends = vec![None; ids.len()];
    while scheduler.is_busy() {
        for (id, event) in scheduler.step() {
            match event {
                Event::Finished(end) => ends[ids.iter().position(|&own| own == id).unwrap_or(0)] = Some(end),
                Event::Failed(failed) => return Err(failed.error.into()),
                _ => {}
            }
        }
    }
    Ok(ends.into_iter().flatten().collect())
}

/// Tokens of all texts in a second.
fn speed(ends: &[Finished]) -> f64 {
    let tokens: usize = ends.iter().map(|end| end.decode.tokens).sum();
    let seconds = ends.iter().map(|end| end.decode.time.as_secs_f64()).fold(0.0, f64::max);
    tokens as f64 / seconds
}
