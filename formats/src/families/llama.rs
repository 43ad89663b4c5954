//! Llama 1 to 3.3, and what was trained in its form: SmolLM2, Yi, DeepSeek-R1's distillations.
//!
//! ```text
//! x = E[t]
//! per layer:  u = R(x)            R(x) = x / √(mean x² + ε) · w          (Zhang & Sennrich 2019)
//!             q, k, v = W u       q, k = RoPE(q), RoPE(k)                (Su et al. 2021)
//!             x = x + W_o · softmax(q·k / √h + mask) v                   (Ainslie et al. 2023: GQA)
//!             u = R(x)
//!             x = x + W_d · (silu(W_g u) · W_u u)                        (Shazeer 2020: SwiGLU)
//! logits = W_out · R(x)
//! ```
//!
//! Touvron et al. 2023. RoPE turns neighbours, as in Meta's code; Hugging Face stores the rows of q and k in the order
//! of halves, so they change places on the way to a GGUF. From Llama 3.1 on, `rope_freqs.weight` has the divisors of
//! RoPE's frequencies.

use super::family::{
    Bias, Defaults, EMBEDDING, Extent, Family, OUTPUT, OUTPUT_NORM, ROPE_FACTORS, ROPE_FACTORS_LONG,
    ROPE_FACTORS_SHORT, Spelling, Tensor,
};
use super::names::Role;
use super::plan::BlockPlan;

const ATTENTION_BIAS: Bias = Bias::If("attention_bias");
const MLP_BIAS: Bias = Bias::If("mlp_bias");

/// See the [module](self).
pub(super) const LLAMA: Family = Family {
    architecture: "llama",
    model_types: &["llama"],
    // The second is how the first conversions of Llama 1 spelled it.
    classes: &["LlamaForCausalLM", "LLaMAForCausalLM"],
    spelling: Spelling::LLAMA,
    defaults: Defaults::LLAMA,
    block: BlockPlan::LLAMA,
    experts: None,
    tensors: &[
        EMBEDDING,
        ROPE_FACTORS,
        ROPE_FACTORS_LONG,
        ROPE_FACTORS_SHORT,
        Tensor::norm(Role::AttentionNorm, "input_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden)
            .bias(ATTENTION_BIAS)
            .halves_to_neighbours(),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden)
            .bias(ATTENTION_BIAS)
            .halves_to_neighbours(),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden).bias(ATTENTION_BIAS),
        Tensor::matrix(Role::AttentionOutput, "self_attn.o_proj", Extent::Hidden, Extent::Queries).bias(ATTENTION_BIAS),
        Tensor::norm(Role::FeedForwardNorm, "post_attention_layernorm", Extent::Hidden),
        Tensor::matrix(Role::Gate, "mlp.gate_proj", Extent::FeedForward, Extent::Hidden).bias(MLP_BIAS),
        Tensor::matrix(Role::Up, "mlp.up_proj", Extent::FeedForward, Extent::Hidden).bias(MLP_BIAS),
        Tensor::matrix(Role::Down, "mlp.down_proj", Extent::Hidden, Extent::FeedForward).bias(MLP_BIAS),
        OUTPUT_NORM,
        OUTPUT,
    ],
};
