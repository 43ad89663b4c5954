//! Which LoRA adapters a text is read with, and times what.

use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An adapter that an engine has loaded ([`Engine::load_adapter`](crate::Engine::load_adapter)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId {
    /// Its number among those of the engine, in the order in which they were loaded.
    pub(crate) number: usize,
    /// A checksum of all that it adds.
    pub(crate) fingerprint: u64,
}

/// The adapters of a text, each with a scale. By default there are none: the model as it is.
///
/// Keys and values depend on them, so texts share what was read only where these are the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapters(Option<Arc<[(AdapterId, f32)]>>);

// No scale is NaN or 0.
impl Eq for Adapters {}

impl Hash for Adapters {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.list().iter().for_each(|(id, scale)| (id, scale.to_bits()).hash(state));
    }
}

impl Adapters {
    /// These adapters with these scales, added to the model in the order in which the engine has loaded them. What
    /// comes twice has the sum of its scales, and what has 0 is left out; `None` where a scale is no finite number.
    pub fn new(list: impl IntoIterator<Item = (AdapterId, f32)>) -> Option<Adapters> {
        let mut all: Vec<(AdapterId, f32)> = Vec::new();
        for (id, scale) in list {
            match all.binary_search_by_key(&id, |&(id, _)| id) {
                Ok(at) => all[at].1 += scale,
                Err(at) => all.insert(at, (id, scale)),
            }
        }
        if !all.iter().all(|(_, scale)| scale.is_finite()) {
            return None;
        }
        all.retain(|&(_, scale)| scale != 0.0);
        Some(Adapters((!all.is_empty()).then(|| all.into())))
    }

    /// The adapters, by number, and their scales.
    pub fn list(&self) -> &[(AdapterId, f32)] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The name of all that keys and values depend on besides their text, where `model` is what an engine without
    /// adapters calls that.
    pub(crate) fn identity(&self, model: &str) -> String {
        let mut name = model.to_string();
        for (i, (id, scale)) in self.list().iter().enumerate() {
            let before = if i == 0 { "; adapters" } else { "," };
            let _ = write!(name, "{before} {:016x} times {scale}", id.fingerprint);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> AdapterId {
        AdapterId { number, fingerprint: 10 + number as u64 }
    }

    #[test]
    fn a_list_has_one_form() {
        let adapters = |list: &[(usize, f32)]| Adapters::new(list.iter().map(|&(n, scale)| (id(n), scale)));
        let both = adapters(&[(1, 0.5), (0, 2.0)]).unwrap();
        assert_eq!(both.list(), [(id(0), 2.0), (id(1), 0.5)]);
        assert_eq!(both, adapters(&[(0, 1.0), (1, 0.5), (0, 1.0), (2, 0.0)]).unwrap());
        assert_eq!(adapters(&[(0, 1.0), (0, -1.0)]), Some(Adapters::default()));
        assert!(Adapters::default().is_empty() && !both.is_empty());
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(adapters(&[(0, bad)]), None);
        }
        assert_eq!(Adapters::default().identity("model"), "model");
        assert_eq!(both.identity("m"), "m; adapters 000000000000000a times 2, 000000000000000b times 0.5");
    }
}
