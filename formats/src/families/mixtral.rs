//! Mixtral 8x7B and 8x22B.
//!
//! ```text
//! x = E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u       q, k = RoPE(q), RoPE(k)
//!             x = x + W_o · softmax(q·k / √h + mask) v
//!             u = R(x)            p = softmax(W_r u), of which the two largest are kept and made to sum to 1
//!             x = x + Σ p_e · W_d,e · (silu(W_g,e u) · W_u,e u)      over those two
//! logits = W_out · R(x)
//! ```
//!
//! Jiang et al. 2024. A [Mistral](super::mistral) with experts for feed-forward layers (Shazeer et al. 2017); GGUF
//! calls it `llama` as well, and has all matrices of a kind in one tensor, expert after expert. w1 is the gate, w3 the
//! way up, w2 the way down.

use super::family::{
    Defaults, EMBEDDING, ExpertKeys, ExpertLayers, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS,
    ROPE_FACTORS_LONG, ROPE_FACTORS_SHORT, Spelling, Tensor,
};
use super::names::Role;
use super::plan::{BlockPlan, Router, Windows};

/// See the [module](self).
pub(super) const MIXTRAL: Family = Family {
    architecture: "llama",
    model_types: &["mixtral"],
    classes: &["MixtralForCausalLM"],
    defaults: Defaults { context: 131_072, kv_heads: Some(8), epsilon: 1e-5, ..Defaults::LLAMA },
    spelling: Spelling::LLAMA,
    block: BlockPlan { windows: Windows::All, router: Some(Router::Softmax { normalised: true }), ..BlockPlan::LLAMA },
    experts: Some(ExpertKeys {
        count: (&["num_local_experts"], 8),
        used: 2,
        width: None,
        dense_width: None,
        normalised: None,
        layers: ExpertLayers::All,
    }),
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        ROPE_FACTORS_LONG,
        ROPE_FACTORS_SHORT,
        Tensor::norm(Role::AttentionNorm, "input_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden).halves_to_neighbours(),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden).halves_to_neighbours(),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries),
        Tensor::norm(Role::FeedForwardNorm, "post_attention_layernorm", Extent::Hidden),
        Tensor::router("block_sparse_moe.gate"),
        Tensor::bank(Role::ExpertGate, "block_sparse_moe.experts.*.w1", Extent::ExpertFeedForward, Extent::Hidden),
        Tensor::bank(Role::ExpertUp, "block_sparse_moe.experts.*.w3", Extent::ExpertFeedForward, Extent::Hidden),
        Tensor::bank(Role::ExpertDown, "block_sparse_moe.experts.*.w2", Extent::Hidden, Extent::ExpertFeedForward),
        OUTPUT_NORM,
        OUTPUT,
    ],
};
