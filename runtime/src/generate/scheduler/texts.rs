//! The requests that are served or wait: who begins, whose prompt is read next, and who gives way when memory ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::active::{Active, failed};
use super::options::SchedulerOptions;
use super::pages::Pages;
use super::stats::Stats;
use crate::adapters::Adapters;
use crate::engine::Engine;
use crate::generate::error::GenerateError;
use crate::generate::generation::Generation;
use crate::generate::options::StopReason;
use crate::generate::request::{Event, RequestId};
use crate::kv::{NearMiss, PAGE, Sequence};

/// The fewest tokens for which it is worth waiting until another request has read them.
const WORTH_WAITING: usize = 16;

/// A request whose turn has not come.
struct Waiting {
    active: Active,
    sequence: Option<Sequence>,
    /// Tokens of it that need not be read, as far as was known when it came.
    known: usize,
    /// The request that is reading what this one begins with, and how many tokens that is.
    after: Option<(RequestId, usize)>,
    /// Its pages were taken from it.
    put_back: bool,
}

/// What the disk had of a text.
pub(super) enum Restored {
    /// Nothing.
    Nothing,
    /// Something, or the text has had to give way.
    Something,
    /// There is more, for later.
    TimeIsUp,
}

/// The sequence that a request goes on with.
struct Start {
    sequence: Sequence,
    near_miss: Option<NearMiss>,
    /// Whether the sequence is the one that the request brought.
    own: bool,
}

/// The requests that are served or wait, and the memory that they share.
pub(super) struct Texts {
    /// Those that are served, in the order of their arrival.
    pub(super) running: Vec<Active>,
    /// The sequence of each of them.
    pub(super) sequences: Vec<Sequence>,
    waiting: Vec<Waiting>,
    pub(super) pages: Pages,
    /// The most that are served at once.
    most: usize,
    /// Tokens of prompts that were read in pieces.
    pub(super) read: u64,
    pub(super) stats: Stats,
}

/// How many tokens two texts have in common at their beginning.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// How many tokens `wanted`, to be read with `adapters`, has in common with what `sequence` has read.
fn shared(sequence: &Sequence, wanted: &[u32], adapters: &Adapters) -> usize {
    if sequence.adapters() == adapters { common(sequence.tokens(), wanted) } else { 0 }
}

/// What a text may find read already: the logits come from reading its last token, so that is read in any case, and
/// where all tokens of the prompt are scored all of them are.
fn wanted(generation: &Generation) -> &[u32] {
    let tokens = generation.tokens();
    if generation.scores_prompt() { &[] } else { &tokens[..tokens.len() - 1] }
}

impl Texts {
    pub(super) fn new(options: &SchedulerOptions, page_bytes: u64) -> Texts {
        Texts {
            running: Vec::new(),
            sequences: Vec::new(),
            waiting: Vec::new(),
            pages: Pages::new(options.kv_memory, page_bytes, options.prefix_cache),
            most: options.sequences.max(1),
            read: 0,
            stats: Stats::default(),
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// How many tokens of texts that are written the current batch has, guesses included, and how many of prompts.
    pub(super) fn planned(&self) -> (usize, usize) {
        let (mut decodes, mut tokens) = (0, 0);
        for request in &self.running {
            match request.planned {
                n if n <= request.guesses + 1 => decodes += n,
                n => tokens += n,
            }
        }
        (decodes, tokens)
    }

    /// Forgets all requests.
    pub(super) fn clear(&mut self) {
        self.running.clear();
        self.sequences.clear();
        self.waiting.clear();
    }

    /// Takes a request, which waits until its turn comes.
    pub(super) fn add(&mut self, active: Active, sequence: Option<Sequence>) {
        let mut waiting = Waiting { active, sequence, known: 0, after: None, put_back: false };
        let adapters = waiting.active.adapters.clone();
        let wanted = wanted(waiting.active.generation());
        let own = waiting.sequence.as_ref().map_or(0, |sequence| shared(sequence, wanted, &adapters));
        waiting.known = own.max(self.pages.find(wanted, &adapters).len);
        self.waiting.push(waiting);
    }

    /// Ends those that somebody has cancelled, or that have no more time.
    pub(super) fn end_cancelled(&mut self, engine: &Engine, events: &mut Vec<(RequestId, Event)>) {
        let waiting = self.waiting.iter().map(|waiting| &waiting.active);
        let now = self.running.iter().chain(waiting).any(Active::has_deadline).then(Instant::now);
        for i in (0..self.running.len()).rev() {
            if let Some(reason) = self.running[i].ends(now) {
                events.push(self.finish(i, reason));
            }
        }
        let ended = self.waiting.extract_if(.., |waiting| waiting.active.ends(now).is_some());
        for Waiting { mut active, sequence, .. } in ended {
            let reason = active.ends(now).unwrap_or(StopReason::Cancelled);
            let mut sequence = sequence.unwrap_or_else(|| engine.new_sequence().with(&active.adapters));
            sequence.keep_prefix(active.generation().tokens());
            events.push(active.finish(sequence, reason));
        }
        events.sort_by_key(|&(id, _)| id);
    }

    /// Ends a running request.
    pub(super) fn finish(&mut self, i: usize, reason: StopReason) -> (RequestId, Event) {
        let (active, mut sequence) = (self.running.remove(i), self.sequences.remove(i));
        self.pages.keep(&mut sequence, true);
        self.stats.recomputed_tokens += active.recomputed() as u64;
        active.finish(sequence, reason)
    }

    /// Fails a running request.
    pub(super) fn fail(&mut self, i: usize, error: GenerateError) -> (RequestId, Event) {
        failed(self.running.remove(i).id, error, Some(self.sequences.remove(i)))
    }

    /// Lets those begin for whom there is room.
    pub(super) fn admit(&mut self, engine: &Engine, events: &mut Vec<(RequestId, Event)>) {
        while !self.waiting.is_empty() && self.running.len() < self.most {
            let read = self.read;
            let ranks = self.waiting.iter_mut().enumerate();
            let mut order: Vec<_> = ranks.map(|(i, w)| ((!w.put_back, w.active.rank(w.known, read)), i)).collect();
            order.sort();
            let Some((w, start)) = order.into_iter().find_map(|(_, w)| Some((w, self.start(engine, w)?))) else {
                return;
            };
            if !self.fits(engine, w, &start.sequence) {
                // Nobody overtakes it.
                self.waiting[w].sequence = start.own.then_some(start.sequence);
                return;
            }
            self.begin(w, start, events);
        }
    }

    /// What number `w` of those that wait goes on with, and how; `None` when another request is reading what it
    /// begins with.
    fn start(&mut self, engine: &Engine, w: usize) -> Option<Start> {
        let Texts { running, sequences, waiting, pages, .. } = self;
        let Waiting { active, sequence, after, .. } = &mut waiting[w];
        let mut reads_for_us = |id: RequestId, up_to: usize| {
            running.iter_mut().any(|r| r.id == id && r.unread() > 1 && r.generation().read() < up_to)
        };
        if after.is_some_and(|(id, up_to)| reads_for_us(id, up_to)) {
            return None;
        }
        let adapters = active.adapters.clone();
        let wanted = wanted(active.generation());
        let own = sequence.as_ref().map_or(0, |sequence| shared(sequence, wanted, &adapters));
        let found = pages.find(wanted, &adapters);
        let others = sequences.iter().map(|other| shared(other, wanted, &adapters)).enumerate();
        let (other, beside) = others.max_by_key(|&(_, n)| n).unwrap_or((0, 0));
        let mut have = own.max(found.len).max(beside);
        // A page on disk is better than a part of one in memory.
        let full = have / PAGE * PAGE;
        if full < have && pages.is_on_disk(&adapters, wanted, full) {
            have = full;
        }
        let leaders = running.iter_mut().filter_map(|r| {
            let is_like = r.adapters == adapters && r.unread() > 1;
            let up_to = if is_like { common(r.generation().tokens(), wanted) } else { 0 };
            (up_to >= have + WORTH_WAITING).then_some((r.id, up_to))
        });
        *after = leaders.max_by_key(|&(_, up_to)| up_to);
        if after.is_some() {
            return None;
        }
        let near_miss = if found.len >= have { found.near_miss.clone() } else { None };
        let (mut start, own) = match sequence.take().filter(|sequence| *sequence.adapters() == adapters) {
            Some(sequence) if own >= have => (sequence, true),
            _ if found.len >= have => {
                let mut sequence = engine.new_sequence().with(&adapters);
                pages.share(&found, &mut sequence);
                (sequence, false)
            }
            _ => (sequences[other].clone(), false),
        };
        start.truncate(have);
        Some(Start { sequence: start, near_miss, own })
    }

    /// Whether there is room for number `w` of those that wait, beside all that are running and what they will need
    /// soon.
    fn fits(&mut self, engine: &Engine, w: usize, start: &Sequence) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let texts = self.running.iter_mut().zip(&self.sequences);
        let foreseen: u64 = texts.map(|(r, sequence)| sequence.bytes_for(r.foreseen())).sum();
        let active = &mut self.waiting[w].active;
        let unread = active.generation().tokens().len() - start.len();
        let more = active.foreseen() - active.unread() + unread;
        let needed = engine.kv_bytes() + foreseen + start.bytes_for(more);
        !self.pages.lack(needed) || !self.pages.lack(needed - self.pages.idle_bytes().min(needed))
    }

    /// Lets number `w` of those that wait begin.
    fn begin(&mut self, w: usize, start: Start, events: &mut Vec<(RequestId, Event)>) {
        let Waiting { mut active, .. } = self.waiting.remove(w);
        let cached = start.sequence.len();
        active.generation().advance(cached);
        active.kept = cached / PAGE;
        if active.cached.is_none() {
            active.cached = Some(cached);
            self.stats.prompt_tokens += active.generation().prompt_len() as u64;
            self.stats.cached_tokens += cached as u64;
            events.push((active.id, Event::Started { cached, near_miss: start.near_miss }));
        }
        let place = self.running.partition_point(|running| running.id < active.id);
        self.running.insert(place, active);
        self.sequences.insert(place, start.sequence);
    }

    /// The prompt whose turn it is, of those that have no part in this batch yet.
    pub(super) fn next_prompt(&mut self) -> Option<usize> {
        let read = self.read;
        if !self.running.iter_mut().any(|r| r.planned == 0 && r.unread() > 1) {
            return None;
        }
        // Those that wait for what another reads lend it their rank.
        let mut lent: HashMap<RequestId, _> = HashMap::new();
        for waiting in &mut self.waiting {
            if let Some((leader, _)) = waiting.after {
                let rank = waiting.active.rank(waiting.known, read);
                let best = lent.entry(leader).or_insert(rank);
                *best = rank.min(*best);
            }
        }
        let ranks = self.running.iter_mut().enumerate().filter(|(_, r)| r.planned == 0);
        let ranks = ranks.filter_map(|(i, r)| {
            let own = (r.unread() > 1).then(|| r.rank(0, read))?;
            Some((lent.get(&r.id).map_or(own, |&lent| lent.min(own)), i))
        });
        ranks.min().map(|(_, i)| i)
    }

    /// Takes what number `i` of those that run begins with from the disk, for up to `time`.
    pub(super) fn restore(
        &mut self,
        engine: &Engine,
        i: usize,
        time: Duration,
        events: &mut Vec<(RequestId, Event)>,
    ) -> Restored {
        let begun = Instant::now();
        let mut restored = Restored::Nothing;
        loop {
            let text = wanted(self.running[i].generation());
            if !self.pages.is_on_disk(self.sequences[i].adapters(), text, self.sequences[i].len()) {
                return restored;
            }
            // At least one page comes of every step.
            if matches!(restored, Restored::Something) && begun.elapsed() >= time {
                return Restored::TimeIsUp;
            }
            restored = Restored::Something;
            // Others give way to it, or it to others.
            if !self.plan(engine, i, PAGE, events) {
                return restored;
            }
            let active = &mut self.running[i];
            active.rest();
            if self.pages.restore(wanted(active.generation()), &mut self.sequences[i]) {
                let saved = active.found_page() as u64;
                self.stats.cached_tokens += saved;
                self.stats.restored_tokens += saved;
                self.pages.keep(&mut self.sequences[i], false);
            }
        }
    }

    /// Plans to read the next `n` tokens of number `i` of those that run, and finds memory for them: what is kept for
    /// later requests goes first, then the youngest texts are put back. `false` when it was itself put back, or had to
    /// fail.
    pub(super) fn plan(&mut self, engine: &Engine, i: usize, n: usize, events: &mut Vec<(RequestId, Event)>) -> bool {
        let needed = loop {
            let needed = self.sequences[i].bytes_for(n);
            let promised: u64 = self.running.iter().map(|r| r.promised).sum();
            if !self.pages.lack(engine.kv_bytes() + promised + needed) {
                break needed;
            }
            if self.pages.evict() || self.pages.wait() {
                continue;
            }
            // The thread that writes files may have let go of a page since they were counted.
            if !self.pages.lack(engine.kv_bytes() + promised + needed) {
                break needed;
            }
            let last = self.running.len() - 1;
            if let Some(waiting) = self.waiting.iter_mut().find(|w| w.sequence.is_some()) {
                // It will find what others have read, or read.
                waiting.sequence = None;
            } else if last > 0 {
                self.put_back(last);
                if last == i {
                    return false;
                }
            } else if self.running[i].budget.is_none_or(|budget| engine.kv_bytes() + promised + needed <= budget) {
                // It was promised more than there is by now, and nobody is left who could give way.
                break needed;
            } else if self.pages.clear() {
                // There is a little more now.
            } else if events.iter().any(|(_, event)| event.has_sequence()) {
                // What has ended in this step holds its pages until its events are heard.
                self.put_back(last);
                return false;
            } else {
                let tokens = self.sequences[i].len() + n;
                let elsewhere = engine.kv_bytes().saturating_sub(self.sequences[i].bytes() as u64);
                let error = self.pages.too_large(tokens, elsewhere);
                events.push(self.fail(i, error));
                return false;
            }
        };
        if let Err(error) = engine.check_room(&self.sequences[i], n) {
            events.push(self.fail(i, error.into()));
            return false;
        }
        self.running[i].plan(n, needed);
        true
    }

    /// Takes the pages from number `i` of those that run, which has to wait until there is room for it again.
    fn put_back(&mut self, i: usize) {
        let (mut active, mut sequence) = (self.running.remove(i), self.sequences.remove(i));
        self.pages.keep(&mut sequence, true);
        active.put_back();
        self.stats.preempted += 1;
        self.waiting.push(Waiting { active, sequence: None, known: 0, after: None, put_back: true });
    }
}
