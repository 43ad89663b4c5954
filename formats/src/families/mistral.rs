//! Mistral 7B and Nemo, Mistral Small, Codestral, Mathstral.
//!
//! Jiang et al. 2023. The layers are [Llama's](super::llama), and so are the tensors and their order; GGUF calls
//! both `llama`. The first Mistral 7B was trained with a window: a position sees itself and those before it,
//! `sliding_window` in all. Up to that many positions the window hides nothing, so a model with a window has a context
//! of that length here, where transformers goes on to `max_position_embeddings`.

use super::family::{Defaults, Family};
use super::llama::LLAMA;

/// See the [module](self).
pub(super) const MISTRAL: Family = Family {
    model_types: &["mistral"],
    classes: &["MistralForCausalLM"],
    defaults: Defaults { context: 131_072, head_dim: None, kv_heads: Some(8), window: Some(4096) },
    ..LLAMA
};
