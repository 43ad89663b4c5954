//! Texts that are to become vectors, read piece by piece between the steps of texts that are written.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::pace::Pace;
use crate::cancel::Cancel;
use crate::embedding::{EmbedOptions, Pool};
use crate::engine::{Engine, EngineError};
use crate::generate::error::GenerateError;
use crate::generate::request::{Event, Failed, RequestId};
use crate::kv::Sequence;

/// A request for the vectors of some texts.
struct Job {
    id: RequestId,
    texts: Vec<Vec<u32>>,
    options: EmbedOptions,
    cancel: Cancel,
    /// Those that are ready.
    vectors: Vec<Vec<f32>>,
    /// What is read of the text after them, and what has come of it.
    begun: Option<(Sequence, Pool)>,
}

/// Requests for vectors, served one after the other.
#[derive(Default)]
pub(super) struct Embeddings {
    jobs: VecDeque<Job>,
    /// Whether the step at hand is theirs: beside texts that are written they take turns with the prompts of others.
    pub(super) turn: bool,
}

impl Embeddings {
    pub(super) fn add(&mut self, id: RequestId, texts: Vec<Vec<u32>>, options: EmbedOptions, cancel: Cancel) {
        let vectors = Vec::with_capacity(texts.len());
        self.jobs.push_back(Job { id, texts, options, cancel, vectors, begun: None });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.jobs.clear();
    }

    /// Bytes of the keys and values of what is being read.
    pub(super) fn bytes(&self) -> u64 {
        self.jobs.iter().filter_map(|job| job.begun.as_ref()).map(|(sequence, _)| sequence.bytes() as u64).sum()
    }

    /// Before a step: ends those that nobody wants any more, and decides whose turn it is.
    pub(super) fn begin_step(&mut self, events: &mut Vec<(RequestId, Event)>) {
        self.jobs.retain(|job| {
            let wanted = !job.cancel.cancelled();
            if !wanted {
                events.push(failed(job.id, GenerateError::Cancelled));
            }
            wanted
        });
        self.turn = !self.turn && !self.jobs.is_empty();
    }

    /// Reads as much of the first request as `pace` has time for beside `decodes` texts, at most `most` tokens. Returns
    /// what has become of it, if it has ended.
    pub(super) fn read(
        &mut self,
        engine: &mut Engine,
        pace: &mut Pace,
        decodes: usize,
        most: usize,
    ) -> Option<(RequestId, Event)> {
        let mut job = self.jobs.pop_front()?;
        let read = catch_unwind(AssertUnwindSafe(|| job.read(engine, pace, decodes, most)));
        match read {
            Ok(Ok(())) if job.vectors.len() < job.texts.len() => {
                self.jobs.push_front(job);
                None
            }
            Ok(Ok(())) => Some((job.id, Event::Embedded(job.vectors))),
            Ok(Err(error)) => Some(failed(job.id, error.into())),
            Err(_) => Some(failed(job.id, GenerateError::Panicked)),
        }
    }
}

impl Job {
    /// Reads a piece of its next text.
    fn read(&mut self, engine: &mut Engine, pace: &mut Pace, decodes: usize, most: usize) -> Result<(), EngineError> {
        let Some(text) = self.texts.get(self.vectors.len()) else { return Ok(()) };
        if self.begun.is_none() {
            // What cannot be read to its end is not begun.
            let sequence = engine.new_sequence();
            engine.check_tokens(text)?;
            engine.check_room(&sequence, text.len())?;
            self.begun = Some((sequence, Pool::new(self.options, engine.config().embedding)));
        }
        let Some((sequence, pool)) = &mut self.begun else { return Ok(()) };
        let depth = sequence.len();
        let tokens = pace.tokens(pace.room(decodes), depth, decodes, most).min(text.len() - depth);
        let started = Instant::now();
        engine.embed_piece(text, depth..depth + tokens, sequence, pool)?;
        pace.observe(0, tokens, pace.work(depth, tokens), started.elapsed());
        if depth + tokens == text.len()
            && let Some((_, pool)) = self.begun.take()
        {
            self.vectors.push(pool.finish());
        }
        Ok(())
    }
}

fn failed(id: RequestId, error: GenerateError) -> (RequestId, Event) {
    (id, Event::Failed(Failed { error, sequence: None }))
}
