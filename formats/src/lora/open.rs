//! An adapter's file or directory is opened, whoever wrote it.

use std::path::Path;

use super::adapter::Adapter;
use super::error::AdapterError;
use super::{gguf, peft};
use crate::source::Source;

impl Adapter {
    /// Reads the adapter at `path` for `model`: a directory by PEFT (adapter_config.json, adapter_model.safetensors) or
    /// a GGUF by llama.cpp.
    ///
    /// # Errors
    /// When it cannot be read, is more than LoRA, or does not fit.
    pub fn open(path: &Path, model: &dyn Source) -> Result<Adapter, AdapterError> {
        if path.is_dir() { peft::read(path, model) } else { gguf::read(path, model) }
    }
}
