//! OLMo 2 and OLMo 3.
//!
//! ```text
//! x = E[t]
//! per layer:  q, k, v = W x       q, k = RoPE(R(q)), RoPE(R(k))     R of all heads together
//!             x = x + R(W_o · softmax(q·k / √h + mask) v)          R(x) = x / √(mean x² + ε) · w
//!             x = x + R(W_d · (silu(W_g x) · W_u x))
//! logits = W_out · R(x)
//! ```
//!
//! OLMo et al. 2024. Norms stand behind attention and feed-forward layer and not before them. In OLMo 3 three layers of
//! four have a window, and YaRN stretches the RoPE of the fourth alone. GGUF calls both `olmo2`.

use super::family::{Bias, Defaults, EMBEDDING, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, Spelling, Tensor};
use super::names::Role;
use super::plan::{BlockPlan, LocalRope, QkNorm, RopePairs, Windows};

const ATTENTION_BIAS: Bias = Bias::If("attention_bias");

/// OLMo 2; see the [module](self).
pub(super) const OLMO2: Family = Family {
    architecture: "olmo2",
    model_types: &["olmo2"],
    classes: &["Olmo2ForCausalLM"],
    spelling: Spelling::LLAMA,
    defaults: Defaults { epsilon: 1e-5, ..Defaults::LLAMA },
    block: BlockPlan {
        rope: RopePairs::Halves,
        qk_norm: Some(QkNorm::Row),
        windows: Windows::AllBut(4),
        local_rope: Some(LocalRope { base: None }),
        ..BlockPlan::LLAMA
    },
    experts: None,
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden).bias(ATTENTION_BIAS),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden).bias(ATTENTION_BIAS),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden).bias(ATTENTION_BIAS),
        Tensor::norm(Role::QueryNorm, "self_attn.q_norm", Extent::Queries),
        Tensor::norm(Role::KeyNorm, "self_attn.k_norm", Extent::Keys),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries).bias(ATTENTION_BIAS),
        Tensor::norm(Role::AttentionPostNorm, "post_attention_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Gate, "mlp.gate_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Up, "mlp.up_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Down, "mlp.down_proj", Extent::Hidden, Extent::FeedForward),
        Tensor::norm(Role::FeedForwardPostNorm, "post_feedforward_layernorm", Extent::Hidden),
        OUTPUT_NORM,
        OUTPUT,
    ],
};

/// OLMo 3; see the [module](self).
pub(super) const OLMO3: Family = Family {
    model_types: &["olmo3"],
    classes: &["Olmo3ForCausalLM"],
    defaults: Defaults { epsilon: 1e-5, window: Some(4096), rope_base: 500_000.0, ..Defaults::LLAMA },
    ..OLMO2
};
