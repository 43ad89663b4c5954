//! Many requests, one engine.
//!
//! - `texts`: the requests that are served or wait; `active`: one of them; `pages`: the memory of keys and values.
//! - `draft`: guesses, which are read ahead; `masks`: the thread that follows grammars; `embeddings`: vectors of texts.
//! - `pace`: how much of a prompt fits into a step; `options`, `stats`: what goes in and what can be seen.

mod active;
mod draft;
mod embeddings;
mod masks;
mod options;
mod pace;
mod pages;
#[cfg(all(test, feature = "demo"))]
mod race_tests;
mod stats;
#[cfg(all(test, feature = "demo"))]
mod tests;
mod texts;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::GenerateError;
use super::generation::Generation;
use super::options::StopReason;
use super::request::{Event, Failed, Finished, Request, RequestId};
use super::token::Token;
use crate::cancel::Cancel;
use crate::embedding::EmbedOptions;
use crate::engine::{Engine, EngineError};
use crate::kv::{CacheDirError, PAGE, Sequence, Store};
use crate::model::BatchToken;
use active::{Active, failed};
use draft::Costs;
use embeddings::Embeddings;
use masks::Masks;
pub use options::{Draft, SchedulerOptions};
use pace::Pace;
pub use stats::Stats;
use texts::{Restored, Texts};

/// Owns the engine and serves requests with it, all at once.
///
/// Requests may be [submitted](Scheduler::submit) between any two steps. A [step](Scheduler::step) is one batch: the
/// next token of every text that is being written, and as much of the prompts as fits into
/// [`SchedulerOptions::itl_target`]; the shortest prompts come first, but none waits for ever. Each text, token and
/// probability is exactly what the request alone would have given.
///
/// Where [`SchedulerOptions::kv_memory`] is not enough for all, requests wait; and when texts have grown so that it no
/// longer is, the youngest is put back and read again later. What was read is kept for later requests as long as
/// there is room: they share its pages.
///
/// What a text may go on with is guessed ([`SchedulerOptions::draft`]) where that is worth it: a step then brings
/// several tokens of a text.
pub struct Scheduler {
    engine: Engine,
    options: SchedulerOptions,
    texts: Texts,
    embeddings: Embeddings,
    pace: Pace,
    costs: Costs,
    /// How likely the guesses for a batch are right, and whose they are.
    chances: Vec<(f64, usize)>,
    masks: Masks,
    /// The next request's number.
    next: u64,
    batch: Vec<BatchToken>,
    /// The most tokens of prompts in a batch: less than the options say when memory for more could not be had.
    most: usize,
    /// Events that the next step will hand out.
    events: Vec<(RequestId, Event)>,
}

/// Takes the logits for a text.
type Draw<'a> = dyn Fn(&mut Generation, &[f32]) -> Result<Option<Token>, GenerateError> + Sync + 'a;

impl Scheduler {
    /// A scheduler with nothing to do.
    pub fn new(engine: Engine) -> Scheduler {
        Scheduler::with_options(engine, SchedulerOptions::default())
    }

    /// A scheduler that forms its batches in this way.
    pub fn with_options(engine: Engine, mut options: SchedulerOptions) -> Scheduler {
        // A piece of nothing would never end a prompt.
        options.piece = options.piece.max(1);
        Scheduler {
            texts: Texts::new(&options, engine.page_bytes()),
            embeddings: Embeddings::default(),
            pace: Pace::new(engine.config(), options.itl_target),
            masks: Masks::default(),
            most: options.piece.min(engine.batch()),
            engine,
            options,
            costs: Costs::new(),
            chances: Vec::new(),
            next: 0,
            batch: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, for other work between two steps.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Keeps pages in `directory` as well, up to `bytes` of them, so that another run of the program, with the same
    /// model, need not read again what this one has read. Only with [`SchedulerOptions::kv_memory`] and
    /// [`SchedulerOptions::prefix_cache`].
    ///
    /// Files that are damaged or not Quipu's do no harm. Several processes may share a directory.
    ///
    /// # Errors
    /// [`CacheDirError`]: the directory can't be made, read or written to.
    pub fn keep_on_disk(&mut self, directory: &Path, bytes: u64) -> Result<(), CacheDirError> {
        let store = Store::open(directory, self.engine.kv_identity(), bytes)?;
        self.texts.pages.store = Some(store);
        Ok(())
    }

    /// Sets [`SchedulerOptions::kv_memory`] anew, between two steps. What is kept for later requests gives way at once.
    /// Requests that were submitted under a larger budget may still end as they would have: only when such a text is
    /// alone and needs it, more than the new budget is taken for a while.
    pub fn set_kv_memory(&mut self, bytes: Option<u64>) {
        self.options.kv_memory = bytes;
        let used = || self.engine.kv_bytes();
        self.texts.pages.set_budget(bytes, self.options.prefix_cache, used);
    }

    /// The engine. All requests are dropped.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// What it is doing and has done.
    pub fn stats(&self) -> Stats {
        let (page_bytes, used) = (self.engine.page_bytes(), self.engine.kv_bytes());
        let pages_free = self.options.kv_memory.map(|budget| budget.saturating_sub(used) / page_bytes);
        Stats {
            running: self.texts.running.len(),
            waiting: self.texts.waiting(),
            page_bytes,
            pages_used: used / page_bytes,
            pages_free,
            cached_pages: self.texts.pages.kept(),
            evicted_pages: self.texts.pages.evicted,
            ..self.texts.stats.clone()
        }
    }

    /// Takes a request. If it can't be served, the next step says so.
    pub fn submit(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        let Request { tokens, options, cancel, adapters, sequence, deadline } = request;
        let ours = sequence.iter().try_for_each(|sequence| self.engine.check_sequence(sequence));
        let ours = ours.and_then(|()| self.engine.check_adapters(&adapters));
        let checked = ours.and_then(|()| self.engine.check_tokens(&tokens)).map_err(GenerateError::from);
        // A text ends where the memory for it ends, as it does where the context ends.
        let positions = self.texts.pages.positions();
        let context = self.engine.context_length();
        let checked = checked.and_then(|()| match tokens.len() {
            n if n <= context && n > positions => Err(self.texts.pages.too_large(n, 0)),
            _ => Ok(()),
        });
        let tokenizer = self.engine.tokenizer().clone();
        match checked.and_then(|()| Generation::new(tokenizer, tokens, &options, context.min(positions))) {
            Ok(generation) => {
                let active = Active::new(id, cancel, deadline, generation, self.texts.read);
                self.texts.add(active.allowed(self.options.kv_memory).adapted(adapters), sequence);
            }
            Err(error) => self.events.push(failed(id, error, sequence)),
        }
        id
    }

    /// Asks for the vectors of `texts` ([`Engine::embed`]): [`Event::Embedded`]. They are read in pieces like prompts;
    /// their keys and values are not part of [`SchedulerOptions::kv_memory`].
    pub fn embed(&mut self, texts: Vec<Vec<u32>>, options: EmbedOptions, cancel: Cancel) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        self.embeddings.add(id, texts, options, cancel);
        id
    }

    /// Whether there is anything left to do or to tell.
    pub fn is_busy(&self) -> bool {
        !self.texts.is_empty() || !self.embeddings.is_empty() || !self.events.is_empty()
    }

    /// Reads one batch, and returns what has happened; the events of each request are in order. Requests that could not
    /// be served, or were cancelled, come first and take no part; the others follow in the order of their arrival.
    ///
    /// A panic in the engine goes on through here and loses nothing: the next step has the events, fails the request
    /// that was being drawn for ([`GenerateError::Panicked`]), and reads again for those that got no token.
    pub fn step(&mut self) -> Vec<(RequestId, Event)> {
        self.step_with(&|generation, logits| generation.take_logits(logits))
    }

    fn step_with(&mut self, take_logits: &Draw) -> Vec<(RequestId, Event)> {
        let begun = Instant::now();
        let mut events = std::mem::take(&mut self.events);
        self.texts.end_cancelled(&self.engine, &mut events);
        self.embeddings.begin_step(&mut events);
        self.texts.pages.aside = self.embeddings.bytes();
        self.texts.admit(&self.engine, &mut events);
        let (work, decodes) = self.form_batch(&mut events);
        if work == 0.0 {
            events.extend(self.embeddings.read(&mut self.engine, &mut self.pace, decodes, self.most));
        }
        if self.batch.is_empty() {
            return events;
        }
        let started = Instant::now();
        let (running, batch) = (&self.texts.running, &self.batch);
        let draw = |i: usize, logits: &[f32]| {
            running[batch[i].sequence].draw(i, logits, |generation| take_logits(generation, logits));
        };
        let mut sequences: Vec<&mut Sequence> = self.texts.sequences.iter_mut().collect();
        let engine = &mut self.engine;
        let read = catch_unwind(AssertUnwindSafe(|| engine.forward_each(batch, &mut sequences, &draw)));
        let time = started.elapsed();
        match read {
            Ok(Ok(())) => {
                self.observe(work, time);
                self.after_batch(time, &mut events);
            }
            Ok(Err(error)) => self.after_error(error, time, &mut events),
            Err(panic) => {
                self.after_abort(None, time, &mut events);
                self.events = events;
                resume_unwind(panic);
            }
        }
        self.texts.stats.steps += 1;
        self.texts.stats.forward_time += time;
        self.texts.stats.step_time += begun.elapsed();
        events
    }

    /// Serves one request to its end. Returns its whole text, and how it ended. Other requests go on meanwhile; their
    /// events are kept for the next step.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn complete(&mut self, request: Request) -> Result<(String, Finished), Failed> {
        let mut text = String::new();
        let end = self.stream(request, |event| {
            if let Event::Token(token) = event {
                text.push_str(&token.text);
            }
        })?;
        text.push_str(&end.text);
        Ok((text, end))
    }

    /// Serves one request to its end, and calls `hear` with each of its events but the last. Other requests go on
    /// meanwhile; their events are kept for the next step.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn stream(&mut self, request: Request, mut hear: impl FnMut(&Event)) -> Result<Finished, Failed> {
        let mine = self.submit(request);
        let mut others = Vec::new();
        let end = loop {
            let mut end = None;
            for (id, event) in self.step() {
                match event {
                    event if id != mine => others.push((id, event)),
                    Event::Finished(finished) => end = Some(Ok(finished)),
                    Event::Failed(failed) => end = Some(Err(failed)),
                    event => hear(&event),
                }
            }
            if let Some(end) = end {
                break end;
            }
        };
        others.append(&mut self.events);
        self.events = others;
        end
    }

    /// Drops all requests and their events. What is kept for later ones stays.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.embeddings.clear();
        self.events.clear();
    }

    /// Gives up what is kept for later requests. Returns whether anything was.
    pub fn forget(&mut self) -> bool {
        self.texts.pages.clear()
    }

    /// The next token of all texts, and pieces of prompts, the shortest first. Returns the work of these pieces, and
    /// the number of those texts.
    fn form_batch(&mut self, events: &mut Vec<(RequestId, Event)>) -> (f64, usize) {
        self.batch.clear();
        self.texts.running.iter_mut().for_each(Active::rest);
        let mut i = 0;
        while i < self.texts.running.len() {
            if self.texts.running[i].unread() != 1 || self.texts.plan(&self.engine, i, 1, events) {
                i += 1;
            }
        }
        let decodes = self.texts.running.iter().filter(|r| r.planned > 0).count();
        let (mut room, mut work) = (self.pace.room(decodes), 0.0);
        let mut most = if self.embeddings.turn { 0 } else { self.most };
        while let Some(i) = self.texts.next_prompt().filter(|_| most > 0) {
            match self.texts.restore(&self.engine, i, self.options.time_for_disk(decodes), events) {
                Restored::Nothing => {}
                Restored::Something => continue,
                Restored::TimeIsUp => break,
            }
            let (depth, unread) = (self.texts.sequences[i].len(), self.texts.running[i].unread());
            let tokens = self.pace.tokens(room, depth, decodes, most).min(unread);
            if !self.texts.plan(&self.engine, i, tokens, events) {
                continue;
            }
            let done = self.pace.work(depth, tokens);
            (room, most, work) = (room - done, most - tokens, work + done);
            if room <= 0.0 || tokens < unread {
                break;
            }
        }
        if most == self.most && self.options.draft == Draft::Text {
            self.guess();
        }
        for (sequence, request) in self.texts.running.iter_mut().enumerate() {
            let own = request.planned - request.guesses;
            let generation = request.generation();
            let (unread, before) = (generation.unread(), generation.read());
            let last = unread.len().checked_sub(1).filter(|_| generation.wants_logits());
            if let Some(grammar) = generation.grammar().filter(|_| own > 0) {
                self.masks.ask(grammar);
            }
            let logits = |i| Some(i) == last || generation.is_scored(before + i + 1);
            let tokens = unread[..own].iter().enumerate();
            self.batch.extend(tokens.map(|(i, &token)| BatchToken { token, sequence, logits: logits(i) }));
            (request.before, request.first_logits) = (before, self.batch.len().saturating_sub(1));
            let guesses = &request.drafter.draft()[..request.guesses];
            self.batch.extend(guesses.iter().map(|&token| BatchToken { token, sequence, logits: true }));
        }
        (work, decodes)
    }

    /// Adds guesses to a batch of decodes, as many as are worth it. They cost no memory, so nobody gives way to them.
    fn guess(&mut self) {
        let Scheduler { engine, texts, chances, .. } = self;
        chances.clear();
        for (i, request) in texts.running.iter_mut().enumerate().filter(|(_, r)| r.planned == 1) {
            // Up to the end of a page.
            let read = texts.sequences[i].len() + 1;
            let mut most = (read.next_multiple_of(PAGE) - read).min(engine.context_length() - read);
            let generation = request.generation();
            if let Some(left) = generation.left() {
                most = most.min(left.saturating_sub(1));
            }
            if !generation.in_prompt() {
                request.guess(most, |chance| chances.push((chance, i)));
            }
        }
        chances.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let rows = texts.running.iter().map(|r| r.planned).sum();
        let worth = self.costs.worth(rows, chances.iter().map(|&(chance, _)| chance));
        chances[..worth].iter().for_each(|&(_, i)| texts.running[i].plan_guess());
    }

    /// Learns from a batch what tokens cost.
    fn observe(&mut self, work: f64, time: Duration) {
        let (decodes, tokens) = self.texts.planned();
        if tokens == 0 {
            self.costs.observe(decodes, time);
        }
        self.texts.read += tokens as u64;
        self.pace.observe(decodes, tokens, work, time);
        if tokens > 0 {
            self.texts.stats.prompt_time += time;
        }
        if decodes > 0 {
            self.texts.stats.longest_step = self.texts.stats.longest_step.max(time);
        }
    }

    /// When the batch could not be read.
    fn after_error(&mut self, error: EngineError, time: Duration, events: &mut Vec<(RequestId, Event)>) {
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
                self.options.draft = Draft::None;
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
    fn after_abort(
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
    fn after_batch(&mut self, time: Duration, events: &mut Vec<(RequestId, Event)>) {
        let mut i = 0;
        while i < self.texts.running.len() {
            let Texts { running, sequences, pages, stats, .. } = &mut self.texts;
            let (request, sequence) = (&mut running[i], &mut sequences[i]);
            let (id, before) = (request.id, request.drafter.total);
            events.extend(request.scored().map(|event| (id, event)));
            let (happened, error) = request.after_batch(time);
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
