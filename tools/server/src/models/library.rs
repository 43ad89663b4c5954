//! The models of a server, and what they may take: what a server is given when it begins.

use std::io;

use quipu_runtime::generate::Scheduler;

use super::directory::Directory;
use super::offer::Offer;
use crate::model::Model;

/// A model that is loaded, and what writes with it.
pub struct Loaded {
    /// What is known of it.
    pub model: Model,
    /// What writes. Its budget for keys and values becomes its share of [`Library::kv_memory`].
    pub scheduler: Scheduler,
}

/// Loads a model.
pub type Load<E> = Box<dyn FnMut(&Offer) -> Result<Loaded, E> + Send>;

/// The models of a server, and what they may take.
pub struct Library<E> {
    /// Models that there are whatever is in the directory. The first is loaded at once, before anything is answered;
    /// if that fails, the server ends.
    pub offers: Vec<Offer>,
    /// More of them.
    pub directory: Option<Directory>,
    /// Loads one, on a thread of its own and never two at once.
    pub load: Load<E>,
    /// Bytes that the weights of all loaded models may take together; by default what the machine has.
    pub weights: Option<u64>,
    /// Bytes that the keys and values of all models may take together; by default half of what is free.
    pub kv_memory: Option<u64>,
}

impl<E: From<io::Error>> Library<E> {
    /// These models.
    pub fn new(
        offers: impl IntoIterator<Item = Offer>,
        load: impl FnMut(&Offer) -> Result<Loaded, E> + Send + 'static,
    ) -> Library<E> {
        let offers = offers.into_iter().collect();
        Library { offers, directory: None, load: Box::new(load), weights: None, kv_memory: None }
    }
}
