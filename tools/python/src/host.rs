//! The thread that owns a model, and the handle by which others talk to it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use quipu_runtime::Cancel;
use quipu_runtime::embedding::EmbedOptions;
use quipu_runtime::generate::{Event, GenerateError, Request, RequestId, Scheduler};
use quipu_server::engine::Heard;

/// What has happened to a text, and which of those that were asked for together it is.
pub type News = (usize, Heard);

/// The vectors of some texts.
pub type Vectors = Result<Vec<Vec<f32>>, GenerateError>;

enum Job {
    Texts(Vec<Request>, Sender<News>),
    Embed(Vec<Vec<u32>>, EmbedOptions, Cancel, Sender<Vectors>),
    /// Anything else, between two steps of the texts.
    Work(Box<dyn FnOnce(&mut Scheduler) + Send>),
}

/// By which a model is asked for things. Its thread ends when this is gone and nothing is left to do.
#[derive(Debug)]
pub struct Host {
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    process: u32,
}

/// The model is closed, or was opened by another process: a fork has no threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It is closed.
    Closed,
    /// This process is a fork of the one that opened it.
    Forked,
}

impl Host {
    /// Starts a thread that makes itself a scheduler with `make` and then serves.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(make: impl FnOnce() -> Option<Scheduler> + Send + 'static) -> std::io::Result<Host> {
        let (jobs, inbox) = channel();
        let builder = thread::Builder::new().name("quipu-engine".into());
        let thread = builder.spawn(move || {
            if let Some(scheduler) = make() {
                Served { scheduler, listeners: HashMap::new(), embeddings: HashMap::new() }.run(&inbox);
            }
        })?;
        Ok(Host { jobs: Some(jobs).into(), thread: Some(thread).into(), process: std::process::id() })
    }

    fn ask(&self, job: Job) -> Result<(), Gone> {
        if std::process::id() != self.process {
            return Err(Gone::Forked);
        }
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(Gone::Closed)
    }

    /// Asks for these texts.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn submit(&self, requests: Vec<Request>) -> Result<Receiver<News>, Gone> {
        let (to, news) = channel();
        self.ask(Job::Texts(requests, to)).map(|()| news)
    }

    /// Asks for the vectors of these texts.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn embed(
        &self,
        texts: Vec<Vec<u32>>,
        options: EmbedOptions,
        cancel: Cancel,
    ) -> Result<Receiver<Vectors>, Gone> {
        let (to, vectors) = channel();
        self.ask(Job::Embed(texts, options, cancel, to)).map(|()| vectors)
    }

    /// Has `work` done with the scheduler, between two steps of the texts.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Scheduler) -> T + Send + 'static,
    ) -> Result<Receiver<T>, Gone> {
        let (to, done) = channel();
        self.ask(Job::Work(Box::new(move |scheduler| drop(to.send(work(scheduler)))))).map(|()| done)
    }

    /// Ends the thread, once the texts have ended that it writes, and gives up the model.
    pub fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A fork has no such thread. One that has panicked has told so.
        if let Some(thread) = thread.filter(|_| std::process::id() == self.process) {
            let _ = thread.join();
        }
    }
}

/// Who wants to hear of a text.
struct Listener {
    number: usize,
    to: Sender<News>,
    cancel: Cancel,
}

struct Served {
    scheduler: Scheduler,
    listeners: HashMap<RequestId, Listener>,
    embeddings: HashMap<RequestId, Sender<Vectors>>,
}

impl Served {
    fn run(mut self, inbox: &Receiver<Job>) {
        loop {
            if !self.scheduler.is_busy() {
                match inbox.recv() {
                    Ok(job) => self.take(job),
                    Err(_) => return,
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
                    let listener = Listener { number, to: to.clone(), cancel: request.cancel.clone() };
                    self.listeners.insert(self.scheduler.submit(request), listener);
                }
            }
            Job::Embed(texts, options, cancel, to) => {
                self.embeddings.insert(self.scheduler.embed(texts, options, cancel), to);
            }
            // Whoever waits for work that panicked hears that nothing comes.
            Job::Work(work) => drop(catch_unwind(AssertUnwindSafe(|| work(&mut self.scheduler)))),
        }
    }

    fn step(&mut self) {
        // A panic is told by the next step, to the one text that it is about.
        let events = catch_unwind(AssertUnwindSafe(|| self.scheduler.step())).unwrap_or_default();
        for (id, event) in events {
            if let Some(to) = self.embeddings.remove(&id) {
                let vectors = match event {
                    Event::Embedded(vectors) => Ok(vectors),
                    Event::Failed(failed) => Err(failed.error),
                    _ => continue,
                };
                let _ = to.send(vectors);
                continue;
            }
            let Some(listener) = self.listeners.get(&id) else { continue };
            let Some(heard) = Heard::of(event) else { continue };
            let is_last = heard.is_last();
            if listener.to.send((listener.number, heard)).is_err() {
                listener.cancel.cancel();
            }
            if is_last {
                self.listeners.remove(&id);
            }
        }
    }
}
