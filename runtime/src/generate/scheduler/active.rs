//! A request that is being served, or waits for its turn.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::generate::error::GenerateError;
use crate::generate::generation::{Generation, Token};
use crate::generate::options::StopReason;
use crate::generate::request::{Event, Failed, Finished, RequestId, Timing};
use crate::kv::{PAGE, Sequence};
use crate::sampler::SamplerError;

/// A request that is being served, or waits for its turn.
pub(super) struct Active {
    pub(super) id: RequestId,
    cancel: Cancel,
    deadline: Option<Instant>,
    /// Tokens of the prompt that did not have to be read; `None` before it was begun.
    pub(super) cached: Option<usize>,
    /// How many of its tokens the current batch has, and the bytes that were set aside for them.
    pub(super) planned: usize,
    pub(super) promised: u64,
    in_prompt: bool,
    prefill: Timing,
    decode: Timing,
    recomputed: Timing,
    /// How many tokens had been read when its pages were taken from it.
    redo: usize,
    /// Pages of its sequence that are known to the cache.
    pub(super) kept: usize,
    /// What all prompts together had read when it came, and what it has read since.
    came: u64,
    own: u64,
    /// For the worker that draws this request's token, while others draw those of other requests.
    writing: Mutex<Writing>,
}

pub(super) struct Writing {
    pub(super) generation: Generation,
    /// What was drawn in the current batch.
    pub(super) drawn: Option<Result<Option<Token>, SamplerError>>,
}

impl Active {
    pub(super) fn new(
        id: RequestId,
        cancel: Cancel,
        deadline: Option<Instant>,
        generation: Generation,
        came: u64,
    ) -> Active {
        let (prefill, decode, recomputed) = Default::default();
        let writing = Mutex::new(Writing { generation, drawn: None });
        Active {
            id,
            cancel,
            deadline,
            cached: None,
            planned: 0,
            promised: 0,
            in_prompt: true,
            prefill,
            decode,
            recomputed,
            redo: 0,
            kept: 0,
            came,
            own: 0,
            writing,
        }
    }

    pub(super) fn writing(&mut self) -> &mut Writing {
        self.writing.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is written. Nobody else may be drawing.
    pub(super) fn generation(&mut self) -> &mut Generation {
        &mut self.writing().generation
    }

    /// Whether drawing its token has panicked: nobody knows how far that came.
    pub(super) fn is_poisoned(&self) -> bool {
        self.writing.is_poisoned()
    }

    /// Draws its next token by `take`, from a worker's thread.
    pub(super) fn draw(&self, take: impl FnOnce(&mut Generation) -> Result<Option<Token>, SamplerError>) {
        // Never waits: each request is drawn for by one worker.
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.generation.advance(self.planned);
        writing.drawn = Some(take(&mut writing.generation));
    }

    /// Why it has to end now, if it has to: `now` is the time, where anybody has a deadline.
    pub(super) fn ends(&self, now: Option<Instant>) -> Option<StopReason> {
        if self.cancel.cancelled() {
            return Some(StopReason::Cancelled);
        }
        self.deadline.filter(|&deadline| now.is_some_and(|now| now >= deadline)).map(|_| StopReason::Deadline)
    }

    pub(super) fn has_deadline(&self) -> bool {
        self.deadline.is_some()
    }

    /// Tokens that are to be read next.
    pub(super) fn unread(&mut self) -> usize {
        self.generation().unread().len()
    }

    /// Positions for which there should be room: what is to be read, and some of what will be written.
    pub(super) fn foreseen(&mut self) -> usize {
        let generation = self.generation();
        generation.unread().len() + generation.left().unwrap_or(PAGE).min(PAGE)
    }

    /// Whose turn it is: the fewest tokens first, but what prompts have read since it came counts for it, so that
    /// nobody waits for ever. `read` is what all prompts together have read.
    pub(super) fn rank(&mut self, known: usize, read: u64) -> (i64, RequestId) {
        let generation = self.generation();
        let unread = generation.tokens().len() - generation.read().max(known);
        let waited = read.saturating_sub(self.came + self.own);
        (unread as i64 - waited as i64, self.id)
    }

    /// Plans to read its next `n` tokens, for which `bytes` are set aside.
    pub(super) fn plan(&mut self, n: usize, bytes: u64) {
        self.in_prompt = self.generation().in_prompt();
        (self.planned, self.promised) = (n, bytes);
    }

    /// Plans nothing.
    pub(super) fn rest(&mut self) {
        (self.planned, self.promised) = (0, 0);
    }

    /// Counts the current batch, which took `time`, and returns what has happened to this request in it.
    pub(super) fn after_batch(&mut self, time: Duration) -> Result<Option<Event>, GenerateError> {
        let n = self.planned;
        if n == 0 {
            return Ok(None);
        }
        let drawn = self.writing().drawn.take();
        if drawn.is_none() {
            self.generation().advance(n);
        }
        // What was read again is counted apart.
        let read = self.generation().read();
        let again = self.redo.saturating_sub(read - n).min(n);
        let timing = if self.in_prompt { &mut self.prefill } else { &mut self.decode };
        for (timing, tokens) in [(&mut self.recomputed, again), (timing, n - again)] {
            timing.tokens += tokens;
            timing.time += time.mul_f64(tokens as f64 / n as f64);
        }
        if n > 1 {
            self.own += n as u64;
        }
        if let Some(drawn) = drawn {
            return Ok(drawn?.map(Event::Token));
        }
        let total = self.generation().prompt_len();
        Ok((read < total && read > self.redo).then_some(Event::Prefill { read, total }))
    }

    /// Notes that a page of it need not be read. Returns how many tokens that has saved for the first time.
    pub(super) fn found_page(&mut self) -> usize {
        self.generation().advance(PAGE);
        self.kept += 1;
        let saved = if self.redo == 0 { PAGE } else { 0 };
        self.cached = self.cached.map(|cached| cached + saved);
        saved
    }

    /// Forgets that anything was read: its pages are needed elsewhere.
    pub(super) fn put_back(&mut self) {
        self.redo = self.redo.max(self.generation().read());
        self.generation().rewind();
        (self.planned, self.promised, self.kept) = (0, 0, 0);
    }

    /// Tokens read again.
    pub(super) fn recomputed(&self) -> usize {
        self.recomputed.tokens
    }

    /// Ends the request with what it has, for `reason` if it has not ended by itself.
    pub(super) fn finish(self, sequence: Sequence, reason: StopReason) -> (RequestId, Event) {
        let Writing { generation, .. } = self.writing.into_inner().unwrap_or_else(PoisonError::into_inner);
        let prompt_tokens = generation.prompt_len();
        let stop = generation.stop().unwrap_or(reason);
        let stop_string = generation.stop_string().map(str::to_string);
        let (text, _) = generation.finish();
        let finished = Finished {
            text,
            stop,
            stop_string,
            prompt_tokens,
            cached_tokens: self.cached.unwrap_or(0),
            prefill: self.prefill,
            decode: self.decode,
            recomputed: self.recomputed,
            sequence,
        };
        (self.id, Event::Finished(finished))
    }
}

/// The event of a request that failed.
pub(super) fn failed(id: RequestId, error: GenerateError, sequence: Option<Sequence>) -> (RequestId, Event) {
    (id, Event::Failed(Failed { error, sequence }))
}
