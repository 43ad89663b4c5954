//! Many requests, one engine.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::GenerateError;
use super::generation::{Generation, Token};
use super::request::{Event, Failed, Finished, Request, RequestId, Timing};
use crate::cancel::Cancel;
use crate::engine::Engine;
use crate::kv::Sequence;
use crate::model::BatchToken;
use crate::sampler::SamplerError;

/// How batches are formed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulerOptions {
    /// The most tokens of a prompt in one batch; the engine's own limit ([`Engine::batch`]) may be lower. Other texts,
    /// and a cancelled request, wait for no more than one such batch. No result depends on it.
    pub piece: usize,
}

impl Default for SchedulerOptions {
    fn default() -> SchedulerOptions {
        SchedulerOptions { piece: 512 }
    }
}

impl SchedulerOptions {
    /// With pieces of so many tokens, one at least.
    pub fn piece(self, piece: usize) -> SchedulerOptions {
        SchedulerOptions { piece: piece.max(1), ..self }
    }
}

/// Owns the engine and serves requests with it, all at once.
///
/// Requests may be [submitted](Scheduler::submit) between any two steps. A [step](Scheduler::step) is one batch: the
/// next token of every text that is being written, and one piece of the prompt of the oldest request that has not read
/// all of its own. Each text, token and probability is exactly what the request alone would have given.
pub struct Scheduler {
    engine: Engine,
    options: SchedulerOptions,
    /// The next request's number.
    next: u64,
    /// In the order of their arrival.
    requests: Vec<Active>,
    /// The sequence of each of them.
    sequences: Vec<Sequence>,
    batch: Vec<BatchToken>,
    /// Events that the next step will hand out.
    events: Vec<(RequestId, Event)>,
}

/// A request that is being served.
struct Active {
    id: RequestId,
    cancel: Cancel,
    cached: usize,
    /// How many of its tokens the current batch has, and whether they are of the prompt.
    planned: usize,
    in_prompt: bool,
    prefill: Timing,
    decode: Timing,
    /// For the worker that draws this request's token, while others draw those of other requests.
    writing: Mutex<Writing>,
}

struct Writing {
    generation: Generation,
    /// What was drawn in the current batch.
    drawn: Option<Result<Option<Token>, SamplerError>>,
}

/// Takes the logits for a text.
type Draw<'a> = dyn Fn(&mut Generation, &[f32]) -> Result<Option<Token>, SamplerError> + Sync + 'a;

impl Active {
    fn writing(&mut self) -> &mut Writing {
        self.writing.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the current batch, which took `time`, and returns what has happened to this request in it.
    fn after_batch(&mut self, time: Duration) -> Result<Option<Event>, GenerateError> {
        let n = self.planned;
        if n == 0 {
            return Ok(None);
        }
        let timing = if self.in_prompt { &mut self.prefill } else { &mut self.decode };
        timing.tokens += n;
        timing.time += time;
        let Writing { generation, drawn } = self.writing();
        match drawn.take() {
            Some(Ok(token)) => return Ok(token.map(Event::Token)),
            Some(Err(error)) => return Err(error.into()),
            None => generation.advance(n),
        }
        let (read, total) = (generation.read(), generation.prompt_len());
        Ok((read < total).then_some(Event::Prefill { read, total }))
    }

    /// Ends the request with what it has.
    fn finish(self, sequence: Sequence) -> (RequestId, Event) {
        let Writing { generation, .. } = self.writing.into_inner().unwrap_or_else(PoisonError::into_inner);
        let prompt_tokens = generation.prompt_len();
        let (text, stop) = generation.finish();
        let finished = Finished {
            text,
            stop,
            prompt_tokens,
            cached_tokens: self.cached,
            prefill: self.prefill,
            decode: self.decode,
            sequence,
        };
        (self.id, Event::Finished(finished))
    }
}

fn failed(id: RequestId, error: GenerateError, sequence: Option<Sequence>) -> (RequestId, Event) {
    (id, Event::Failed(Failed { error, sequence }))
}

impl Scheduler {
    /// A scheduler with nothing to do.
    pub fn new(engine: Engine) -> Scheduler {
        Scheduler::with_options(engine, SchedulerOptions::default())
    }

    /// A scheduler that forms its batches in this way.
    pub fn with_options(engine: Engine, options: SchedulerOptions) -> Scheduler {
        let (requests, sequences, batch, events) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // A piece of nothing would never end a prompt.
        let options = options.clone().piece(options.piece);
        Scheduler { engine, options, next: 0, requests, sequences, batch, events }
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, for other work between two steps.
    pub fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// Takes a request. If it can't be served, the next step says so.
    pub fn submit(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        let Request { tokens, options, cancel, sequence } = request;
        let ours = sequence.iter().try_for_each(|sequence| self.engine.check_sequence(sequence));
        let checked = ours.and_then(|()| self.engine.check_tokens(&tokens)).map_err(GenerateError::from);
        let (tokenizer, context) = (self.engine.tokenizer().clone(), self.engine.context_length());
        match checked.and_then(|()| Generation::new(tokenizer, tokens, &options, context)) {
            Ok(mut generation) => {
                let mut sequence = sequence.unwrap_or_else(|| self.engine.new_sequence());
                // The logits come from reading the last token, so that is read even if the sequence holds it.
                let cached = sequence.keep_prefix(&generation.tokens()[..generation.prompt_len() - 1]);
                generation.advance(cached);
                let (prefill, decode) = (Timing::default(), Timing::default());
                let writing = Mutex::new(Writing { generation, drawn: None });
                self.requests.push(Active {
                    id,
                    cancel,
                    cached,
                    planned: 0,
                    in_prompt: true,
                    prefill,
                    decode,
                    writing,
                });
                self.sequences.push(sequence);
            }
            Err(error) => self.events.push(failed(id, error, sequence)),
        }
        id
    }

    /// Whether there is anything left to do or to tell.
    pub fn is_busy(&self) -> bool {
        !self.requests.is_empty() || !self.events.is_empty()
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
        let mut events = std::mem::take(&mut self.events);
        self.end_cancelled(&mut events);
        self.form_batch();
        if self.batch.is_empty() {
            return events;
        }
        let started = Instant::now();
        let (requests, batch) = (&self.requests, &self.batch);
        let draw = |i: usize, logits: &[f32]| {
            let request = &requests[batch[i].sequence];
            // Never waits: each request is drawn for by one worker.
            let mut writing = request.writing.lock().unwrap_or_else(PoisonError::into_inner);
            writing.generation.advance(request.planned);
            writing.drawn = Some(take_logits(&mut writing.generation, logits));
        };
        let mut sequences: Vec<&mut Sequence> = self.sequences.iter_mut().collect();
        let engine = &mut self.engine;
        let read = catch_unwind(AssertUnwindSafe(|| engine.forward_each(batch, &mut sequences, &draw)));
        let time = started.elapsed();
        match read {
            Ok(read) => self.after_batch(read.err().map(GenerateError::from), time, &mut events),
            Err(panic) => {
                self.after_panic(time, &mut events);
                self.events = events;
                resume_unwind(panic);
            }
        }
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

    /// Drops all requests and their events.
    pub fn clear(&mut self) {
        self.requests.clear();
        self.sequences.clear();
        self.events.clear();
    }

    /// Removes those that somebody has cancelled.
    fn end_cancelled(&mut self, events: &mut Vec<(RequestId, Event)>) {
        let mut i = 0;
        while i < self.requests.len() {
            if self.requests[i].cancel.cancelled() {
                events.push(self.requests.remove(i).finish(self.sequences.remove(i)));
            } else {
                i += 1;
            }
        }
    }

    /// The next token of all texts, and a piece of the first prompt that is not read yet.
    fn form_batch(&mut self) {
        self.batch.clear();
        let (mut piece_free, most) = (true, self.options.piece.min(self.engine.batch()));
        for (sequence, request) in self.requests.iter_mut().enumerate() {
            let generation = &request.writing.get_mut().unwrap_or_else(PoisonError::into_inner).generation;
            request.in_prompt = generation.in_prompt();
            if request.in_prompt && !std::mem::take(&mut piece_free) {
                request.planned = 0;
                continue;
            }
            let unread = generation.unread();
            request.planned = unread.len().min(most);
            let last = unread.len().checked_sub(1).filter(|_| generation.wants_logits());
            let tokens = unread[..request.planned].iter().enumerate();
            self.batch.extend(tokens.map(|(i, &token)| BatchToken { token, sequence, logits: Some(i) == last }));
        }
    }

    /// As [`Scheduler::after_batch`], when the batch has ended in a panic.
    fn after_panic(&mut self, time: Duration, events: &mut Vec<(RequestId, Event)>) {
        let mut i = 0;
        while i < self.requests.len() {
            if self.requests[i].writing.is_poisoned() {
                // Nobody knows how far drawing came.
                let id = self.requests.remove(i).id;
                events.push(failed(id, GenerateError::Panicked, Some(self.sequences.remove(i))));
                continue;
            }
            let writing = self.requests[i].writing();
            if writing.drawn.is_none() {
                self.sequences[i].truncate(writing.generation.read());
                self.requests[i].planned = 0;
            } else {
                // The engine counts tokens when a batch is over; all layers have these by now.
                let sequence = &mut self.sequences[i];
                let read = sequence.len()..writing.generation.read();
                writing.generation.tokens()[read].iter().for_each(|&token| sequence.push(token));
            }
            i += 1;
        }
        self.after_batch(None, time, events);
    }

    /// Adds what the batch has brought to `events`, and removes the requests that have ended. An `error` fails those
    /// that took part in the batch.
    fn after_batch(&mut self, error: Option<GenerateError>, time: Duration, events: &mut Vec<(RequestId, Event)>) {
        let mut i = 0;
        while i < self.requests.len() {
            let request = &mut self.requests[i];
            let brought = match &error {
                Some(error) if request.planned > 0 => Err(error.clone()),
                _ => request.after_batch(time),
            };
            let id = request.id;
            match brought {
                Ok(event) => {
                    events.extend(event.map(|event| (id, event)));
                    if request.writing().generation.stop().is_none() {
                        i += 1;
                    } else {
                        events.push(self.requests.remove(i).finish(self.sequences.remove(i)));
                    }
                }
                Err(error) => {
                    self.requests.remove(i);
                    events.push(failed(id, error, Some(self.sequences.remove(i))));
                }
            }
        }
    }
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::engine::LoadOptions;
    use crate::generate::options::GenerateOptions;
    use crate::generate::prompt::prompt_tokens;

    /// Three texts side by side. When the second has `panics_at` tokens, drawing its next one panics.
    fn texts(panics_at: Option<usize>) -> HashMap<RequestId, (Vec<u32>, bool)> {
        let model = crate::open::open("demo").unwrap();
        let engine = Engine::load(model, &LoadOptions::default().threads(Some(2)), &|_, _| {}).unwrap();
        let mut scheduler = Scheduler::new(engine);
        for text in ["Once upon a time", "The old king of the mountain", "A miller"] {
            let tokens = prompt_tokens(scheduler.engine().tokenizer(), text, true);
            scheduler.submit(Request::new(tokens, GenerateOptions::default().max_tokens(12)));
        }
        let panics = |generation: &Generation| {
            let written = generation.tokens().len() - generation.prompt_len();
            generation.prompt_len() > 5 && Some(written) == panics_at
        };
        let mut heard: HashMap<RequestId, (Vec<u32>, bool)> = HashMap::new();
        while scheduler.is_busy() {
            let step = AssertUnwindSafe(|| {
                scheduler.step_with(&|generation, logits| {
                    assert!(!panics(generation), "a test");
                    generation.take_logits(logits)
                })
            });
            for (id, event) in catch_unwind(step).unwrap_or_default() {
                let (tokens, failed) = heard.entry(id).or_default();
                match event {
                    Event::Token(token) => tokens.push(token.id),
                    Event::Failed(Failed { error, .. }) => *failed = error == GenerateError::Panicked,
                    _ => {}
                }
            }
        }
        heard
    }

    /// A panic while one text is drawn takes nothing from the others.
    #[test]
    fn a_panic_ends_one_text_and_loses_nothing_of_the_others() {
        let whole = texts(None);
        for panics_at in [0, 1, 5] {
            let found = texts(Some(panics_at));
            assert_eq!(found[&RequestId(0)], whole[&RequestId(0)]);
            assert_eq!(found[&RequestId(2)], whole[&RequestId(2)]);
            let (tokens, failed) = &found[&RequestId(1)];
            assert!(*failed && tokens[..] == whole[&RequestId(1)].0[..panics_at], "{panics_at}: {tokens:?}");
        }
    }
}
