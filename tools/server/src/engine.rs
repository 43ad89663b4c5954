//! The thread that owns a model, and the handle by which others talk to it.
//!
//! Nobody waits for the thread and it waits for nobody: requests go in through a channel, what happens to them comes
//! back through another, and with nothing to do the thread sleeps in the first one. A text whose listener is gone is
//! cancelled within a step.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use quipu_runtime::Cancel;
use quipu_runtime::chat::answer::AnswerReader;
use quipu_runtime::embedding::EmbedOptions;
use quipu_runtime::generate::{
    Drafted, Event, Finished, GenerateError, NearMiss, Request, RequestId, Scheduler, StopReason, Timing, Token,
};
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::Value as Json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle as TaskHandle;

use crate::counters::Counters;
use crate::error::ApiError;
use crate::mcp::hosted::Outcome;
use crate::said::Call;

/// Who is told what happens: a line for a person.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What has happened to a text.
#[derive(Clone, Debug)]
pub enum Heard {
    /// Its turn has come.
    Started {
        /// Tokens of its prompt that need not be read.
        cached: usize,
    },
    /// So many tokens of its prompt are read.
    Progress {
        /// Tokens that are read, those included that were known already.
        read: usize,
        /// All tokens of the prompt.
        total: usize,
    },
    /// How likely the next tokens of its prompt were.
    Prompt(Vec<Token>),
    /// A token was written.
    Token(Token),
    /// It has ended.
    End(End),
    /// It could not be written.
    Failed(GenerateError),
    /// It cannot go on, such as when the guard could not judge it.
    Stopped(ApiError),
    /// A call that the client has agreed to is being run.
    Approved(Call),
    /// What came of a call that the server has run: the number of its part in the answer, and the result.
    Called(usize, Outcome),
    /// Another text begins, which goes on with the answer of the one before, and who reads it.
    Next(AnswerReader),
}

impl Heard {
    /// What a text's event says, if it is for the reader; vectors are none.
    pub fn of(event: Event) -> Option<Heard> {
        match event {
            Event::Started { cached, .. } => Some(Heard::Started { cached }),
            Event::Prefill { read, total } => Some(Heard::Progress { read, total }),
            Event::Prompt(tokens) => Some(Heard::Prompt(tokens)),
            Event::Token(token) => Some(Heard::Token(token)),
            Event::Finished(finished) => Some(Heard::End(finished.into())),
            Event::Failed(failed) => Some(Heard::Failed(failed.error)),
            _ => None,
        }
    }

    /// How much of a prompt of `total` tokens is read where its turn has come.
    fn begins(&self, total: usize) -> Option<Heard> {
        match *self {
            Heard::Started { cached } => Some(Heard::Progress { read: cached, total }),
            _ => None,
        }
    }

    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(self, Heard::End(_) | Heard::Failed(_) | Heard::Stopped(_))
    }
}

/// How a text has ended: [`Finished`] without its sequence, whose pages would count as used while somebody holds it.
#[derive(Clone, Debug)]
pub struct End {
    /// The text that was still held back.
    pub text: String,
    /// Why it ended.
    pub stop: StopReason,
    /// The stop string that ended it.
    pub stop_string: Option<String>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that did not have to be read.
    pub cached_tokens: usize,
    /// Reading the prompt, and drawing the first token.
    pub prefill: Timing,
    /// All that came after it.
    pub decode: Timing,
    /// Tokens that were guessed.
    pub drafted: Drafted,
    /// What the guard has found, if there is one.
    pub note: Option<Arc<Note>>,
}

/// What a guard has found about a text and what was said before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// Whether the text ends here because of it.
    pub refused: bool,
    /// What is told of it: `{"prompt": verdict, "answer": verdict}`, each if it was asked for.
    pub told: Json,
}

impl From<Finished> for End {
    fn from(finished: Finished) -> End {
        let Finished { text, stop, stop_string, prompt_tokens, cached_tokens, prefill, decode, drafted, .. } = finished;
        End { text, stop, stop_string, prompt_tokens, cached_tokens, prefill, decode, drafted, note: None }
    }
}

/// Texts that belong together: what happens to them, and the end of all of them when this is dropped.
#[derive(Debug)]
pub struct Running {
    /// The text's number among them, and what has happened. Closed when the last of them has ended.
    pub events: UnboundedReceiver<(usize, Heard)>,
    cancels: Vec<Cancel>,
    /// What makes the events of those of others.
    _task: Option<Task>,
}

/// Something that goes on beside the connections, and ends when this is dropped.
#[derive(Debug)]
pub struct Task(TaskHandle<()>);

impl Task {
    /// This one.
    pub fn new(task: TaskHandle<()>) -> Task {
        Task(task)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Running {
    /// The same texts, of which is told what comes from `events`.
    pub fn replaced(&self, events: UnboundedReceiver<(usize, Heard)>) -> Running {
        Running { events, cancels: self.cancels.clone(), _task: None }
    }

    /// Texts of which is told what `task` tells.
    pub fn of_task(events: UnboundedReceiver<(usize, Heard)>, task: Task) -> Running {
        Running { events, cancels: Vec::new(), _task: Some(task) }
    }

    /// Ends text number `text`.
    pub fn cancel(&self, text: usize) {
        self.cancels.get(text).inspect(|cancel| cancel.cancel());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancels.iter().for_each(Cancel::cancel);
    }
}

/// How many texts a model writes and lets wait.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Texts that are written side by side.
    pub running: usize,
    /// Texts that wait for their turn.
    pub waiting: usize,
}

/// Too many wait already; the number of seconds after which another try makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy(pub u32);

/// The vectors of some texts.
pub type Vectors = Result<Vec<Vec<f32>>, GenerateError>;

/// Texts that become vectors; nobody makes them any more when this is dropped.
#[derive(Debug)]
pub struct Embedding {
    /// The vectors, as many as there are texts.
    pub vectors: oneshot::Receiver<Vectors>,
    cancel: Cancel,
}

impl Drop for Embedding {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

enum Job {
    Texts(Vec<Request>, UnboundedSender<(usize, Heard)>),
    Embed(Vec<Vec<u32>>, EmbedOptions, Cancel, oneshot::Sender<Vectors>),
    KvMemory(Option<u64>),
}

/// By which a model is asked for texts. Its thread ends when all clones are gone.
#[derive(Clone, Debug)]
pub struct Handle {
    jobs: Sender<Job>,
    counters: Arc<Counters>,
    room: Room,
}

impl Handle {
    /// Starts a thread for the model, which counts what it does on `counters`. It ends, and gives up the model, when
    /// all clones of the handle are gone.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(
        scheduler: Scheduler,
        room: Room,
        tell: Tell,
        counters: Arc<Counters>,
    ) -> std::io::Result<(Handle, JoinHandle<()>)> {
        let (jobs, inbox) = channel();
        let (listeners, embeddings) = (HashMap::new(), HashMap::new());
        let thread = Thread { scheduler, listeners, embeddings, counters: counters.clone(), tell };
        let builder = std::thread::Builder::new().name("quipu-engine".into());
        let thread = builder.spawn(move || thread.run(&inbox))?;
        Ok((Handle { jobs, counters, room }, thread))
    }

    /// What the model has done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many texts it writes and lets wait.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Asks for these texts.
    ///
    /// # Errors
    /// When too many wait already; then none of them is written.
    pub fn submit(&self, requests: Vec<Request>) -> Result<Running, Busy> {
        self.enter(requests.len())?;
        let (to, events) = unbounded_channel();
        let cancels = requests.iter().map(|request| request.cancel.clone()).collect();
        // A thread that is gone closes `events`, and that is heard.
        let _ = self.jobs.send(Job::Texts(requests, to));
        Ok(Running { events, cancels, _task: None })
    }

    /// Asks for the vectors of these texts.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn embed(&self, texts: Vec<Vec<u32>>, options: EmbedOptions) -> Result<Embedding, Busy> {
        self.enter(1)?;
        let ((to, vectors), cancel) = (oneshot::channel(), Cancel::new());
        let _ = self.jobs.send(Job::Embed(texts, options, cancel.clone(), to));
        Ok(Embedding { vectors, cancel })
    }

    /// Sets the bytes that keys and values may take, from the next step on.
    pub fn set_kv_memory(&self, bytes: Option<u64>) {
        let _ = self.jobs.send(Job::KvMemory(bytes));
    }

    /// Counts `more` texts in, if there is room for them.
    fn enter(&self, more: usize) -> Result<(), Busy> {
        let room = self.room.running + self.room.waiting;
        self.counters.enter(more, room).map_err(|seconds| {
            self.counters.refused.add(1);
            Busy(seconds)
        })
    }
}

/// Who wants to hear of a text.
struct Listener {
    number: usize,
    prompt: usize,
    to: UnboundedSender<(usize, Heard)>,
    cancel: Cancel,
    since: Instant,
    last_token: Option<Instant>,
}

struct Thread {
    scheduler: Scheduler,
    listeners: HashMap<RequestId, Listener>,
    /// Who waits for vectors, and how many tokens their texts have.
    embeddings: HashMap<RequestId, (oneshot::Sender<Vectors>, usize)>,
    counters: Arc<Counters>,
    tell: Tell,
}

impl Thread {
    fn run(mut self, inbox: &Receiver<Job>) {
        loop {
            if !self.scheduler.is_busy() {
                match inbox.recv() {
                    Ok(job) => self.take(job),
                    Err(_) => return self.counters.rest(),
                }
            }
            while let Ok(job) = inbox.try_recv() {
                self.take(job);
            }
            self.step();
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Texts(requests, to) => {
                for (number, request) in requests.into_iter().enumerate() {
                    let (to, cancel, since) = (to.clone(), request.cancel.clone(), Instant::now());
                    let prompt = request.tokens.len();
                    let listener = Listener { number, prompt, to, cancel, since, last_token: None };
                    self.listeners.insert(self.scheduler.submit(request), listener);
                }
            }
            Job::Embed(texts, options, cancel, to) => {
                let tokens = texts.iter().map(Vec::len).sum();
                self.embeddings.insert(self.scheduler.embed(texts, options, cancel), (to, tokens));
            }
            Job::KvMemory(bytes) => self.scheduler.set_kv_memory(bytes),
        }
    }

    fn step(&mut self) {
        // A panic is told by the next step, to the one text that it is about.
        let events = catch_unwind(AssertUnwindSafe(|| self.scheduler.step())).unwrap_or_default();
        let stats = self.scheduler.stats();
        self.counters.running.set(stats.running as u64);
        self.counters.steps.set(stats.steps);
        self.counters.pages.set(stats.pages_used);
        self.counters.page_bytes.set(stats.page_bytes);
        self.counters.preempted.set(stats.preempted);
        self.counters.evicted.set(stats.evicted_pages);
        self.counters.drafts.set(stats.drafts);
        self.counters.drafted_tokens.set(stats.drafted_tokens);
        self.counters.accepted_tokens.set(stats.accepted_tokens);
        self.counters.texts_in_steps.add(stats.running as u64);
        for (id, event) in events {
            if let Some((to, tokens)) = self.embeddings.remove(&id) {
                let vectors = match event {
                    Event::Embedded(vectors) => Ok(vectors),
                    Event::Failed(failed) => Err(failed.error),
                    _ => continue,
                };
                self.counters.embedded(if vectors.is_ok() { tokens } else { 0 });
                let _ = to.send(vectors);
                continue;
            }
            let Some(listener) = self.listeners.get_mut(&id) else { continue };
            match &event {
                Event::Started { near_miss: Some(near_miss), .. } => {
                    (self.tell)(&miss(near_miss, self.scheduler.engine().tokenizer()));
                }
                Event::Token(_) => self.counters.token(listener.since, listener.last_token.replace(Instant::now())),
                Event::Finished(finished) => self.counters.finished(listener.since, finished),
                _ => {}
            }
            let Some(heard) = Heard::of(event) else { continue };
            let (is_last, progress) = (heard.is_last(), heard.begins(listener.prompt));
            for heard in std::iter::once(heard).chain(progress) {
                if listener.to.send((listener.number, heard)).is_err() {
                    listener.cancel.cancel();
                }
            }
            if is_last {
                self.listeners.remove(&id);
                self.counters.leave();
            }
        }
    }
}

/// Why a prompt that was seen before has to be read again: its first other tokens.
fn miss(near_miss: &NearMiss, tokenizer: &Tokenizer) -> String {
    let text = |tokens: &[u32]| format!("{:?}", tokenizer.decode(tokens, true));
    let (kept, found) = (text(&near_miss.cached), text(&near_miss.prompt));
    format!("a prompt is that of an earlier request up to token {}, where {kept} became {found}", near_miss.position)
}
