//! OPT and Galactica.
//!
//! ```text
//! x = W_in E[t] + P[p]
//! per layer:  u = N(x)            N(x) = (x − mean x) / √(mean (x − mean x)² + ε) · w + b      (Ba et al. 2016)
//!             q, k, v = W u + b
//!             x = x + W_o · softmax(q·k / √h + mask) v + b
//!             u = N(x)
//!             x = x + W_d · f(W_u u + b) + b
//! logits = E · W_out · N(x)
//! ```
//!
//! Zhang et al. 2022; Taylor et al. 2022. Positions are learned, so there is no RoPE, and no text is longer than what
//! the model was made for. f is ReLU, in Galactica GELU. Only OPT-350M has an embedding narrower than its layers, W_in
//! and W_out, and norms behind what is added, x = N(x + …) with u = x, but none behind the last layer. config.json can
//! switch off the biases, and those and the weights of norms.
//!
//! llama.cpp does not have this architecture. Keys and tensors have the names that it gives them elsewhere. Of P,
//! Hugging Face has two rows more, which nothing reads.

use super::family::{Bias, Defaults, Extent, Family, Presence, RowOrder, Spelling, Tensor};
use super::names::Role;
use super::plan::{BlockPlan, NormKind, Ungated};

const ENABLED: Bias = Bias::Unless("enable_bias");
const AFFINE: Bias = Bias::Unless("layer_norm_elementwise_affine");

/// See the [module](self).
pub(super) const OPT: Family = Family {
    architecture: "opt",
    model_types: &["opt"],
    classes: &["OPTForCausalLM"],
    spelling: Spelling { layers: "model.decoder.layers.", feed_forward: "ffn_dim", activation: "activation_function" },
    defaults: Defaults { epsilon: 1e-5, tied: true, ..Defaults::LLAMA },
    block: BlockPlan {
        norm: NormKind::Layer,
        ungated: Some(Ungated::Relu),
        // None has any.
        without_rope: Some(1),
        ..BlockPlan::LLAMA
    },
    experts: None,
    tensors: &[
        Tensor::matrix(Role::TokenEmbedding, "model.decoder.embed_tokens", Extent::Vocabulary, Extent::Embedding),
        Tensor::matrix(Role::Positions, "model.decoder.embed_positions", Extent::Positions, Extent::Hidden)
            .rows(RowOrder::From(2)),
        Tensor::matrix(Role::EmbeddingIn, "model.decoder.project_in", Extent::Hidden, Extent::Embedding)
            .presence(Presence::Projected),
        Tensor::norm(Role::AttentionNorm, "self_attn_layer_norm", Extent::Hidden).bias(AFFINE),
        Tensor::matrix(Role::Query, "self_attn.q_proj", Extent::Queries, Extent::Hidden).bias(ENABLED),
        Tensor::matrix(Role::Key, "self_attn.k_proj", Extent::Keys, Extent::Hidden).bias(ENABLED),
        Tensor::matrix(Role::Value, "self_attn.v_proj", Extent::Keys, Extent::Hidden).bias(ENABLED),
        Tensor::matrix(Role::AttentionOutput, "self_attn.out_proj", Extent::Hidden, Extent::Queries).bias(ENABLED),
        Tensor::norm(Role::FeedForwardNorm, "final_layer_norm", Extent::Hidden).bias(AFFINE),
        Tensor::matrix(Role::Up, "fc1", Extent::FeedForward, Extent::Hidden).bias(ENABLED),
        Tensor::matrix(Role::Down, "fc2", Extent::Hidden, Extent::FeedForward).bias(ENABLED),
        Tensor::norm(Role::OutputNorm, "model.decoder.final_layer_norm", Extent::Hidden)
            .bias(AFFINE)
            .presence(Presence::FinalNorm),
        Tensor::matrix(Role::EmbeddingOut, "model.decoder.project_out", Extent::Embedding, Extent::Hidden)
            .presence(Presence::Projected),
        Tensor::matrix(Role::Output, "lm_head", Extent::Vocabulary, Extent::Embedding).presence(Presence::Untied),
    ],
};
