//! Llama 4: Scout and Maverick, and the dense models in their form: Llama Guard 4, MobileLLM-R1. Their text.
//!
//! ```text
//! x = E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u
//!             three layers of four:  q, k = B(RoPE(q)), B(RoPE(k))       B(x) = x / √(mean x² + ε), of each head
//!             the fourth:            q = q · (1 + 0.1 · ln(1 + ⌊(p + 1) / 8192⌋))     (Nakanishi 2025)
//!             x = x + W_o · softmax(q·k / √h + mask) v
//!             u = R(x)
//!             x = x + W_d · (silu(W_g u) · W_u u)                          in a dense layer, and with experts
//!             x = x + S(u) + Σ W_d,e · (silu(W_g,e s_e u) · W_u,e s_e u)   s_e = σ(W_r u)_e, of the largest score
//! logits = W_out · R(x)
//! ```
//!
//! Meta 2025. Layers with RoPE see their own chunk of 8192 positions only, the fourth without RoPE sees all. S is the
//! expert that serves all tokens. Maverick has experts in every second layer and no norm B. Hugging Face's files have
//! the rows of q and k in Meta's order, as GGUF, and all experts in one tensor, inputs first. Images are left out.

use super::family::{
    Defaults, EMBEDDING, ExpertKeys, ExpertLayers, Extent, Family, Half, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, Spelling,
    Tensor,
};
use super::names::Role;
use super::plan::{BlockPlan, Router, Windows};

/// See the [module](self).
pub(super) const LLAMA4: Family = Family {
    architecture: "llama4",
    model_types: &["llama4_text", "llama4"],
    classes: &["Llama4ForCausalLM", "Llama4ForConditionalGeneration"],
    defaults: Defaults {
        context: 131_072,
        head_dim: Some(128),
        kv_heads: Some(8),
        window: Some(8192),
        epsilon: 1e-5,
        rope_base: 500_000.0,
        ..Defaults::LLAMA
    },
    spelling: Spelling::LLAMA,
    block: BlockPlan {
        windows: Windows::Chunks,
        without_rope: Some(4),
        bare_qk_norm: true,
        temperature: true,
        router: Some(Router::SigmoidOfInput),
        ..BlockPlan::LLAMA
    },
    experts: Some(ExpertKeys {
        count: (&["num_local_experts"], 16),
        used: 1,
        width: Some(("intermediate_size", 8192)),
        dense_width: Some("intermediate_size_mlp"),
        normalised: None,
        layers: ExpertLayers::Interleaved,
    }),
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        Tensor::norm(Role::AttentionNorm, "input_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries),
        Tensor::norm(Role::FeedForwardNorm, "post_attention_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Gate, "feed_forward.gate_proj", Extent::FeedForward, Extent::Hidden).dense(),
        Tensor::matrix(Role::Up, "feed_forward.up_proj", Extent::FeedForward, Extent::Hidden).dense(),
        Tensor::matrix(Role::Down, "feed_forward.down_proj", Extent::Hidden, Extent::FeedForward).dense(),
        Tensor::router("feed_forward.router"),
        Tensor::bank(Role::ExpertGate, GATE_AND_UP, Extent::ExpertFeedForward, Extent::Hidden).columns(Half::First),
        Tensor::bank(Role::ExpertUp, GATE_AND_UP, Extent::ExpertFeedForward, Extent::Hidden).columns(Half::Second),
        Tensor::bank(Role::ExpertDown, "feed_forward.experts.down_proj", Extent::Hidden, Extent::ExpertFeedForward)
            .columns(Half::Both),
        Tensor::matrix(
            Role::SharedGate,
            "feed_forward.shared_expert.gate_proj",
            Extent::ExpertFeedForward,
            Extent::Hidden,
        )
        .beside_experts(),
        Tensor::matrix(Role::SharedUp, "feed_forward.shared_expert.up_proj", Extent::ExpertFeedForward, Extent::Hidden)
            .beside_experts(),
        Tensor::matrix(
            Role::SharedDown,
            "feed_forward.shared_expert.down_proj",
            Extent::Hidden,
            Extent::ExpertFeedForward,
        )
        .beside_experts(),
        OUTPUT_NORM,
        OUTPUT,
    ],
};

const GATE_AND_UP: &str = "feed_forward.experts.gate_up_proj";
