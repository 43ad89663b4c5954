//! LoRA adapters that stay apart from the model, and the sequences that are read with them.

use quipu_formats::lora::Adapter;

use super::Engine;
use crate::adapters::{AdapterId, Adapters};
use crate::kv::Sequence;
use crate::model::{AdapterLoadError, EngineError, LowRank};

impl Engine {
    /// Loads `adapter`, which was opened for this engine's [source](Engine::source). Texts are read with it if their
    /// [`Adapters`] say so; the model's own matrices stay as they are.
    ///
    /// # Errors
    /// See [`AdapterLoadError`].
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<AdapterId, AdapterLoadError> {
        let model = &mut self.model;
        let loaded = LowRank::load(adapter, &*self.source, |tensor| model.weights.is_product(tensor))?;
        let id = AdapterId { number: model.adapters.len(), fingerprint: loaded.fingerprint() };
        model.adapters.push(loaded);
        // A batch takes more memory from now on.
        self.fitted = 0;
        Ok(id)
    }

    /// Whether all of `adapters` are this engine's.
    ///
    /// # Errors
    /// [`EngineError::OtherAdapter`].
    pub fn check_adapters(&self, adapters: &Adapters) -> Result<(), EngineError> {
        let loaded = |id: &AdapterId| self.model.adapters.get(id.number).map(LowRank::fingerprint);
        let is_ours = adapters.list().iter().all(|(id, _)| loaded(id) == Some(id.fingerprint));
        if is_ours { Ok(()) } else { Err(EngineError::OtherAdapter) }
    }

    /// An empty sequence, to be read with `adapters`.
    ///
    /// # Errors
    /// [`EngineError::OtherAdapter`].
    pub fn new_sequence_with(&self, adapters: &Adapters) -> Result<Sequence, EngineError> {
        self.check_adapters(adapters)?;
        Ok(self.new_sequence().with(adapters))
    }
}
