//! The progress of long work, and how it is stopped.

use std::fmt;
use std::path::Path;

use quipu_formats::convert::ConvertProgress;
use quipu_runtime::Cancel;

use crate::error::MeasureError;
use crate::speed::Test;

/// What is happening.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A model is being loaded.
    Loading {
        /// Bytes of weights loaded.
        done: u64,
        /// Bytes of weights to load in all.
        total: u64,
    },
    /// A calibration pass reads or writes its texts.
    Calibrating {
        /// Steps done: chunks of a text, tokens of the model's own texts, or layers; 0 at the beginning.
        done: usize,
        /// Steps in all.
        total: usize,
    },
    /// There will be no calibration, since the model does not run here; weights are rounded without it.
    NotCalibrated {
        /// Why.
        error: &'a MeasureError,
    },
    /// What the model loses by coarse types is being measured.
    ChoosingTypes {
        /// Measurements done; 0 at the beginning.
        done: usize,
        /// Measurements in all.
        total: usize,
    },
    /// The types are chosen.
    TypesChosen {
        /// Of the file to come.
        bits_per_weight: f64,
        /// The divergence from the unquantised model that the losses add up to, in nats.
        expected_kl: f64,
    },
    /// A file is being written.
    Writing(ConvertProgress<'a>),
    /// A model reads a text.
    Reading {
        /// Chunks read; 0 at the beginning.
        done: usize,
        /// Chunks in all.
        total: usize,
        /// The perplexity so far.
        ppl: f64,
        /// The mean divergence from the base so far, in nats, if there is a base.
        kl: Option<f64>,
    },
    /// A comparison begins with another model.
    Comparing {
        /// Its number, from 1.
        number: usize,
        /// Models in all.
        total: usize,
        /// The model.
        path: &'a Path,
    },
    /// A comparison measures how fast a model is.
    MeasuringSpeed,
    /// A benchmark does its next step.
    Benchmark {
        /// Threads in use.
        threads: usize,
        /// The step.
        step: BenchStep,
    },
}

/// A step of a benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BenchStep {
    /// What the machine can do is measured.
    Machine,
    /// The model is loaded.
    Loading,
    /// Tokens are read before the tests.
    Context {
        /// Tokens read.
        done: usize,
        /// Tokens in all.
        total: usize,
    },
    /// A test runs.
    Run {
        /// Which.
        test: Test,
        /// Tokens of it.
        tokens: usize,
        /// Tokens of context before it.
        depth: usize,
        /// The number of the run, from 1.
        run: usize,
        /// Runs in all.
        total: usize,
    },
    /// Texts are written without guesses of their next tokens, and with them.
    Guesses {
        /// How many.
        sequences: usize,
        /// Tokens of each.
        tokens: usize,
        /// Tokens of context before them.
        depth: usize,
        /// The number of the run; 0 for the first, which does not count.
        run: usize,
        /// Runs in all.
        total: usize,
    },
    /// Sequences are decoded together.
    Sequences {
        /// How many.
        sequences: usize,
        /// Tokens of each.
        tokens: usize,
        /// Tokens of context before them.
        depth: usize,
        /// The number of the run, from 1.
        run: usize,
        /// Runs in all.
        total: usize,
    },
}

/// Hears of the progress of long work, and may stop it.
#[derive(Clone)]
pub struct Monitor<'a> {
    cancel: Cancel,
    report: &'a (dyn Fn(Event<'_>) + Sync),
}

impl<'a> Monitor<'a> {
    /// Calls `report` now and then, from any thread. When `cancel` is raised, work ends with
    /// [`MeasureError::Cancelled`]; loading a model is not interrupted, so work ends after it.
    pub fn new(cancel: Cancel, report: &'a (dyn Fn(Event<'_>) + Sync)) -> Monitor<'a> {
        Monitor { cancel, report }
    }

    /// Hears nothing and never stops the work.
    pub fn silent() -> Monitor<'static> {
        Monitor { cancel: Cancel::new(), report: &|_| {} }
    }

    /// The flag that ends the work.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Says what is happening.
    pub(crate) fn report(&self, event: Event<'_>) {
        (self.report)(event);
    }

    /// An error when somebody wants the work to end.
    pub(crate) fn check(&self) -> Result<(), MeasureError> {
        if self.cancel.cancelled() { Err(MeasureError::Cancelled) } else { Ok(()) }
    }

    /// Says what is happening, unless somebody wants the work to end.
    pub(crate) fn step(&self, event: Event<'_>) -> Result<(), MeasureError> {
        self.check()?;
        self.report(event);
        Ok(())
    }

    /// The progress of a model that is being loaded.
    pub(crate) fn loading(&self) -> impl Fn(u64, u64) + Sync + use<'a> {
        let report = self.report;
        move |done, total| report(Event::Loading { done, total })
    }
}

impl fmt::Debug for Monitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}
