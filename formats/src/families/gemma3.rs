//! Gemma 3, its text.
//!
//! ```text
//! x = √d · E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u       q, k = RoPE(R(q)), RoPE(R(k))     R of each head by itself
//!             x = x + R(W_o · softmax(q·k / √s + mask) v)
//!             u = R(x)
//!             x = x + R(W_d · (gelu(W_g u) · W_u u))               (Shazeer 2020: GeGLU)
//! logits = E · R(x)
//! ```
//!
//! Gemma Team 2025. Five layers of six have a window, and a RoPE of their own with a small base that nothing stretches;
//! the sixth sees all. There is a norm before and behind attention and feed-forward layer, whose weights Hugging Face
//! has less 1. `s` is `query_pre_attn_scalar`, as a rule the length of a head. The 4B and larger models have their text
//! model inside one that sees images, too; that part is left out.

use super::family::{Defaults, EMBEDDING, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, Spelling, Tensor};
use super::names::Role;
use super::plan::{Activation, AttentionScale, BlockPlan, Cap, LocalRope, QkNorm, RopePairs, Scale, Scales, Windows};

/// See the [module](self).
pub(super) const GEMMA3: Family = Family {
    architecture: "gemma3",
    model_types: &["gemma3_text", "gemma3"],
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    // `hidden_act` stands beside it and means nothing.
    spelling: Spelling { activation: "hidden_activation", ..Spelling::LLAMA },
    defaults: Defaults {
        context: 131_072,
        head_dim: Some(256),
        heads: Some(8),
        vocabulary: Some(262_208),
        kv_heads: Some(4),
        window: Some(4096),
        rope_base: 1_000_000.0,
        tied: true,
        ..Defaults::LLAMA
    },
    block: BlockPlan {
        rope: RopePairs::Halves,
        qk_norm: Some(QkNorm::Head),
        activation: Activation::GeluTanh,
        windows: Windows::AllBut(6),
        local_rope: Some(LocalRope { base: Some(10_000.0) }),
        scales: Scales {
            embedding: Scale::RootOfHidden,
            attention: AttentionScale::InverseRoot { key: "query_pre_attn_scalar", default: 256.0, layers_of_27b: 62 },
            logit_cap: Cap::Key("final_logit_softcapping", None),
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
        Tensor::norm(Role::QueryNorm, "self_attn.q_norm", Extent::Head).plus_one(),
        Tensor::norm(Role::KeyNorm, "self_attn.k_norm", Extent::Head).plus_one(),
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
