//! The keys of GGUF's metadata that say how large a model is, without the architecture before them
//! ([`Family::key`](super::Family::key)).

/// The key of the architecture, the only one here that is whole without an architecture before it.
pub const ARCHITECTURE: &str = "general.architecture";
/// Layers.
pub const LAYERS: &str = "block_count";
/// Positions that the model was made for.
pub const CONTEXT: &str = "context_length";
/// The hidden size: the width of the residual stream.
pub const HIDDEN: &str = "embedding_length";
/// The width of the feed-forward layer.
pub const FEED_FORWARD: &str = "feed_forward_length";
/// Rows of the embedding.
pub const VOCABULARY: &str = "vocab_size";
/// Experts of a layer; 0 or absent in a dense model.
pub const EXPERTS: &str = "expert_count";
/// Experts that serve a token.
pub const EXPERTS_USED: &str = "expert_used_count";
/// The width of an expert; that of the feed-forward layer when absent.
pub const EXPERT_FEED_FORWARD: &str = "expert_feed_forward_length";
/// Experts stand in every so many-th layer.
pub const EXPERT_STEP: &str = "interleave_moe_layer_step";
/// Positions of a chunk, in layers that are cut into chunks.
pub const CHUNK: &str = "attention.chunk_size";
/// Positions after which queries of layers without RoPE grow.
pub const TEMPERATURE_FLOOR: &str = "attention.temperature_length";
/// How much they grow; 0 for not at all.
pub const TEMPERATURE_SCALE: &str = "attention.temperature_scale";
/// Whether heads of queries and keys are normed behind RoPE.
pub const BARE_QK_NORM: &str = "use_qk_norm";
/// Whether the weights of a token's experts are made to sum to 1.
pub const EXPERTS_NORMALISED: &str = "expert_weights_norm";
/// Query heads.
pub const HEADS: &str = "attention.head_count";
/// Key and value heads; as many as query heads when absent.
pub const KV_HEADS: &str = "attention.head_count_kv";
/// Elements of a key.
pub const KEY_LENGTH: &str = "attention.key_length";
/// Elements of a value.
pub const VALUE_LENGTH: &str = "attention.value_length";
/// The ε of RMSNorm.
pub const RMS_EPSILON: &str = "attention.layer_norm_rms_epsilon";
/// The ε of LayerNorm.
pub const EPSILON: &str = "attention.layer_norm_epsilon";
/// The factor of attention's scores.
pub const ATTENTION_SCALE: &str = "attention.scale";
/// Positions that each sees in layers with a window, itself among them; 0 for all.
pub const WINDOW: &str = "attention.sliding_window";
/// Which layers have a window: a list of booleans, or that all have but every so many-th.
pub const WINDOW_PATTERN: &str = "attention.sliding_window_pattern";
/// The soft cap of attention's scores.
pub const ATTENTION_CAP: &str = "attn_logit_softcapping";
/// The soft cap of logits.
pub const LOGIT_CAP: &str = "final_logit_softcapping";
/// The factor of embeddings.
pub const EMBEDDING_SCALE: &str = "embedding_scale";
/// The factor of what is added to the residual stream.
pub const RESIDUAL_SCALE: &str = "residual_scale";
/// What logits are divided by.
pub const LOGIT_SCALE: &str = "logit_scale";
/// Elements of a head that RoPE turns.
pub const ROPE_DIM: &str = "rope.dimension_count";
/// RoPE's base.
pub const ROPE_BASE: &str = "rope.freq_base";
/// RoPE's base in layers with a window, where it is another one.
pub const ROPE_BASE_LOCAL: &str = "rope.freq_base_swa";
/// How RoPE is stretched: `none`, `linear`, `yarn`, `longrope`, or a way that is not known here.
pub const ROPE_SCALING: &str = "rope.scaling.type";
/// The factor by which RoPE is stretched.
pub const ROPE_FACTOR: &str = "rope.scaling.factor";
/// The same factor in older files, which have no `rope.scaling.*`.
pub const ROPE_FACTOR_OLD: &str = "rope.scale_linear";
/// The context before RoPE was stretched.
pub const ROPE_ORIGINAL: &str = "rope.scaling.original_context_length";
/// What cosines and sines are multiplied by; with YaRN besides the size that it gives them itself.
pub const ROPE_ATTENTION: &str = "rope.scaling.attn_factor";
/// YaRN's share in the frequencies: 1, or less for a weaker blend.
pub const YARN_BLEND: &str = "rope.scaling.yarn_ext_factor";
/// What cosines and sines are multiplied by instead of the size that YaRN gives them.
pub const YARN_ATTENTION: &str = "rope.scaling.yarn_attn_factor";
/// YaRN's `mscale_all_dim`.
pub const YARN_LOG_MULTIPLIER: &str = "rope.scaling.yarn_log_multiplier";
/// Turns within the original context above which YaRN leaves a pair as it is.
pub const YARN_BETA_FAST: &str = "rope.scaling.yarn_beta_fast";
/// Turns below which YaRN stretches a pair fully.
pub const YARN_BETA_SLOW: &str = "rope.scaling.yarn_beta_slow";

// Of OPT, an architecture that llama.cpp does not have.

/// The width of the embedding, where it is not the hidden size.
pub const EMBEDDING: &str = "token_embedding_length";
/// Whether norms stand behind what attention and feed-forward layer add, and not before it.
pub const NORMS_AFTER: &str = "norm_after";
/// Whether a norm stands behind the last layer.
pub const FINAL_NORM: &str = "final_norm";
/// The function of a feed-forward layer without a gate: `relu` or `gelu`.
pub const ACTIVATION: &str = "activation";

// Quipu's own, whole without an architecture: what GGUF has no key for.

/// The factor of transformers' `dynamic` scaling. llama.cpp does not know it and stretches nothing.
pub const DYNAMIC_FACTOR: &str = "quipu.rope.dynamic_factor";
/// False where YaRN's blending begins and ends between two pairs (transformers' `truncate`).
pub const YARN_TRUNCATE: &str = "quipu.rope.yarn_truncate";
/// Which layers have RoPE, a list of booleans. llama.cpp knows the pattern of an architecture.
pub const ROPED: &str = "quipu.rope.layers";
/// Which layers have experts, a list of booleans; all when absent. llama.cpp knows the pattern of an architecture.
pub const EXPERT_LAYERS: &str = "quipu.expert.layers";
