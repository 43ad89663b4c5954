//! What was made lately, to be found again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::limits;

/// Things by the texts that they were made of, as many as [`limits`] says; those go first that were asked for longest
/// ago.
pub struct Kept<T>(Mutex<VecDeque<(String, Arc<T>)>>);

impl<T> Default for Kept<T> {
    fn default() -> Kept<T> {
        Kept(Mutex::default())
    }
}

impl<T> Kept<T> {
    /// What was made of `key`.
    pub fn find(&self, key: &str) -> Option<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(kept, _)| kept == key)?;
        let entry = kept.remove(at)?;
        let found = entry.1.clone();
        kept.push_front(entry);
        Some(found)
    }

    /// Keeps what was made of `key`.
    pub fn keep(&self, key: String, made: T) -> Arc<T> {
        let made = Arc::new(made);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((key, made.clone()));
        while kept.len() > limits::KEPT || kept.iter().map(|(key, _)| key.len()).sum::<usize>() > limits::KEPT_TEXT {
            kept.pop_back();
        }
        made
    }
}
