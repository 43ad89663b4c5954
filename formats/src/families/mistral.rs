//! Mistral 7B and Nemo, Mistral Small, Codestral, Mathstral.
//!
//! Jiang et al. 2023. The layers are [Llama's](super::llama), and so are the tensors and their order; GGUF calls
//! both `llama`. The first Mistral 7B was trained with a window: a position sees itself and those before it,
//! `sliding_window` in all. llama.cpp has no windows in this architecture.

use super::family::{Defaults, Family};
use super::llama::LLAMA;
use super::plan::{BlockPlan, Windows};

/// See the [module](self).
pub(super) const MISTRAL: Family = Family {
    model_types: &["mistral"],
    classes: &["MistralForCausalLM"],
    defaults: Defaults { context: 131_072, kv_heads: Some(8), window: Some(4096), ..Defaults::LLAMA },
    block: BlockPlan { windows: Windows::All, ..BlockPlan::LLAMA },
    ..LLAMA
};
