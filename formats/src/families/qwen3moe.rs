//! Qwen3's mixtures of experts: 30B-A3B, 235B-A22B, Coder.
//!
//! ```text
//! x = E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u       q, k = RoPE(R(q)), RoPE(R(k))     R of each head by itself
//!             x = x + W_o · softmax(q·k / √h + mask) v
//!             u = R(x)            p = softmax(W_r u), of which the eight largest are kept
//!             x = x + Σ p_e · W_d,e · (silu(W_g,e u) · W_u,e u)      over those eight
//! logits = W_out · R(x)
//! ```
//!
//! Yang et al. 2025. A [Qwen3](super::qwen3) with experts for feed-forward layers (Shazeer et al. 2017). Whether the
//! weights that are kept are made to sum to 1 is said by `norm_topk_prob`: in all published models they are. Some
//! layers may be dense (`mlp_only_layers`, `decoder_sparse_step`), which llama.cpp does not know.

use super::family::{
    Bias, Defaults, EMBEDDING, ExpertKeys, ExpertLayers, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS,
    ROPE_FACTORS_LONG, ROPE_FACTORS_SHORT, Spelling, Tensor,
};
use super::names::Role;
use super::plan::{BlockPlan, QkNorm, RopePairs, Router, Windows};

const ATTENTION_BIAS: Bias = Bias::If("attention_bias");

/// See the [module](self).
pub(super) const QWEN3_MOE: Family = Family {
    architecture: "qwen3moe",
    model_types: &["qwen3_moe"],
    classes: &["Qwen3MoeForCausalLM"],
    defaults: Defaults { context: 32768, kv_heads: Some(4), ..Defaults::LLAMA },
    spelling: Spelling::LLAMA,
    block: BlockPlan {
        rope: RopePairs::Halves,
        qk_norm: Some(QkNorm::Head),
        windows: Windows::AllIfUsed,
        router: Some(Router::Softmax { normalised: true }),
        ..BlockPlan::LLAMA
    },
    experts: Some(ExpertKeys {
        count: (&["num_experts", "num_local_experts"], 128),
        used: 8,
        width: Some(("moe_intermediate_size", 768)),
        dense_width: None,
        normalised: Some(("norm_topk_prob", false)),
        layers: ExpertLayers::SparseStep,
    }),
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        ROPE_FACTORS_LONG,
        ROPE_FACTORS_SHORT,
        Tensor::norm(Role::AttentionNorm, "input_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden).bias(ATTENTION_BIAS),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden).bias(ATTENTION_BIAS),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden).bias(ATTENTION_BIAS),
        Tensor::norm(Role::QueryNorm, "self_attn.q_norm", Extent::Head),
        Tensor::norm(Role::KeyNorm, "self_attn.k_norm", Extent::Head),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries).bias(ATTENTION_BIAS),
        Tensor::norm(Role::FeedForwardNorm, "post_attention_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Gate, "mlp.gate_proj", Extent::FeedForward, Extent::Hidden).dense(),
        Tensor::matrix(Role::Up, "mlp.up_proj", Extent::FeedForward, Extent::Hidden).dense(),
        Tensor::matrix(Role::Down, "mlp.down_proj", Extent::Hidden, Extent::FeedForward).dense(),
        Tensor::router("mlp.gate"),
        Tensor::bank(Role::ExpertGate, "mlp.experts.*.gate_proj", Extent::ExpertFeedForward, Extent::Hidden),
        Tensor::bank(Role::ExpertUp, "mlp.experts.*.up_proj", Extent::ExpertFeedForward, Extent::Hidden),
        Tensor::bank(Role::ExpertDown, "mlp.experts.*.down_proj", Extent::Hidden, Extent::ExpertFeedForward),
        OUTPUT_NORM,
        OUTPUT,
    ],
};
