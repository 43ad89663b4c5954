//! Gemma 2.
//!
//! ```text
//! x = √d · E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u       q, k = RoPE(q), RoPE(k)
//!             x = x + R(W_o · softmax(cap(q·k / √s) + mask) v)     cap(z) = c · tanh(z / c)
//!             u = R(x)
//!             x = x + R(W_d · (gelu(W_g u) · W_u u))
//! logits = cap(E · R(x))
//! ```
//!
//! Gemma Team 2024. The first layer has a window, the second sees all, and so on in turns. Otherwise as
//! [Gemma 3](super::gemma3), without norms of heads and with one RoPE for all layers.

use super::family::{Defaults, EMBEDDING, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, Spelling, Tensor};
use super::names::Role;
use super::plan::{Activation, AttentionScale, BlockPlan, Cap, RopePairs, Scale, Scales, Windows};

/// See the [module](self).
pub(super) const GEMMA2: Family = Family {
    architecture: "gemma2",
    model_types: &["gemma2"],
    classes: &["Gemma2ForCausalLM"],
    spelling: Spelling { activation: "hidden_activation", ..Spelling::LLAMA },
    defaults: Defaults {
        context: 8192,
        head_dim: Some(256),
        kv_heads: Some(4),
        window: Some(4096),
        tied: true,
        ..Defaults::LLAMA
    },
    block: BlockPlan {
        rope: RopePairs::Halves,
        activation: Activation::GeluTanh,
        windows: Windows::AllBut(2),
        scales: Scales {
            embedding: Scale::RootOfHidden,
            attention: AttentionScale::InverseRoot { key: "query_pre_attn_scalar", default: 256.0, layers_of_27b: 46 },
            attention_cap: Cap::Key("attn_logit_softcapping", Some(50.0)),
            logit_cap: Cap::Key("final_logit_softcapping", Some(30.0)),
            ..Scales::NONE
        },
        ..BlockPlan::LLAMA
    },
    experts: None,
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        Tensor::norm(Role::AttentionNorm, "input_layernorm", Extent::Hidden).plus_one(),
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries),
        Tensor::norm(Role::AttentionPostNorm, "post_attention_layernorm", Extent::Hidden).plus_one(),
        Tensor::norm(Role::FeedForwardNorm, "pre_feedforward_layernorm", Extent::Hidden).plus_one(),
        Tensor::matrix(Role::Gate, "mlp.gate_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Up, "mlp.up_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Down, "mlp.down_proj", Extent::Hidden, Extent::FeedForward),
        Tensor::norm(Role::FeedForwardPostNorm, "post_feedforward_layernorm", Extent::Hidden).plus_one(),
        OUTPUT_NORM.plus_one(),
        OUTPUT,
    ],
};
