//! What a model has done so far, in numbers that anybody may read at any time without asking its thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quipu_runtime::generate::{Finished, StopReason};

/// A number that one thread counts and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Replaces the number.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often a time lay below each of some bounds.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; Histogram::BOUNDS.len()],
    count: Counter,
    micros: Counter,
}

impl Histogram {
    /// The bounds, in seconds.
    pub const BOUNDS: [f64; 16] =
        [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

    fn add(&self, since: Instant) {
        let time = since.elapsed();
        let seconds = time.as_secs_f64();
        if let Some(bucket) = Histogram::BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].add(1);
        }
        self.count.add(1);
        self.micros.add(time.as_micros() as u64);
    }

    /// For each bound how many times were no longer; all of them; their sum in seconds.
    pub fn read(&self) -> (Vec<u64>, u64, f64) {
        let mut sum = 0;
        let add = |bucket: &Counter| {
            sum += bucket.get();
            sum
        };
        (self.buckets.iter().map(add).collect(), self.count.get(), self.micros.get() as f64 / 1e6)
    }
}

/// See the fields.
#[derive(Debug, Default)]
pub struct Counters {
    /// Texts that are written or wait for it.
    pub open: Counter,
    /// Texts that are written.
    pub running: Counter,
    /// Passes of the model.
    pub steps: Counter,
    /// Texts that took part in them, summed.
    pub texts_in_steps: Counter,
    /// Texts that have ended by themselves.
    pub finished: Counter,
    /// Texts that were cancelled.
    pub cancelled: Counter,
    /// Pages of the KV cache that are in use, those included that are kept for later texts.
    pub pages: Counter,
    /// Bytes of a page.
    pub page_bytes: Counter,
    /// Texts that were put back for want of pages.
    pub preempted: Counter,
    /// Pages that were kept for later texts and had to go.
    pub evicted: Counter,
    /// Requests that found the queue full.
    pub refused: Counter,
    /// Tokens of prompts that were read.
    pub prompt_tokens: Counter,
    /// Tokens of prompts that did not have to be read.
    pub cached_tokens: Counter,
    /// The time in which they were read, in microseconds.
    pub prompt_micros: Counter,
    /// How often tokens were guessed ahead, how many, and how many of them were right.
    pub drafts: Counter,
    /// See [`Counters::drafts`].
    pub drafted_tokens: Counter,
    /// See [`Counters::drafts`].
    pub accepted_tokens: Counter,
    /// Tokens that were written, those included that end a text.
    pub drawn_tokens: Counter,
    /// Tokens that were written after the first of each text.
    pub written_tokens: Counter,
    /// The time in which they were written, in microseconds.
    pub written_micros: Counter,
    /// The most tokens that a text had, with its prompt.
    pub longest: Counter,
    /// From the request to its first token.
    pub first_token: Histogram,
    /// From one token to the next.
    pub next_token: Histogram,
    /// From the request to the end of its text.
    pub whole: Histogram,
    /// From a question to a guard to its verdict.
    pub judging: Histogram,
    /// Verdicts that flag something.
    pub flagged: Counter,
}

impl Counters {
    /// Counts `more` texts in; if that makes more than `room`, tells the seconds after which to try again.
    pub(crate) fn enter(&self, more: usize, room: usize) -> Result<(), u32> {
        let fits = |open: u64| (open + more as u64 <= room as u64).then_some(open + more as u64);
        match self.open.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits) {
            Ok(_) => Ok(()),
            // By then one of those that are written has ended, if it is like those before it.
            Err(_) => {
                let (_, count, seconds) = self.whole.read();
                Err(((seconds / count.max(1) as f64).ceil() as u32).clamp(1, 60))
            }
        }
    }

    /// Counts one text out.
    pub(crate) fn leave(&self) {
        self.open.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// The model is unloaded: what tells of this moment is nothing.
    pub(crate) fn rest(&self) {
        [&self.running, &self.pages].into_iter().for_each(|now| now.set(0));
    }

    /// Texts with so many tokens have become vectors, or were given up.
    pub(crate) fn embedded(&self, tokens: usize) {
        self.prompt_tokens.add(tokens as u64);
        self.leave();
    }

    /// A token was written, for a text that was asked for at `since` and had the token before at `last`.
    pub(crate) fn token(&self, since: Instant, last: Option<Instant>) {
        self.drawn_tokens.add(1);
        match last {
            None => self.first_token.add(since),
            Some(last) => self.next_token.add(last),
        }
    }

    /// A guard has judged what it was asked at `since`.
    pub(crate) fn judged(&self, since: Instant, flagged: bool) {
        self.judging.add(since);
        self.flagged.add(u64::from(flagged));
    }

    /// A text has ended.
    pub(crate) fn finished(&self, since: Instant, end: &Finished) {
        self.whole.add(since);
        if end.stop == StopReason::Cancelled {
            self.cancelled.add(1)
        } else {
            self.finished.add(1)
        }
        self.prompt_tokens.add(end.prefill.tokens as u64);
        self.cached_tokens.add(end.cached_tokens as u64);
        self.prompt_micros.add(end.prefill.time.as_micros() as u64);
        self.drawn_tokens.add(u64::from(end.stop == StopReason::End));
        self.written_tokens.add(end.decode.tokens as u64);
        self.written_micros.add(end.decode.time.as_micros() as u64);
        self.longest.set(self.longest.get().max((end.prompt_tokens + end.decode.tokens) as u64));
    }
}
