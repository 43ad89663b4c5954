//! A model that may be had.

use std::time::SystemTime;

use super::keep_alive::KeepAlive;

/// A model that may be had, whether or not it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What clients call it; the first is its id.
    pub names: Vec<String>,
    /// What clients call it together with one of its LoRA adapters.
    pub adapters: Vec<String>,
    /// What [`quipu_runtime::open()`] takes.
    pub model: String,
    /// How long it stays when nobody uses it, unless a request says otherwise.
    pub keep_alive: KeepAlive,
    /// When its file was changed last, and its size, where it was found in a directory: a file that has changed since
    /// is another model.
    pub version: Option<(SystemTime, u64)>,
}

impl Offer {
    /// A model that stays once it is loaded.
    pub fn new(names: Vec<String>, model: impl Into<String>) -> Offer {
        Offer { names, adapters: Vec::new(), model: model.into(), keep_alive: KeepAlive::Forever, version: None }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}
