//! Qwen2 and Qwen2.5, and what was trained in their form: DeepSeek-R1's Qwen distillations.
//!
//! ```text
//! x = E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w
//!             q, k, v = W u + b   q, k = RoPE(q), RoPE(k)
//!             x = x + W_o · softmax(q·k / √h + mask) v
//!             u = R(x)
//!             x = x + W_d · (silu(W_g u) · W_u u)
//! logits = W_out · R(x)
//! ```
//!
//! Yang et al. 2024. A Llama but for two things: queries, keys and values have biases, and RoPE turns element `i` of a
//! head of `n` elements together with element `i + n/2`. Hugging Face's files and GGUFs agree in that, so no row
//! changes its place.

use super::family::{
    Bias, Defaults, EMBEDDING, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, ROPE_FACTORS_LONG,
    ROPE_FACTORS_SHORT, Spelling, Tensor,
};
use super::names::Role;
use super::plan::{BlockPlan, RopePairs, Windows};

/// See the [module](self).
pub(super) const QWEN2: Family = Family {
    architecture: "qwen2",
    model_types: &["qwen2"],
    classes: &["Qwen2ForCausalLM"],
    spelling: Spelling::LLAMA,
    defaults: Defaults { context: 32768, ..Defaults::LLAMA },
    block: BlockPlan { rope: RopePairs::Halves, windows: Windows::Last, ..BlockPlan::LLAMA },
    experts: None,
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        ROPE_FACTORS_LONG,
        ROPE_FACTORS_SHORT,
        Tensor::norm(Role::AttentionNorm, "input_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden).bias(Bias::Always),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden).bias(Bias::Always),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden).bias(Bias::Always),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries),
        Tensor::norm(Role::FeedForwardNorm, "post_attention_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Gate, "mlp.gate_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Up, "mlp.up_proj", Extent::FeedForward, Extent::Hidden),
        Tensor::matrix(Role::Down, "mlp.down_proj", Extent::Hidden, Extent::FeedForward),
        OUTPUT_NORM,
        OUTPUT,
    ],
};
