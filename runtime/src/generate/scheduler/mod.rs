//! Many requests, one engine.
//!
//! - `texts`: the requests that are served or wait; `active`: one of them; `pages`: the memory of keys and values.
//! - `guessing`: what is read ahead; `draft`: where guesses come from; `outcome`: what has come of a batch.
//! - `masks`: the thread that follows grammars; `embeddings`: vectors of texts.
//! - `pace`: how much of a prompt fits into a step; `options`, `stats`: what goes in and what can be seen.

mod active;
mod draft;
#[cfg(all(test, feature = "demo"))]
mod draft_tests;
mod embeddings;
mod guessing;
mod masks;
mod options;
mod outcome;
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
use super::request::{Event, Failed, Finished, Request, RequestId};
use super::token::Token;
use crate::cancel::Cancel;
use crate::embedding::EmbedOptions;
use crate::engine::Engine;
use crate::kv::{CacheDirError, Sequence, Store};
use crate::model::BatchToken;
use active::{Active, failed};
pub use draft::DraftModelError;
use embeddings::Embeddings;
use guessing::Guessing;
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
/// What a text may go on with is guessed ([`SchedulerOptions::draft`], [`Scheduler::set_draft_model`]) where that is
/// worth it: a step then brings several tokens of a text.
pub struct Scheduler {
    engine: Engine,
    options: SchedulerOptions,
    texts: Texts,
    embeddings: Embeddings,
    pace: Pace,
    guessing: Guessing,
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
            guessing: Guessing::default(),
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
    /// alone and needs it, more than the new budget is taken for a while. A draft model has its part of
    /// the budget.
    pub fn set_kv_memory(&mut self, bytes: Option<u64>) {
        let own = self.guessing.share(bytes, self.engine.page_bytes());
        self.options.kv_memory = own;
        let used = || self.engine.kv_bytes();
        self.texts.pages.set_budget(own, self.options.prefix_cache, used);
    }

    /// Bytes of keys and values for [`PAGE`](crate::kv::PAGE) positions of a text, in the engine and in the draft model
    /// together.
    pub fn page_bytes(&self) -> u64 {
        self.engine.page_bytes() + self.guessing.page_bytes()
    }

    /// Has `draft` guess what texts may go on with, besides [`SchedulerOptions::draft`]: a smaller model of the same
    /// vocabulary. No text changes; how many tokens it guesses, and whether it is asked at all, is decided by how often
    /// it was right and by what its steps have cost. Its keys and values are part of [`SchedulerOptions::kv_memory`].
    ///
    /// # Errors
    /// [`DraftModelError`]: the vocabularies are not the same.
    pub fn set_draft_model(&mut self, draft: Engine) -> Result<(), DraftModelError> {
        self.guessing.set_model(draft, &self.engine)?;
        self.set_kv_memory(self.options.kv_memory);
        Ok(())
    }

    /// Turns guesses off, and on again.
    pub fn set_guessing(&mut self, on: bool) {
        self.guessing.off = !on;
    }

    /// For measurements: the guesses of the draft model are right with the probability `acceptance`, whatever it says.
    /// `texts` are what will be written, each with its prompt; other texts have no guesses of the model any more.
    pub fn simulate_acceptance(&mut self, acceptance: f64, texts: Vec<Vec<u32>>) {
        self.guessing.simulate(acceptance, texts);
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
            draft_kv_bytes: self.guessing.kv_bytes(),
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
        let forward = started.elapsed();
        let time = forward + self.guessing.time;
        match read {
            Ok(Ok(())) => {
                self.observe(work, forward);
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
        self.guessing.clear();
        self.events.clear();
    }

    /// Gives up what is kept for later requests. Returns whether anything was.
    pub fn forget(&mut self) -> bool {
        self.guessing.clear();
        self.texts.pages.clear()
    }

    /// The next token of all texts, and pieces of prompts, the shortest first. Returns the work of these pieces, and
    /// the number of those texts.
    fn form_batch(&mut self, events: &mut Vec<(RequestId, Event)>) -> (f64, usize) {
        self.batch.clear();
        self.guessing.time = Duration::ZERO;
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
        if most == self.most {
            self.guessing.guess(&mut self.texts, self.engine.context_length(), &self.options);
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

    /// Learns from a batch what tokens cost.
    fn observe(&mut self, work: f64, time: Duration) {
        let (decodes, tokens) = self.texts.planned();
        if tokens == 0 {
            self.guessing.costs.observe(decodes, time);
        }
        self.texts.read += tokens as u64;
        self.pace.observe(decodes, tokens, work, time);
        if tokens > 0 {
            self.texts.stats.prompt_time += time;
        }
        if decodes > 0 {
            self.texts.stats.longest_step = self.texts.stats.longest_step.max(time + self.guessing.time);
        }
    }
}
