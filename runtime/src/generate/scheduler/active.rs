//! A request that is being served, or waits for its turn.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::draft::Drafter;
use crate::adapters::Adapters;
use crate::cancel::Cancel;
use crate::generate::error::GenerateError;
use crate::generate::generation::Generation;
use crate::generate::options::StopReason;
use crate::generate::request::{Event, Failed, Finished, RequestId, Timing};
use crate::generate::token::Token;
use crate::kv::{PAGE, Sequence};

/// A request that is being served, or waits for its turn.
pub(super) struct Active {
    pub(super) id: RequestId,
    cancel: Cancel,
    deadline: Option<Instant>,
    /// The budget for keys and values under which it was submitted: how long it may become was decided by that.
    pub(super) budget: Option<u64>,
    /// What it is read with.
    pub(super) adapters: Adapters,
    /// Tokens of the prompt that did not have to be read; `None` before it was begun.
    pub(super) cached: Option<usize>,
    /// How many of its tokens the current batch has, guesses included, and the bytes that were set aside for them.
    pub(super) planned: usize,
    pub(super) promised: u64,
    /// What comes next is guessed by this, and so many guesses are in the current batch.
    pub(super) drafter: Drafter,
    pub(super) guesses: usize,
    /// The place in the batch of its last token that is no guess, and how many it had read before the batch.
    pub(super) first_logits: usize,
    pub(super) before: usize,
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
    /// Tokens of the prompt that the current batch has given probabilities, with their numbers, in any order.
    scores: Mutex<Vec<(usize, Token)>>,
    /// Tokens of the prompt whose probabilities were told.
    told: usize,
}

pub(super) struct Writing {
    pub(super) generation: Generation,
    /// What was drawn in the current batch: a token, and more for guesses that were right.
    pub(super) drawn: Vec<Result<Option<Token>, GenerateError>>,
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
        let writing = Mutex::new(Writing { generation, drawn: Vec::new() });
        Active {
            id,
            cancel,
            deadline,
            budget: None,
            adapters: Adapters::default(),
            cached: None,
            planned: 0,
            promised: 0,
            drafter: Drafter::default(),
            guesses: 0,
            first_logits: 0,
            in_prompt: true,
            prefill,
            decode,
            recomputed,
            redo: 0,
            kept: 0,
            came,
            own: 0,
            before: 0,
            writing,
            scores: Mutex::default(),
            told: 0,
        }
    }

    /// The same, submitted under this budget.
    pub(super) fn allowed(self, budget: Option<u64>) -> Active {
        Active { budget, ..self }
    }

    /// The same, read with these adapters.
    pub(super) fn adapted(self, adapters: Adapters) -> Active {
        Active { adapters, ..self }
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

    /// Takes the logits at place `place` of the batch, from a worker's thread: scores the token of the prompt that
    /// comes next, or draws one by `take`; places come in their order. Logits after a wrong guess are none of its text.
    pub(super) fn draw(
        &self,
        place: usize,
        logits: &[f32],
        take: impl FnOnce(&mut Generation) -> Result<Option<Token>, GenerateError>,
    ) {
        // Waits for nobody unless the prompt is scored: else each request is drawn for by one worker.
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.planned - self.guesses;
        let next = self.before + place + own - self.first_logits;
        if writing.generation.is_scored(next) {
            let (id, n) = writing.generation.scored(next);
            drop(writing);
            let token = Token::of_prompt(id, logits, n);
            self.scores.lock().unwrap_or_else(PoisonError::into_inner).push((next, token));
            return;
        }
        let read = match place - self.first_logits {
            0 => own,
            guess if writing.was_right(guess, self.drafter.draft()[guess - 1]) => 1,
            _ => return,
        };
        writing.generation.advance(read);
        let drawn = take(&mut writing.generation);
        writing.drawn.push(drawn);
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
        (self.planned, self.promised, self.guesses) = (0, 0, 0);
        self.scores.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What the current batch has found about tokens of the prompt, in order. What is read again is not told again.
    pub(super) fn scored(&mut self) -> Option<Event> {
        if self.planned == 0 || !self.generation().scores_prompt() {
            return None;
        }
        let mut scores = std::mem::take(self.scores.get_mut().unwrap_or_else(PoisonError::into_inner));
        scores.sort_unstable_by_key(|&(number, _)| number);
        let mut new = Vec::new();
        if self.told == 0 {
            new.push(Token::first_of_prompt(self.generation().scored(0).0));
        }
        let told = self.told.max(1);
        new.extend(scores.into_iter().filter(|&(number, _)| number >= told).map(|(_, token)| token));
        self.told += new.len();
        (!new.is_empty()).then_some(Event::Prompt(new))
    }

    /// Looks for up to `most` tokens that may come after the one that it reads next, in what the text has said. Tokens
    /// that a grammar forces need no guess, and are here only if somebody wants to know how likely they are.
    pub(super) fn look_up(&mut self, most: usize, chance: impl FnMut(f64)) {
        let Active { writing, drafter, .. } = self;
        let writing = writing.get_mut().unwrap_or_else(PoisonError::into_inner);
        match writing.generation.certain(most) {
            certain if certain.is_empty() => drafter.look_up(writing.generation.tokens(), most, chance),
            certain => drafter.foretell(certain, chance),
        }
    }

    /// How long it has been written.
    pub(super) fn decoding(&self) -> Duration {
        self.decode.time
    }

    /// Plans to read one guess more.
    pub(super) fn plan_guess(&mut self) {
        self.planned += 1;
        self.guesses += 1;
    }

    /// Counts the current batch, which took `time`, and returns the tokens written, or how far the prompt was read.
    /// After them comes the error, if it failed.
    pub(super) fn after_batch(&mut self, time: Duration) -> (Vec<Event>, Option<GenerateError>) {
        let mut events = Vec::new();
        if self.planned == 0 {
            return (events, None);
        }
        let drawn = std::mem::take(&mut self.writing().drawn);
        let mut n = self.planned;
        if drawn.is_empty() {
            self.generation().advance(n);
        } else {
            let right = drawn.len() - 1;
            n = n - self.guesses + right;
            let ended = self.generation().stop().is_some();
            self.drafter.learn(self.guesses, right, ended);
        }
        // What was read again is counted apart.
        let read = self.generation().read();
        let again = self.redo.saturating_sub(self.before).min(n);
        if read < self.before + n {
            // It went back: the token that it goes on from is read again.
            self.redo = self.redo.max(read + 1);
        }
        let timing = if self.in_prompt { &mut self.prefill } else { &mut self.decode };
        for (timing, tokens) in [(&mut self.recomputed, again), (timing, n - again)] {
            timing.tokens += tokens;
            timing.time += time.mul_f64(tokens as f64 / n as f64);
        }
        if self.planned > self.guesses + 1 {
            self.own += n as u64;
        }
        let writes = matches!(drawn.last(), Some(Ok(Some(_))));
        for drawn in drawn {
            match drawn {
                Ok(token) => events.extend(token.map(Event::Token)),
                Err(error) => return (events, Some(error)),
            }
        }
        if writes {
            // What nobody need draw.
            events.extend(std::iter::from_fn(|| self.generation().take_forced()).map(Event::Token));
        }
        let total = self.generation().prompt_len();
        if read < total && read > self.redo {
            events.push(Event::Prefill { read, total });
        }
        (events, None)
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
        self.rest();
        self.kept = 0;
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
        let (tokens, sampler) = (generation.tokens().to_vec(), generation.sampler_state());
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
            drafted: self.drafter.total,
            tokens,
            sampler,
            sequence,
        };
        (self.id, Event::Finished(finished))
    }
}

impl Writing {
    /// Whether the last token drawn is the guess `token`, number `guess`, and the text goes on after it.
    fn was_right(&self, guess: usize, token: u32) -> bool {
        self.drawn.len() == guess
            && matches!(&self.drawn[guess - 1], Ok(Some(drawn)) if drawn.id == token)
            && self.generation.unread() == [token]
            && self.generation.wants_logits()
    }
}

/// The event of a request that failed.
pub(super) fn failed(id: RequestId, error: GenerateError, sequence: Option<Sequence>) -> (RequestId, Event) {
    (id, Event::Failed(Failed { error, sequence }))
}
