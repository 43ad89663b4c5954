//! Several models in one server: which there are, which are loaded, and for how long.
//!
//! - [`library`]: what a server is given: [`offer`]s of models, a [`directory`] with more, and how one is loaded.
//!   [`keep_alive`]: how long one stays.
//! - [`host`]: the list of all, which requests ask; it answers at once. [`view`]: what is told of a model.
//! - [`state`]: what is in the list, and a loaded model in the hands of a request, which keeps it from being unloaded.
//! - [`fetch`]: one more, by a request that names it, where that is allowed.
//! - `keeper`: the thread that loads and unloads; `room`: who has to go for another, and who gets how much memory.

pub mod directory;
pub mod fetch;
pub mod host;
pub mod keep_alive;
pub(crate) mod keeper;
pub mod library;
pub mod offer;
mod room;
pub mod state;
pub mod view;
