//! Fetching models: from the Hub into its cache, from ollama's registry into its store.
//!
//! - `puller`: start here; `hub` and `ollama` know the two protocols, `choice` which files of a repository are a model.
//! - `blob`: one file, with what came of it before, and never two at once; `again`: how often something is tried.
//! - `client`: requests, and who may be sent a token; `tls`: encryption without C; `token`: whose it is.
//!
//! What is fetched lies where the Hub's and ollama's own programs look for it, under the names that they give it: they
//! and Quipu fetch nothing twice. A file has its name only when its digest is what it should be.

mod again;
mod blob;
mod choice;
mod client;
mod error;
mod event;
mod hub;
mod ollama;
mod puller;
mod tls;
mod token;

pub use error::PullError;
pub use event::Event;
pub use puller::Puller;
