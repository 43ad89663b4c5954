//! Guesses by a smaller model of the same vocabulary.
//!
//! It reads what the texts have read, each into a sequence of its own, and draws from its logits what the text would
//! draw if they were the right ones, with the same random numbers. What it has read and the text has not said is
//! forgotten when the text goes on.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cost::Costs;
use super::simulated::Simulated;
use crate::engine::{Engine, EngineError};
use crate::generate::foresight::Foresight;
use crate::generate::request::RequestId;
use crate::generate::scheduler::pace::Recent;
use crate::kv::Sequence;
use crate::model::BatchToken;

/// Texts that lag behind by no more are read to their end together with the first guess.
pub(crate) const NEAR: usize = 16;

/// The first piece of a text that is far behind, until it is known what tokens cost,
const FIRST_PIECE: usize = 64;

/// and the most of one.
const PIECE: usize = 512;

/// Texts that have ended and may be gone on with, at most.
const KEPT: usize = 64;

/// The draft model, and what it has read.
pub(crate) struct DraftModel {
    engine: Engine,
    /// Tokens of the model that it guesses for.
    vocabulary: usize,
    pub(crate) costs: Costs,
    /// Seconds for each token of a piece.
    unit: Recent,
    sequences: HashMap<RequestId, Sequence>,
    /// Those of texts that have ended, the youngest last: what begins alike need not be read again.
    ended: Vec<Sequence>,
    /// Bytes of keys and values that there may be; `None` for no limit.
    budget: Option<u64>,
    pub(crate) simulated: Option<Simulated>,
}

/// A text for which tokens are to be guessed.
pub(crate) struct Task<'a> {
    pub(crate) id: RequestId,
    pub(crate) tokens: &'a [u32],
    pub(crate) foresight: Foresight,
    /// How many guesses are wanted.
    pub(crate) most: usize,
}

/// A task at work.
struct Work {
    foresight: Foresight,
    /// What was guessed last, or that nothing can be.
    next: Option<u32>,
}

impl DraftModel {
    pub(crate) fn new(engine: Engine, vocabulary: usize) -> DraftModel {
        DraftModel {
            engine,
            vocabulary,
            costs: Costs::default(),
            unit: Recent::default(),
            sequences: HashMap::new(),
            ended: Vec::new(),
            budget: None,
            simulated: None,
        }
    }

    /// Bytes of a page of its keys and values.
    pub(crate) fn page_bytes(&self) -> u64 {
        self.engine.page_bytes()
    }

    /// Bytes of all that it has read.
    pub(crate) fn kv_bytes(&self) -> u64 {
        self.engine.kv_bytes()
    }

    /// Sets the bytes that its keys and values may take. What is beyond it goes at once.
    pub(crate) fn set_budget(&mut self, budget: Option<u64>) {
        self.budget = budget;
        if !self.make_room(0) {
            self.sequences.clear();
        }
    }

    /// Forgets all that it has read.
    pub(crate) fn clear(&mut self) {
        self.sequences.clear();
        self.ended.clear();
    }

    /// Forgets the texts that are not among `running`, but for what later ones may begin with.
    pub(crate) fn keep_only(&mut self, running: impl Fn(RequestId) -> bool) {
        let most = if self.budget.is_some() { KEPT } else { 1 };
        for (_, sequence) in self.sequences.extract_if(|&id, _| !running(id)) {
            self.ended.retain(|other| !sequence.tokens().starts_with(other.tokens()));
            self.ended.push(sequence);
        }
        let surplus = self.ended.len().saturating_sub(most);
        self.ended.drain(..surplus);
    }

    /// How many of `tokens` it has to read before it can guess what follows; `None` if it can't read them.
    pub(crate) fn behind(&mut self, id: RequestId, tokens: &[u32]) -> Option<usize> {
        if tokens.len() >= self.engine.context_length() {
            return None;
        }
        // The last token is read in any case, for the logits after it.
        let wanted = &tokens[..tokens.len() - 1];
        let read = match self.sequences.get_mut(&id) {
            Some(sequence) => sequence.keep_prefix(wanted),
            None => {
                let mut sequence = self.begin(wanted);
                let read = sequence.keep_prefix(wanted);
                self.sequences.insert(id, sequence);
                read
            }
        };
        self.engine.check_tokens(&tokens[read..]).ok().map(|()| tokens.len() - read)
    }

    /// A sequence that begins as `tokens` do, as far as any does.
    fn begin(&self, tokens: &[u32]) -> Sequence {
        let common = |sequence: &&Sequence| sequence.tokens().iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let best = self.sequences.values().chain(&self.ended).max_by_key(common);
        best.filter(|best| common(best) > 0).cloned().unwrap_or_else(|| self.engine.new_sequence())
    }

    /// Seconds that reading so many tokens takes, as far as is known.
    pub(crate) fn reading(&self, tokens: usize) -> f64 {
        self.unit.median().unwrap_or(0.0) * tokens as f64
    }

    /// Reads of `tokens` what a text is behind, as much as fits into `time` (zero: all); not the last one.
    pub(crate) fn catch_up(&mut self, id: RequestId, tokens: &[u32], time: Duration) {
        let Some(mut sequence) = self.sequences.remove(&id) else { return };
        let started = Instant::now();
        loop {
            let rest = &tokens[sequence.len()..tokens.len() - 1];
            let n = match self.unit.median() {
                None => FIRST_PIECE,
                Some(_) if time.is_zero() => PIECE,
                Some(unit) => ((time.saturating_sub(started.elapsed()).as_secs_f64() / unit) as usize).min(PIECE),
            };
            let n = n.min(self.engine.batch()).min(rest.len());
            if rest.is_empty() || n < NEAR.min(rest.len()) || !self.make_room(sequence.bytes_for(n)) {
                break;
            }
            let batch: Vec<_> =
                rest[..n].iter().map(|&token| BatchToken { token, sequence: 0, logits: false }).collect();
            let begun = Instant::now();
            if self.engine.forward(&batch, &mut [&mut sequence], &mut |_, _| {}).is_err() {
                break;
            }
            if n >= NEAR {
                self.unit.push(begun.elapsed().as_secs_f64() / n as f64);
            }
        }
        self.sequences.insert(id, sequence);
    }

    /// Guesses for all of `tasks`, step by step together; each gets as many tokens as it wants, or fewer, in the order
    /// of the tasks. `None` where the model can't read the text.
    pub(crate) fn guess(&mut self, tasks: Vec<Task<'_>>) -> Vec<Option<Vec<u32>>> {
        let mut sequences = Vec::new();
        let mut unread: Vec<Vec<u32>> = Vec::new();
        let (mut ids, mut found) = (Vec::new(), Vec::new());
        let mut work = Vec::new();
        let mut about = Vec::new();
        for Task { id, tokens, foresight, most } in tasks {
            let sequence = self.sequences.remove(&id).unwrap_or_else(|| self.engine.new_sequence());
            unread.push(tokens[sequence.len()..].to_vec());
            sequences.push(sequence);
            ids.push(id);
            found.push(Some(Vec::new()));
            work.push(Mutex::new(Work { foresight, next: None }));
            about.push((tokens, most.min(self.engine.context_length() - tokens.len())));
        }
        loop {
            let wants = |i: usize| matches!(&found[i], Some(guesses) if guesses.len() < about[i].1);
            for i in 0..sequences.len() {
                if !wants(i) || !self.make_room(needed(&sequences, &unread, i)) {
                    unread[i].clear();
                }
            }
            let batch: Vec<BatchToken> = unread.iter().enumerate().flat_map(|(i, tokens)| rows(i, tokens)).collect();
            if batch.is_empty() || !self.step(&batch, &mut sequences, &work, &mut found) {
                break;
            }
            for (i, tokens) in unread.iter_mut().enumerate().filter(|(_, tokens)| !tokens.is_empty()) {
                let drawn = work[i].get_mut().unwrap_or_else(PoisonError::into_inner).next.take();
                let Some(guesses) = &mut found[i] else { continue };
                let next = match &mut self.simulated {
                    Some(simulated) => simulated.next(about[i].0, guesses),
                    None => drawn,
                };
                guesses.extend(next);
                *tokens = next.into_iter().collect();
            }
        }
        self.sequences.extend(ids.into_iter().zip(sequences));
        found
    }

    /// Reads `batch` and has the guesses drawn. Returns whether there are any.
    fn step(
        &mut self,
        batch: &[BatchToken],
        sequences: &mut [Sequence],
        work: &[Mutex<Work>],
        found: &mut [Option<Vec<u32>>],
    ) -> bool {
        let vocabulary = self.vocabulary;
        let draw = |i: usize, logits: &[f32]| {
            // One worker for each text; if its grammar panics, the lock says so.
            let Ok(mut work) = work[batch[i].sequence].lock() else { return };
            let next = if logits.len() < vocabulary {
                let mut all = logits.to_vec();
                all.resize(vocabulary, f32::NEG_INFINITY);
                work.foresight.next(&all)
            } else {
                work.foresight.next(&logits[..vocabulary])
            };
            work.next = next;
        };
        let mut sequences: Vec<&mut Sequence> = sequences.iter_mut().collect();
        let (engine, started) = (&mut self.engine, Instant::now());
        match catch_unwind(AssertUnwindSafe(|| engine.forward_each(batch, &mut sequences, &draw))) {
            Ok(Ok(())) => {
                self.costs.observe(batch.len(), started.elapsed());
                return true;
            }
            Ok(Err(EngineError::NotFinite { sequence, .. })) => found[sequence] = None,
            Ok(Err(_)) => {}
            Err(_) => {
                let poisoned = (0..work.len()).filter(|&i| work[i].is_poisoned());
                poisoned.for_each(|i| found[i] = None);
            }
        }
        false
    }

    /// Finds `bytes` for keys and values among what is kept of ended texts, if they are not there.
    fn make_room(&mut self, bytes: u64) -> bool {
        let Some(budget) = self.budget else { return true };
        while self.engine.kv_bytes().saturating_add(bytes) > budget {
            if self.ended.is_empty() {
                return false;
            }
            self.ended.remove(0);
        }
        true
    }
}

/// Bytes for what the texts up to number `i` are to read.
fn needed(sequences: &[Sequence], unread: &[Vec<u32>], i: usize) -> u64 {
    sequences.iter().zip(unread).take(i + 1).map(|(sequence, tokens)| sequence.bytes_for(tokens.len())).sum()
}

/// The tokens of text number `sequence`; the logits after the last one are wanted.
fn rows(sequence: usize, tokens: &[u32]) -> impl Iterator<Item = BatchToken> + '_ {
    let last = tokens.len().saturating_sub(1);
    tokens.iter().enumerate().map(move |(i, &token)| BatchToken { token, sequence, logits: i == last })
}
