//! The list of all models, as requests see it. Nothing here waits for a model; what takes a moment (a look into a
//! directory or a file) is done without the lock, and never on the thread that has the connections.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::directory::Directory;
use super::fetch::Pull;
use super::keep_alive::KeepAlive;
use super::library::Library;
use super::offer::Offer;
use super::state::{Entry, Phase, Ready, Served, Shared, State, Waiter};
use super::view::{Status, View};
use crate::card::Card;
use crate::counters::Counters;
use crate::engine::{Room, Tell};
use crate::error::ApiError;
use crate::mcp::hosted::Toolbox;
use crate::moderation::gate::GateOptions;
use crate::options::{Defaults, Limits, ServerOptions};

/// The list of all models.
pub struct Host {
    /// What the keeper shares.
    pub(super) shared: Arc<Shared>,
    directory: Option<Directory>,
    /// Whether the only model answers to every name: clients send the name of whatever they were written for.
    any_name: bool,
    /// What the server takes at most.
    pub limits: Arc<Limits>,
    /// How texts are written where a request does not say.
    pub defaults: Arc<Defaults>,
    /// The tools that the server runs itself.
    pub toolbox: Arc<Toolbox>,
    /// How many texts a model writes and lets wait.
    pub room: Room,
    pub(super) tell: Tell,
    guard: Option<Guard>,
    pull: Option<Pull>,
}

/// The model that guards the others.
struct Guard {
    id: u64,
    /// Whether it does nothing else.
    only: bool,
    options: Arc<GateOptions>,
}

/// Seconds after which another try makes sense where too many wait for a model that is being loaded.
const WHILE_LOADING: u32 = 5;

/// A model that a request has asked for.
pub enum Found {
    /// It is loaded.
    Ready(Served),
    /// It is being loaded, and this is when it is, or why not. Whoever drops this does not wait any longer.
    Loads(oneshot::Receiver<Result<Served, ApiError>>),
}

impl Host {
    /// The models of `library`, for a server with these options.
    pub fn new<E>(library: &Library<E>, options: &ServerOptions) -> Host {
        let directory = library.directory.clone();
        // With adapters, a name chooses one; and what is fetched is one more.
        let alone = directory.is_none() && options.pull.is_none();
        let any_name = alone && matches!(&library.offers[..], [only] if only.adapters.is_empty());
        let shared = Arc::new(Shared::default());
        for offer in &library.offers {
            shared.lock().add(offer.clone(), true);
        }
        let guard = options.guard.clone().map(|options| {
            let (id, only) = shared.lock().add_guard(&options.offer);
            Guard { id, only, options: options.into() }
        });
        let (limits, defaults) = (options.limits.clone().into(), options.defaults.clone().into());
        let (room, tell, toolbox) = (options.room, options.tell.clone(), options.toolbox.clone().into());
        let pull = options.pull.clone();
        Host { shared, directory, any_name, limits, defaults, toolbox, room, tell, guard, pull }
    }

    /// Whether requests are answered.
    pub fn is_ready(&self) -> bool {
        self.shared.lock().ready
    }

    /// Whether there is more than one model, or might be.
    pub fn has_several(&self) -> bool {
        !self.any_name
    }

    /// Texts that are written or wait for it.
    pub fn open_texts(&self) -> u64 {
        self.shared.lock().entries.values().map(|entry| entry.counters.open.get()).sum()
    }

    /// The model that is called `name`, which is loaded if it is not; without a name the first of those that the server
    /// was started with.
    ///
    /// # Errors
    /// 404 for a name that there is not; 400 where one is needed; 503 if too many wait for it already.
    pub fn find(&self, name: Option<&str>) -> Result<Found, ApiError> {
        self.with(name, |state, id| self.found(state, id))
    }

    /// How the server is guarded, if it is.
    pub fn guard(&self) -> Option<&Arc<GateOptions>> {
        self.guard.as_ref().map(|guard| &guard.options)
    }

    /// The model that moderates: the one that is called `name`, or else the guard, if there is one. It is loaded if it
    /// is not.
    ///
    /// # Errors
    /// Those of [`Host::find`].
    pub fn find_guard(&self, name: Option<&str>) -> Result<Found, ApiError> {
        let Some(guard) = &self.guard else { return self.find(name) };
        let mut state = self.shared.lock();
        let named =
            name.filter(|name| !self.any_name && !name.is_empty()).and_then(|name| self.number(&state, Some(name)));
        self.found(&mut state, named.unwrap_or(guard.id))
    }

    /// Number `id`, which is loaded if it is not.
    fn found(&self, state: &mut State, id: u64) -> Result<Found, ApiError> {
        if state.stopping {
            return Err(ApiError::stopping());
        }
        if let Some(served) = self.shared.serve(state, id) {
            return Ok(Found::Ready(served));
        }
        let (waiter, waits) = oneshot::channel();
        let mut waiting = Ok(());
        self.wish(state, id, |waiters, _| {
            waiters.retain(|waiter| !waiter.is_closed());
            // As many as the model will write and let wait.
            match waiters.len() < self.room.running + self.room.waiting {
                true => waiters.push(waiter),
                false => waiting = Err(ApiError::busy(WHILE_LOADING)),
            }
        });
        waiting.map(|()| Found::Loads(waits))
    }

    /// Has a model loaded, without waiting for it.
    ///
    /// # Errors
    /// Those of [`Host::find`].
    pub fn load(&self, name: Option<&str>) -> Result<(), ApiError> {
        self.with(name, |state, id| {
            self.wish(state, id, |_, asked| *asked = true);
            Ok(())
        })
    }

    /// Has a model unloaded as soon as nobody uses it. Returns whether it was loaded.
    ///
    /// # Errors
    /// Those of [`Host::find`].
    pub fn unload(&self, name: Option<&str>) -> Result<bool, ApiError> {
        self.with(name, |state, id| match state.entries.get_mut(&id).map(|entry| &mut entry.phase) {
            Some(Phase::Ready(ready)) => {
                ready.keep_alive = KeepAlive::For(Duration::ZERO);
                self.shared.work.notify_all();
                Ok(true)
            }
            _ => Ok(false),
        })
    }

    /// Wishes that number `id` were loaded, unless it is.
    fn wish(&self, state: &mut State, id: u64, wish: impl FnOnce(&mut Vec<Waiter>, &mut bool)) {
        let Some(entry) = state.entries.get_mut(&id) else { return };
        if matches!(entry.phase, Phase::Resting) {
            entry.phase = Phase::Loading { waiters: Vec::new(), asked: false };
            state.queue.push_back(id);
            self.shared.work.notify_all();
        }
        if let Phase::Loading { waiters, asked } = &mut entry.phase {
            wish(waiters, asked);
        }
    }

    /// What each model has done, by its id.
    pub fn counters(&self) -> Vec<(String, Arc<Counters>)> {
        let state = self.shared.lock();
        state.entries.values().map(|entry| (entry.offer.id().to_string(), entry.counters.clone())).collect()
    }

    /// What is told of all models.
    pub fn views(&self) -> Vec<View> {
        self.rescan();
        self.read_cards(|_| true);
        let state = self.shared.lock();
        state.entries.values().map(|entry| self.view_of(entry)).collect()
    }

    /// What is told of the model that is called `name`, which stays as it is.
    ///
    /// # Errors
    /// Those of [`Host::find`].
    pub fn view(&self, name: Option<&str>) -> Result<View, ApiError> {
        let id = self.with(name, |_, id| Ok(id))?;
        self.read_cards(|other| other == id);
        self.shared.lock().entries.get(&id).map(|entry| self.view_of(entry)).ok_or_else(ApiError::stopping)
    }

    fn view_of(&self, entry: &Entry) -> View {
        let (card, since, status) = match &entry.phase {
            Phase::Ready(ready) => {
                let (model, now) = (ready.model.clone(), Instant::now());
                let stays = ready.due().map(|due| due.saturating_duration_since(now));
                (Some(model.card.clone()), model.loaded, Status::Loaded { model, stays })
            }
            phase => {
                let modified = entry.offer.version.and_then(|(modified, _)| modified.duration_since(UNIX_EPOCH).ok());
                let status = match phase {
                    Phase::Loading { .. } => Status::Loading,
                    _ => Status::Unloaded { failed: entry.failed },
                };
                (entry.card.clone().flatten(), modified.map_or(0, |time| time.as_secs()), status)
            }
        };
        let (names, adapters) = (entry.offer.names.clone(), entry.offer.adapters.clone());
        View { names, adapters, card, since, counters: entry.counters.clone(), room: self.room, status }
    }

    /// Looks into the files of those models that are not loaded and were not looked at.
    fn read_cards(&self, wanted: impl Fn(u64) -> bool) {
        let unread = |(&id, entry): (&u64, &Entry)| {
            let unread = wanted(id) && entry.card.is_none() && !matches!(entry.phase, Phase::Ready(_));
            unread.then(|| (id, entry.offer.model.clone()))
        };
        let unread: Vec<_> = self.shared.lock().entries.iter().filter_map(unread).collect();
        for (id, model) in unread {
            let card = Card::open(&model).ok().map(Arc::new);
            if let Some(entry) = self.shared.lock().entries.get_mut(&id) {
                entry.card = Some(card);
            }
        }
    }

    /// Does `act` with the number of the model that is called `name`; one that is not known may be new in the
    /// directory.
    fn with<T>(
        &self,
        name: Option<&str>,
        act: impl FnOnce(&mut State, u64) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let name = name.filter(|name| !name.is_empty());
        {
            let mut state = self.shared.lock();
            if let Some(id) = self.number(&state, name) {
                return act(&mut state, id);
            }
        }
        self.rescan();
        let mut state = self.shared.lock();
        match self.number(&state, name) {
            Some(id) => act(&mut state, id),
            None => {
                let names =
                    |entry: &'_ Entry| [entry.offer.id().to_string()].into_iter().chain(entry.offer.adapters.clone());
                let names: Vec<String> = state.entries.values().flat_map(names).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Err(name.map_or_else(|| ApiError::which_model(&names), |name| ApiError::no_model(name, &names)))
            }
        }
    }

    fn number(&self, state: &State, name: Option<&str>) -> Option<u64> {
        let only_guards = |id: &u64| self.guard.as_ref().is_some_and(|guard| guard.only && guard.id == *id);
        let mut asked = state.entries.iter().filter(|(id, _)| !only_guards(id));
        let first = asked.next().filter(|(_, entry)| entry.named || asked.next().is_none());
        let Some(name) = name.filter(|_| !self.any_name) else { return first.map(|(&id, _)| id) };
        let called = |name: &str| {
            let mut entries = state.entries.iter();
            let called = |offer: &Offer| offer.names.iter().chain(&offer.adapters).any(|own| own == name);
            entries.find(|(_, entry)| called(&entry.offer)).map(|(&id, _)| id)
        };
        // ollama's clients add the tag that is meant without one.
        called(name).or_else(|| called(name.strip_suffix(":latest")?))
    }

    /// What fetches models, if requests may have that done.
    pub fn pull(&self) -> Option<Pull> {
        self.pull.clone()
    }

    /// One more model. If there is one of its names, that stays; a file that was fetched anew is read anew.
    pub fn add(&self, offer: Offer) {
        let mut state = self.shared.lock();
        let shared = |entry: &&mut Entry| offer.names.iter().any(|name| entry.offer.names.contains(name));
        match state.entries.values_mut().find(shared) {
            Some(entry) => (entry.card, entry.failed) = (None, false),
            None => {
                state.add(offer, true);
            }
        }
    }

    /// Looks what is in the directory now.
    pub(super) fn rescan(&self) {
        let Some(directory) = &self.directory else { return };
        let offers = match directory.scan() {
            Ok(offers) => offers,
            Err(error) => return (self.tell)(&format!("{}: {error}", directory.path.display())),
        };
        let mut state = self.shared.lock();
        let gone = |entry: &Entry| {
            let is_there = offers.iter().any(|offer| offer.model == entry.offer.model);
            !entry.named && !is_there && matches!(entry.phase, Phase::Resting)
        };
        state.entries.retain(|_, entry| !gone(entry));
        for offer in offers {
            let shared = |entry: &Entry| offer.names.iter().any(|name| entry.offer.names.contains(name));
            let taken = state.entries.values().any(shared);
            match state.entries.values_mut().find(|entry| entry.offer.model == offer.model) {
                Some(entry) if entry.named || entry.offer == offer => {}
                Some(entry) => (entry.offer, entry.card, entry.failed) = (offer, None, false),
                // The name is that of a model that was given.
                None if taken => {}
                None => {
                    state.add(offer, false);
                }
            }
        }
    }

    /// Ends it: nobody waits for a model any longer. Returns those that are loaded, and whether one is being loaded at
    /// this moment.
    pub fn close(&self) -> (Vec<Ready>, bool) {
        let mut state = self.shared.lock();
        state.stopping = true;
        let ids: Vec<u64> = state.entries.keys().copied().collect();
        let loaded = ids.iter().filter_map(|&id| state.take(id)).collect();
        state.entries.values_mut().for_each(|entry| entry.phase = Phase::Resting);
        self.shared.work.notify_all();
        (loaded, state.loading)
    }
}
