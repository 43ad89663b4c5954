//! Qwen3, the dense models.
//!
//! ```text
//! x = E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u       q, k = RoPE(R(q)), RoPE(R(k))     R of each head by itself
//!             x = x + W_o · softmax(q·k / √h + mask) v
//!             u = R(x)
//!             x = x + W_d · (silu(W_g u) · W_u u)
//! logits = W_out · R(x)
//! ```
//!
//! Yang et al. 2025. As Qwen2, but instead of biases queries and keys have a norm of each head (Dehghani et al. 2023),
//! and a head is 128 long where `hidden_size / num_attention_heads` may be something else. transformers has biases for
//! it, too (`attention_bias`); no published model does, and llama.cpp would not load one.

use super::family::{
    Bias, Defaults, EMBEDDING, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, ROPE_FACTORS_LONG,
    ROPE_FACTORS_SHORT, Spelling, Tensor,
};
use super::names::Role;
use super::plan::{BlockPlan, QkNorm, RopePairs, Windows};

const ATTENTION_BIAS: Bias = Bias::If("attention_bias");

/// See the [module](self).
pub(super) const QWEN3: Family = Family {
    architecture: "qwen3",
    model_types: &["qwen3"],
    classes: &["Qwen3ForCausalLM"],
    spelling: Spelling::LLAMA,
    defaults: Defaults { context: 32768, head_dim: Some(128), ..Defaults::LLAMA },
    block: BlockPlan {
        rope: RopePairs::Halves,
        qk_norm: Some(QkNorm::Head),
        windows: Windows::Last,
        ..BlockPlan::LLAMA
    },
    experts: None,
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
        Tensor::matrix(Role::Gate, "mlp.gate_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Up, "mlp.up_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Down, "mlp.down_proj", Extent::Hidden, Extent::FeedForward),
        OUTPUT_NORM,
        OUTPUT,
    ],
};
