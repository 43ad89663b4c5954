//! Progress of long work: what the measuring library reports, as bars and lines on stderr.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use quipu_measure::{BenchStep, Event, MeasureError, Monitor, Test};
use quipu_runtime::Cancel;

use crate::interrupt::{self, Interrupted, Listening};
use crate::talk::{self, Bar};

/// Shows how far work is, and lets Ctrl-C and SIGTERM stop it.
pub struct Watch {
    /// What is said of a file that is being written.
    writing: &'static str,
    /// `None` when a signal may end the process at once, since there is nothing to clean up.
    listening: Option<Listening>,
    shown: Mutex<Shown>,
}

struct Shown {
    bar: Option<(&'static str, Bar)>,
    /// When the present kind of steps began.
    started: Instant,
    /// The model that is being compared.
    model: Option<String>,
}

impl Watch {
    /// For work that changes nothing but what it prints.
    pub fn new() -> Watch {
        Watch::with("", None)
    }

    /// For work that writes a file; `writing` is what is said of that.
    pub fn of_file(writing: &'static str) -> Watch {
        Watch::with(writing, Some(interrupt::listen()))
    }

    fn with(writing: &'static str, listening: Option<Listening>) -> Watch {
        let shown = Shown { bar: None, started: Instant::now(), model: None };
        Watch { writing, listening, shown: Mutex::new(shown) }
    }

    /// Does `work`.
    ///
    /// # Errors
    /// Those of `work`, and [`Interrupted`] when a signal stopped it.
    pub fn run<T>(&self, work: impl FnOnce(&Monitor<'_>) -> Result<T, MeasureError>) -> Result<T> {
        let cancel = self.listening.as_ref().map_or_else(Cancel::new, |listening| listening.cancel().clone());
        let report = |event: Event<'_>| self.report(event);
        let done = work(&Monitor::new(cancel, &report));
        self.shown().bar = None;
        match done {
            Err(MeasureError::Cancelled) => {
                talk::note("cancelled; nothing was written");
                Err(Interrupted.into())
            }
            other => Ok(other?),
        }
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, event: Event<'_>) {
        let mut shown = self.shown();
        match event {
            Event::Loading { done, total } => {
                // Loading a large model takes long and cannot be cancelled; since nothing is written yet, the process
                // may end here.
                if self.listening.as_ref().is_some_and(Listening::requested) {
                    interrupt::end();
                }
                if shown.model.is_none() {
                    shown.bar("loading").update(done, total, "");
                }
            }
            Event::Calibrating { done, total } => shown.step("calibrating", done, total),
            Event::NotCalibrated { error } => talk::warning(&format!(
                "rounded without knowing what the matrices meet, since the model does not run here: {error}"
            )),
            Event::ChoosingTypes { done, total } => shown.step("choosing types", done, total),
            Event::TypesChosen { bits_per_weight, expected_kl } => talk::note(&format!(
                "{bits_per_weight:.3} bits per weight; on text like that they should cost a KL divergence of {expected_kl:.4}"
            )),
            Event::Writing(now) => shown.bar(self.writing).update(now.bytes, now.total_bytes, now.tensor),
            Event::Reading { done, total, ppl, kl } => shown.reading(done, total, ppl, kl),
            Event::Comparing { number, total, path } => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                let model = format!("{number}/{total} {name}");
                talk::progress(&format!("{model}: loading"));
                shown.model = Some(model);
            }
            Event::MeasuringSpeed => {
                talk::progress(&format!("{}: speed", shown.model.as_deref().unwrap_or_default()));
            }
            Event::Benchmark { threads, step } => {
                talk::progress(&format!("{}: {}", count(threads, "thread"), describe(step)));
            }
            // Events that a later version of the library may add.
            _ => {}
        }
    }
}

impl Shown {
    /// The bar called `what`.
    fn bar(&mut self, what: &'static str) -> &Bar {
        if self.bar.as_ref().is_some_and(|(name, _)| *name != what) {
            self.bar = None;
        }
        &self.bar.get_or_insert_with(|| (what, Bar::new(what))).1
    }

    /// After `done` of `total` steps, of which the first begins at 0.
    fn step(&mut self, what: &str, done: usize, total: usize) {
        self.bar = None;
        if done == 0 {
            self.started = Instant::now();
            return;
        }
        talk::progress(&format!("{what} [{done}/{total}] {}", self.left(done, total)));
        if done == total {
            talk::keep_progress();
        }
    }

    fn reading(&mut self, done: usize, total: usize, ppl: f64, kl: Option<f64>) {
        if done == 0 {
            self.started = Instant::now();
            return;
        }
        let left = self.left(done, total);
        match &self.model {
            Some(model) => talk::progress(&format!("{model}: chunk {done} of {total}, {left}")),
            None => {
                let kl = kl.map_or(String::new(), |kl| format!(", KL {kl:.5}"));
                talk::progress(&format!("[{done}/{total}] {ppl:.4}{kl}, {left}"));
                if done == total {
                    talk::keep_progress();
                }
            }
        }
    }

    fn left(&self, done: usize, total: usize) -> String {
        let seconds = self.started.elapsed().as_secs_f64() / done as f64 * total.saturating_sub(done) as f64;
        format!("{seconds:.0} s left")
    }
}

fn describe(step: BenchStep) -> String {
    match step {
        BenchStep::Machine => "the machine's own limits".to_string(),
        BenchStep::Loading => "loading".to_string(),
        BenchStep::Context { done, total } => format!("{done} of {total} tokens of context"),
        BenchStep::Run { test, tokens, depth, run, total } => {
            format!("{}, run {run} of {total}", label(test, tokens, depth))
        }
        BenchStep::Sequences { sequences, tokens, depth, run, total } => {
            format!("{}, run {run} of {total}", label_together(sequences, tokens, depth))
        }
        BenchStep::Guesses { sequences, tokens, depth, run, total } => {
            format!("{} with guesses, run {run} of {total}", label_together(sequences, tokens, depth))
        }
        _ => String::new(),
    }
}

/// A benchmark's test, for a person.
pub fn label(test: Test, tokens: usize, depth: usize) -> String {
    let depth = if depth > 0 { format!(" after {depth}") } else { String::new() };
    format!("{test} {tokens}{depth}")
}

/// The same for sequences that are decoded together.
pub fn label_together(sequences: usize, tokens: usize, depth: usize) -> String {
    let depth = if depth > 0 { format!(" after {depth}") } else { String::new() };
    format!("decode {tokens} × {}{depth}", count(sequences, "sequence"))
}

/// `1 thread`, `2 threads`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
