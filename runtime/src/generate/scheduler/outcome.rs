//! What has come of a batch: for the texts that had a part in it, and where it could not be read.

use std::time::Duration;

use super::Scheduler;
use super::texts::Texts;
use crate::engine::EngineError;
use crate::generate::error::GenerateError;
use crate::generate::options::StopReason;
use crate::generate::request::{Event, RequestId};
use crate::kv::PAGE;

impl Scheduler {
    /// When the batch could not be read.
    pub(super) fn after_error(&mut self, error: EngineError, time: Duration, events: &mut Vec<(RequestId, Event)>) {
        match error {
            EngineError::NotFinite { sequence, .. } => {
                let request = &mut self.texts.running[sequence];
                // A guess may be what the text would never have said: it is read again without.
                let culprit = if request.guesses > 0 {
                    request.drafter.off = true;
                    None
                } else {
                    Some((request.id, error.into()))
                };
                self.after_abort(culprit, time, events);
            }
            EngineError::Memory(_) if self.texts.running.iter().any(|r| r.guesses > 0) => {
                self.guessing.off = true;
                self.after_abort(None, time, events);
            }
            EngineError::Memory(_) if self.batch.len() > self.texts.running.len() && self.most > 1 => {
                // The activations of so many tokens.
                self.most /= 2;
                self.after_abort(None, time, events);
            }
            error => {
                for i in (0..self.texts.running.len()).rev() {
                    if self.texts.running[i].planned > 0 {
                        events.push(self.texts.fail(i, error.clone().into()));
                    }
                }
            }
        }
    }

    /// When the batch has ended before its end: one request fails, those that got a token have it, the others read
    /// again.
    pub(super) fn after_abort(
        &mut self,
        mut culprit: Option<(RequestId, GenerateError)>,
        time: Duration,
        events: &mut Vec<(RequestId, Event)>,
    ) {
        let mut i = 0;
        while i < self.texts.running.len() {
            if self.texts.running[i].is_poisoned() {
                // Nobody knows how far drawing came.
                events.push(self.texts.fail(i, GenerateError::Panicked));
                continue;
            }
            if let Some((_, error)) = culprit.take_if(|(id, _)| *id == self.texts.running[i].id) {
                events.push(self.texts.fail(i, error));
                continue;
            }
            let sequence = &mut self.texts.sequences[i];
            let writing = self.texts.running[i].writing();
            if writing.drawn.is_empty() {
                sequence.truncate(writing.generation.read());
                self.texts.running[i].rest();
            } else {
                // The engine counts tokens when a batch is over; all layers have these by now.
                let read = &writing.generation.tokens()[..writing.generation.read()];
                read.iter().skip(sequence.len()).for_each(|&token| sequence.push(token));
            }
            i += 1;
        }
        self.after_batch(time, events);
    }

    /// Adds what the batch has brought to `events`, ends the requests that have ended, and keeps what they have read.
    pub(super) fn after_batch(&mut self, time: Duration, events: &mut Vec<(RequestId, Event)>) {
        let mut i = 0;
        while i < self.texts.running.len() {
            let Texts { running, sequences, pages, stats, .. } = &mut self.texts;
            let (request, sequence) = (&mut running[i], &mut sequences[i]);
            let (id, before) = (request.id, request.drafter.total);
            events.extend(request.scored().map(|event| (id, event)));
            let (happened, error) = request.after_batch(time);
            self.guessing.learn(std::mem::take(&mut request.drafter.judged));
            stats.drafts += u64::from(request.drafter.total.tokens > before.tokens);
            stats.drafted_tokens += (request.drafter.total.tokens - before.tokens) as u64;
            stats.accepted_tokens += (request.drafter.total.accepted - before.accepted) as u64;
            stats.written_tokens += happened.iter().filter(|event| matches!(event, Event::Token(_))).count() as u64;
            events.extend(happened.into_iter().map(|event| (id, event)));
            // Wrong guesses are in it, too, and what a text has gone back from.
            let read = request.generation().read();
            if read < sequence.len() {
                sequence.truncate(read);
                request.kept = request.kept.min(read / PAGE);
            }
            if let Some(error) = error {
                events.push(self.texts.fail(i, error));
                continue;
            }
            if request.generation().stop().is_some() {
                // It has a reason of its own.
                events.push(self.texts.finish(i, StopReason::Cancelled));
                continue;
            }
            let full = sequence.len() / PAGE;
            if full > request.kept {
                request.kept = full;
                pages.keep(sequence, false);
            }
            i += 1;
        }
    }
}
