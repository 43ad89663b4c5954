//! SmolLM3.
//!
//! Bakouch et al. 2025. A [Llama](super::llama), of which every fourth layer turns neither queries nor keys (NoPE:
//! Kazemnejad et al. 2023).

use super::family::{Defaults, Family};
use super::llama::LLAMA;
use super::plan::BlockPlan;

/// See the [module](self).
pub(super) const SMOLLM3: Family = Family {
    architecture: "smollm3",
    model_types: &["smollm3"],
    classes: &["SmolLM3ForCausalLM"],
    defaults: Defaults { context: 32768, kv_heads: Some(4), rope_base: 2_000_000.0, tied: true, ..Defaults::LLAMA },
    block: BlockPlan { without_rope: Some(4), ..BlockPlan::LLAMA },
    ..LLAMA
};
