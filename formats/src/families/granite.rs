//! Granite 3, the dense models.
//!
//! ```text
//! x = e · E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u       q, k = RoPE(q), RoPE(k)
//!             x = x + r · W_o · softmax(a · q·k + mask) v
//!             u = R(x)
//!             x = x + r · W_d · (silu(W_g u) · W_u u)
//! logits = W_out · R(x) / l
//! ```
//!
//! Granite Team 2024. A [Llama](super::llama) with four factors: `embedding_multiplier` e, `attention_multiplier` a,
//! `residual_multiplier` r and `logits_scaling` l.

use super::family::{Defaults, Family};
use super::llama::LLAMA;
use super::plan::{AttentionScale, BlockPlan, Scale, Scales};

/// See the [module](self).
pub(super) const GRANITE: Family = Family {
    architecture: "granite",
    model_types: &["granite"],
    classes: &["GraniteForCausalLM"],
    defaults: Defaults::LLAMA,
    block: BlockPlan {
        scales: Scales {
            embedding: Scale::Key("embedding_multiplier"),
            attention: AttentionScale::Key("attention_multiplier"),
            residual: Scale::Key("residual_multiplier"),
            logits: Scale::Key("logits_scaling"),
            ..Scales::NONE
        },
        ..BlockPlan::LLAMA
    },
    ..LLAMA
};
