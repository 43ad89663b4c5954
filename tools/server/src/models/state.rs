//! The list of all models: which are loaded, who uses them, who waits for one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::keep_alive::KeepAlive;
use super::offer::Offer;
use crate::card::Card;
use crate::counters::Counters;
use crate::engine::Handle;
use crate::error::ApiError;
use crate::model::Model;

/// What a request that waits for a model hears.
pub type Waiter = oneshot::Sender<Result<Served, ApiError>>;

/// What requests and the keeper share. The lock is held for moments, never while something is read or loaded.
#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
    /// Wakes the keeper.
    pub(super) work: Condvar,
}

/// All models.
#[derive(Debug, Default)]
pub struct State {
    /// By their numbers, which are never given twice.
    pub entries: BTreeMap<u64, Entry>,
    /// Those that are to be loaded, in this order.
    pub queue: VecDeque<u64>,
    /// The next number.
    pub next: u64,
    /// Whether requests are answered yet.
    pub ready: bool,
    /// Whether the server ends.
    pub stopping: bool,
    /// Whether a model is being loaded right now.
    pub loading: bool,
}

/// A model.
#[derive(Debug)]
pub struct Entry {
    /// What is known of it without looking into it.
    pub offer: Offer,
    /// Whether it is there whatever the directory has.
    pub named: bool,
    /// What its files say of it, once somebody has asked; nothing if they are no model.
    pub card: Option<Option<Arc<Card>>>,
    /// What it has done, also before it was unloaded.
    pub counters: Arc<Counters>,
    /// Whether loading has failed lately.
    pub failed: bool,
    /// Whether it is loaded.
    pub phase: Phase,
}

/// Whether a model is loaded.
#[derive(Debug)]
pub enum Phase {
    /// It is not.
    Resting,
    /// It soon will be.
    Loading {
        /// Who waits for it; closed where the client has left.
        waiters: Vec<Waiter>,
        /// Whether it is to be loaded even if nobody waits.
        asked: bool,
    },
    /// It is.
    Ready(Ready),
}

/// A loaded model.
#[derive(Debug)]
pub struct Ready {
    /// What is known of it.
    pub model: Arc<Model>,
    /// By which it is asked.
    pub handle: Handle,
    /// The thread that owns it.
    pub thread: JoinHandle<()>,
    /// Bytes of a page of its keys and values.
    pub page_bytes: u64,
    /// How long it stays when nobody uses it.
    pub keep_alive: KeepAlive,
    /// How many use it.
    pub uses: usize,
    /// Since when nobody does.
    pub idle_since: Instant,
}

impl Ready {
    /// When it is to go if nobody uses it, or stops now to use it; `None` for never.
    pub fn due(&self) -> Option<Instant> {
        let since = if self.uses == 0 { self.idle_since } else { Instant::now() };
        match self.keep_alive {
            KeepAlive::For(time) => Some(since + time),
            KeepAlive::Forever => None,
        }
    }

    /// Waits until its memory is free.
    pub fn end(self) {
        drop(self.handle);
        let _ = self.thread.join();
    }

    /// Bytes of keys and values that it holds.
    pub fn kv_bytes(&self) -> u64 {
        self.handle.counters().pages.get().saturating_mul(self.page_bytes)
    }
}

impl Shared {
    /// The list, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, or until `due`.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>, due: Option<Instant>) -> MutexGuard<'a, State> {
        match due {
            None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(due) => {
                let time = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                self.work.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Number `id` in the hands of one more, if it is loaded.
    pub fn serve(self: &Arc<Shared>, state: &mut State, id: u64) -> Option<Served> {
        let Phase::Ready(ready) = &mut state.entries.get_mut(&id)?.phase else { return None };
        ready.uses += 1;
        let lease = Arc::new(Lease { shared: self.clone(), id });
        Some(Served { model: ready.model.clone(), handle: ready.handle.clone(), lease })
    }

    fn ready<T>(&self, id: u64, with: impl FnOnce(&mut Ready) -> T) -> Option<T> {
        match self.lock().entries.get_mut(&id).map(|entry| &mut entry.phase) {
            Some(Phase::Ready(ready)) => Some(with(ready)),
            _ => None,
        }
    }
}

impl State {
    /// Adds a model.
    pub fn add(&mut self, offer: Offer, named: bool) -> u64 {
        let id = self.next;
        self.next += 1;
        let entry = Entry { offer, named, card: None, counters: Arc::default(), failed: false, phase: Phase::Resting };
        self.entries.insert(id, entry);
        id
    }

    /// Adds a model that is to be loaded as soon as the first one is, unless it is there already. Returns whether it
    /// was not.
    pub fn add_guard(&mut self, offer: &Offer) -> (u64, bool) {
        if let Some((&id, _)) = self.entries.iter().find(|(_, entry)| entry.offer.model == offer.model) {
            return (id, false);
        }
        let id = self.add(offer.clone(), true);
        self.queue.push_back(id);
        self.entries.entry(id).and_modify(|entry| entry.phase = Phase::Loading { waiters: Vec::new(), asked: true });
        (id, true)
    }

    /// All that are loaded.
    pub fn loaded(&self) -> impl Iterator<Item = (u64, &Ready)> {
        self.entries.iter().filter_map(|(&id, entry)| match &entry.phase {
            Phase::Ready(ready) => Some((id, ready)),
            _ => None,
        })
    }

    /// Takes number `id` from everybody's hands, if it is loaded.
    pub fn take(&mut self, id: u64) -> Option<Ready> {
        let entry = self.entries.get_mut(&id)?;
        match std::mem::replace(&mut entry.phase, Phase::Resting) {
            Phase::Ready(ready) => {
                // Its files may be others by now.
                entry.card = None;
                Some(ready)
            }
            phase => {
                entry.phase = phase;
                None
            }
        }
    }
}

/// A loaded model in the hands of a request: it is not unloaded meanwhile.
#[derive(Clone, Debug)]
pub struct Served {
    /// What is known of it.
    pub model: Arc<Model>,
    /// By which it is asked.
    pub handle: Handle,
    // Given back last: then nobody has a handle any more.
    lease: Arc<Lease>,
}

impl Served {
    /// A model that is in no list and stays loaded.
    pub fn alone(model: Model, handle: Handle) -> Served {
        Served { model: model.into(), handle, lease: Arc::new(Lease { shared: Arc::default(), id: 0 }) }
    }

    /// Says how long the model stays when nobody uses it any more.
    pub fn keep_alive(&self, keep_alive: KeepAlive) {
        self.lease.shared.ready(self.lease.id, |ready| ready.keep_alive = keep_alive);
    }
}

struct Lease {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let idle = self.shared.ready(self.id, |ready| {
            ready.uses -= 1;
            ready.idle_since = Instant::now();
            ready.uses == 0 && ready.keep_alive != KeepAlive::Forever
        });
        if idle == Some(true) {
            self.shared.work.notify_all();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.id).finish()
    }
}
