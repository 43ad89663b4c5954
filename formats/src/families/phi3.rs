//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini.
//!
//! ```text
//! x = E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             (q | k | v) = W u   q, k = RoPE(q), RoPE(k)           of the first part of each head
//!             x = x + W_o · softmax(q·k / √h + mask) v
//!             u = R(x)
//!             (g | p) = W u       x = x + W_d · (silu(g) · p)
//! logits = W_out · R(x)
//! ```
//!
//! Abdin et al. 2024. Three matrices are one, and so are gate and way up. RoPE turns halves, in Phi-4-mini of three
//! quarters of a head, with LongRoPE's factors for long contexts. All layers of some models have a window, which
//! llama.cpp does not give them.

use super::family::{
    Defaults, EMBEDDING, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, ROPE_FACTORS_LONG, ROPE_FACTORS_SHORT,
    Spelling, Tensor,
};
use super::names::Role;
use super::plan::{BlockPlan, RopePairs, Windows};

/// See the [module](self).
pub(super) const PHI3: Family = Family {
    architecture: "phi3",
    model_types: &["phi3"],
    classes: &["Phi3ForCausalLM"],
    spelling: Spelling::LLAMA,
    defaults: Defaults { context: 4096, epsilon: 1e-5, ..Defaults::LLAMA },
    block: BlockPlan { rope: RopePairs::Halves, partial_rope: true, windows: Windows::All, ..BlockPlan::LLAMA },
    experts: None,
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        ROPE_FACTORS_LONG,
        ROPE_FACTORS_SHORT,
        Tensor::norm(Role::AttentionNorm, "input_layernorm", Extent::Hidden),
        Tensor::matrix(Role::QueryKeyValue, "self_attn.qkv_proj", Extent::QueriesKeysValues, Extent::Hidden),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries),
        Tensor::norm(Role::FeedForwardNorm, "post_attention_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Up, "mlp.gate_up_proj", Extent::GateAndUp, Extent::Hidden),
        Tensor::matrix(Role::Down, "mlp.down_proj", Extent::Hidden, Extent::FeedForward),
        OUTPUT_NORM,
        OUTPUT,
    ],
};
