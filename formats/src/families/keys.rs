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
/// Elements of a head that RoPE turns.
pub const ROPE_DIM: &str = "rope.dimension_count";
/// RoPE's base.
pub const ROPE_BASE: &str = "rope.freq_base";
/// How RoPE is stretched: `none`, `linear`, or a way that is not known here.
pub const ROPE_SCALING: &str = "rope.scaling.type";
/// The factor by which RoPE is stretched.
pub const ROPE_FACTOR: &str = "rope.scaling.factor";
/// The same factor in older files, which have no `rope.scaling.*`.
pub const ROPE_FACTOR_OLD: &str = "rope.scale_linear";
