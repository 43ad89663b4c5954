//! The thread that loads models and unloads them.
//!
//! It does one thing at a time, so that nobody else takes the memory that it has just counted; requests and the threads
//! of other models go on meanwhile. With nothing to do it sleeps until somebody wants a model or one has to go.

use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use quipu_runtime::host::memory::Memory;

use super::host::Host;
use super::library::{Library, Load, Loaded};
use super::offer::Offer;
use super::room::{Resident, Room, make_room, shares};
use super::state::{Phase, Ready, State};
use crate::card::Card;
use crate::engine::Handle;
use crate::error::ApiError;

/// Loads and unloads.
pub struct Keeper<E> {
    host: Arc<Host>,
    load: Load<E>,
    weights: Option<u64>,
    kv_memory: Option<u64>,
}

/// What is to be done next.
enum Work {
    Load(u64),
    Unload(Ready),
}

/// Why a model is not loaded.
enum Failure<E> {
    /// There is no room, or no need any more.
    Refused(ApiError),
    /// Loading has failed.
    Failed(E),
}

impl<E: From<io::Error> + Display> Keeper<E> {
    /// For the models of `library`, which `host` has.
    pub fn new(host: Arc<Host>, library: Library<E>) -> Keeper<E> {
        let Library { load, weights, kv_memory, .. } = library;
        Keeper { host, load, weights, kv_memory }
    }

    /// Loads the model that was named first, if any was, and then what is wanted, until the server ends.
    ///
    /// # Errors
    /// When the first one can't be loaded.
    pub fn run(mut self) -> Result<(), E> {
        let first = {
            let mut state = self.host.shared.lock();
            let first = state.entries.iter().find(|(_, entry)| entry.named).map(|(&id, _)| id);
            state.loading = first.is_some();
            first
        };
        if let Some(id) = first {
            let loaded = self.load(id);
            self.host.shared.lock().loading = false;
            loaded.map_err(|failure| match failure {
                Failure::Failed(error) => error,
                Failure::Refused(error) => io::Error::other(error.message).into(),
            })?;
        }
        self.host.shared.lock().ready = true;
        (self.host.tell)("ready");
        while let Some(work) = self.next() {
            match work {
                Work::Unload(ready) => self.unload(ready, "nobody has used it lately"),
                Work::Load(id) => self.load_for_all(id),
            }
        }
        Ok(())
    }

    /// Waits for something to do; nothing when the server ends.
    fn next(&self) -> Option<Work> {
        let mut state = self.host.shared.lock();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(id) = state.queue.pop_front() {
                if is_wanted(&mut state, id) {
                    state.loading = true;
                    return Some(Work::Load(id));
                }
                continue;
            }
            let idle = state.loaded().filter(|(_, ready)| ready.uses == 0);
            let due = idle.filter_map(|(id, ready)| Some((ready.due()?, id))).min();
            match due {
                Some((due, id)) if due <= Instant::now() => return state.take(id).map(Work::Unload),
                due => state = self.host.shared.wait(state, due.map(|(due, _)| due)),
            }
        }
    }

    /// Loads number `id` and tells all who wait for it.
    fn load_for_all(&mut self, id: u64) {
        let failure = self.load(id).err();
        let (error, phase) = {
            let mut state = self.host.shared.lock();
            state.loading = false;
            let (Some(failure), Some(entry)) = (failure, state.entries.get_mut(&id)) else { return };
            let error = match failure {
                Failure::Refused(error) => error,
                Failure::Failed(error) => {
                    entry.failed = true;
                    ApiError::not_loaded(entry.offer.id(), &format!("{error:#}"))
                }
            };
            (error, std::mem::replace(&mut entry.phase, Phase::Resting))
        };
        (self.host.tell)(&error.message);
        if let Phase::Loading { waiters, .. } = phase {
            waiters.into_iter().for_each(|waiter| drop(waiter.send(Err(error.clone()))));
        }
    }

    /// Loads number `id`, for which others may have to go, and hands it to all who wait for it.
    fn load(&mut self, id: u64) -> Result<(), Failure<E>> {
        let (offer, counters) = {
            let state = self.host.shared.lock();
            let entry = state.entries.get(&id).ok_or_else(|| Failure::Refused(ApiError::stopping()))?;
            (entry.offer.clone(), entry.counters.clone())
        };
        let name = offer.id();
        // What can't be opened can't be loaded either, and the loader says why.
        if let Ok(card) = Card::open(&offer.model) {
            self.make_room(name, &card).map_err(Failure::Refused)?;
        }
        (self.host.tell)(&format!("loading {name}"));
        let started = Instant::now();
        let Loaded { model, mut scheduler } = self.run_loader(&offer).map_err(Failure::Failed)?;
        let page_bytes = scheduler.page_bytes();
        scheduler.set_kv_memory(self.share_out(Some(page_bytes)));
        let (room, tell) = (self.host.room, self.host.tell.clone());
        let (handle, thread) =
            Handle::start(scheduler, room, tell, counters).map_err(|error| Failure::Failed(error.into()))?;
        let keep_alive = offer.keep_alive;
        let model = Arc::new(model);
        let ready = Ready { model, handle, thread, page_bytes, keep_alive, uses: 0, idle_since: Instant::now() };
        (self.host.tell)(&format!("{name} is loaded, in {:.1} s", started.elapsed().as_secs_f64()));
        self.hand_out(id, ready);
        Ok(())
    }

    /// Runs the loader; a panic of its costs one model.
    fn run_loader(&mut self, offer: &Offer) -> Result<Loaded, E> {
        let load = &mut self.load;
        let loaded = catch_unwind(AssertUnwindSafe(|| load(offer)));
        loaded.unwrap_or_else(|_| Err(io::Error::other("a fault of this program (a panic) while it was loaded").into()))
    }

    /// Puts a loaded model into the list, and into the hands of all who wait for it.
    fn hand_out(&self, id: u64, ready: Ready) {
        let mut state = self.host.shared.lock();
        let stopping = state.stopping;
        let waiters = match state.entries.get_mut(&id) {
            Some(entry) if !stopping => {
                entry.failed = false;
                match std::mem::replace(&mut entry.phase, Phase::Ready(ready)) {
                    Phase::Loading { waiters, .. } => waiters,
                    _ => Vec::new(),
                }
            }
            _ => {
                drop(state);
                return ready.end();
            }
        };
        let served: Vec<_> =
            waiters.into_iter().map(|waiter| (waiter, self.host.shared.serve(&mut state, id))).collect();
        // Who has left gives it back, which takes the lock.
        drop(state);
        for (waiter, served) in served {
            drop(waiter.send(served.ok_or_else(ApiError::stopping)));
        }
    }

    /// Unloads what has to go for a model.
    fn make_room(&self, name: &str, card: &Card) -> Result<(), ApiError> {
        let free = Memory::here().map(|memory| memory.available);
        let victims = {
            let mut state = self.host.shared.lock();
            let resident = |(id, ready): (u64, &Ready)| {
                let idle_since = (ready.uses == 0).then_some(ready.idle_since);
                Resident { id, bytes: ready.model.card.bytes, idle_since }
            };
            let loaded: Vec<Resident> = state.loaded().map(resident).collect();
            let free = free.map(|free| self.free_for_weights(&state, free, card.bytes));
            match make_room(card.bytes, &loaded, self.weights, free) {
                Room::Without(ids) => ids.into_iter().filter_map(|id| state.take(id)).collect::<Vec<_>>(),
                Room::InUse => return Err(ApiError::no_room(name)),
                Room::Never => return Err(ApiError::never_fits(name, card.bytes, self.weights.unwrap_or_default())),
            }
        };
        victims.into_iter().for_each(|ready| self.unload(ready, &format!("{name} needs the room")));
        Ok(())
    }

    /// What of the machine's `free` bytes the weights of another model may take.
    fn free_for_weights(&self, state: &State, free: u64, bytes: u64) -> u64 {
        // The system counts a mapped file's pages as free, since they can be read again.
        let mapped = |(_, ready): (u64, &Ready)| if ready.model.card.packed { ready.model.card.bytes } else { 0 };
        let mapped: u64 = state.loaded().map(mapped).sum();
        // Keys, values and activations need some, too.
        let besides = match self.kv_memory {
            Some(kv_memory) => kv_memory.saturating_sub(state.loaded().map(|(_, ready)| ready.kv_bytes()).sum()),
            None => bytes / 8,
        };
        free.saturating_sub(mapped).saturating_sub(besides)
    }

    /// Gives every loaded model its share of the memory for keys and values. Returns that of one more, whose pages have
    /// so many bytes.
    fn share_out(&self, one_more: Option<u64>) -> Option<u64> {
        let free = Memory::here().map(|memory| memory.available);
        let state = self.host.shared.lock();
        let used: u64 = state.loaded().map(|(_, ready)| ready.kv_bytes()).sum();
        // Without a number from the system there is no limit.
        let all = self.kv_memory.or(free.map(|free| free.saturating_add(used) / 2));
        let pages: Vec<u64> = state.loaded().map(|(_, ready)| ready.page_bytes).chain(one_more).collect();
        let mut shares = all.map(|all| shares(all, &pages)).unwrap_or_default().into_iter();
        state.loaded().for_each(|(_, ready)| ready.handle.set_kv_memory(shares.next()));
        shares.next()
    }

    fn unload(&self, ready: Ready, why: &str) {
        let name = ready.model.id().to_string();
        ready.end();
        self.share_out(None);
        (self.host.tell)(&format!("{name} is unloaded: {why}"));
    }
}

/// Whether anybody still wants number `id` to be loaded. If nobody does, it is at rest again.
fn is_wanted(state: &mut State, id: u64) -> bool {
    let Some(entry) = state.entries.get_mut(&id) else { return false };
    let Phase::Loading { waiters, asked } = &mut entry.phase else { return false };
    waiters.retain(|waiter| !waiter.is_closed());
    let wanted = *asked || !waiters.is_empty();
    if !wanted {
        entry.phase = Phase::Resting;
    }
    wanted
}
