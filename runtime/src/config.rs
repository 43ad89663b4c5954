//! The shape of a model, from GGUF metadata.

use quipu_formats::gguf::{Metadata, MetadataError, Required};

/// The numbers that say how a Llama is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The model's name, if the file says one.
    pub name: Option<String>,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub embedding: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads (GQA).
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Elements of a head that RoPE turns.
    pub rope_dim: usize,
    /// RoPE's base.
    pub rope_base: f32,
    /// Positions are divided by this (linear scaling); 1 for none.
    pub rope_linear: f32,
    /// The ε of RMSNorm.
    pub norm_epsilon: f32,
    /// Positions that the model was made for.
    pub context: usize,
}

/// Why a file's metadata does not describe a model that this runtime runs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A key is missing or has the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Another architecture.
    #[error("this is a `{found}` model; Quipu runs the `llama` architecture")]
    Architecture {
        /// What the file says.
        found: String,
    },
    /// A mixture of experts.
    #[error("this is a mixture of {experts} experts (`llama.expert_count`), which Quipu does not run")]
    Experts {
        /// How many.
        experts: usize,
    },
    /// A number that can't be.
    #[error("metadata key `{key}` is {found}; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What the file has.
        found: String,
        /// What makes sense.
        expected: String,
    },
    /// A way of stretching RoPE that is not implemented.
    #[error("RoPE scaling `{found}` is not supported; known are none, linear and llama3 (rope_freqs.weight)")]
    RopeScaling {
        /// What the file says.
        found: String,
    },
}

/// Far above every model that exists; keeps sizes from overflowing.
const MOST: usize = 1 << 24;

impl Config {
    /// Reads the keys `general.architecture` and `llama.*`.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_metadata(m: &Metadata) -> Result<Config, ConfigError> {
        let architecture = m.str_opt("general.architecture").required("general.architecture")?;
        if architecture != "llama" {
            return Err(ConfigError::Architecture { found: architecture.into() });
        }
        let size = |key: &'static str, value: Option<usize>, default: Option<usize>| match value.or(default) {
            None => Err(MetadataError::Missing { key: key.into() }.into()),
            Some(n) if n == 0 || n > MOST => {
                Err(ConfigError::Value { key, found: n.to_string(), expected: format!("1 to {MOST}") })
            }
            Some(n) => Ok(n),
        };
        if let Some(experts @ 1..) = m.usize_opt("llama.expert_count")? {
            return Err(ConfigError::Experts { experts });
        }
        let layers = size("llama.block_count", m.usize_opt("llama.block_count")?, None)?;
        let embedding = size("llama.embedding_length", m.usize_opt("llama.embedding_length")?, None)?;
        let feed_forward = size("llama.feed_forward_length", m.usize_opt("llama.feed_forward_length")?, None)?;
        let heads = size("llama.attention.head_count", m.usize_opt("llama.attention.head_count")?, None)?;
        let kv_key = "llama.attention.head_count_kv";
        let kv_heads = size(kv_key, m.usize_opt(kv_key)?, Some(heads))?;
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of the {heads} query heads");
            return Err(ConfigError::Value { key: kv_key, found: kv_heads.to_string(), expected });
        }
        let default_dim = if embedding.is_multiple_of(heads) { Some(embedding / heads) } else { None };
        let dim_key = "llama.attention.key_length";
        let rope_key = "llama.rope.dimension_count";
        let rope_stated = m.usize_opt(rope_key)?;
        let head_dim = size(dim_key, m.usize_opt(dim_key)?, default_dim.or(rope_stated))?;
        let value_key = "llama.attention.value_length";
        let value_dim = size(value_key, m.usize_opt(value_key)?, Some(head_dim))?;
        if value_dim != head_dim {
            let expected = format!("{head_dim}, the length of a key");
            return Err(ConfigError::Value { key: value_key, found: value_dim.to_string(), expected });
        }
        let rope_dim = size(rope_key, rope_stated, Some(head_dim))?;
        if rope_dim > head_dim || rope_dim % 2 == 1 {
            let expected = format!("an even number up to {head_dim}, the length of a head");
            return Err(ConfigError::Value { key: rope_key, found: rope_dim.to_string(), expected });
        }
        let positive = |key: &'static str, value: Option<f32>, default: Option<f32>| match value.or(default) {
            None => Err(MetadataError::Missing { key: key.into() }.into()),
            Some(x) if !(x.is_finite() && x > 0.0) => {
                Err(ConfigError::Value { key, found: x.to_string(), expected: "a positive number".into() })
            }
            Some(x) => Ok(x),
        };
        let eps_key = "llama.attention.layer_norm_rms_epsilon";
        let norm_epsilon = positive(eps_key, m.f32_opt(eps_key)?, None)?;
        let rope_base = positive("llama.rope.freq_base", m.f32_opt("llama.rope.freq_base")?, Some(10_000.0))?;
        let factor_key = "llama.rope.scaling.factor";
        // `scale_linear` is the key of files from before `scaling.*`.
        let stated = m.f32_opt(factor_key)?.or(m.f32_opt("llama.rope.scale_linear")?);
        let rope_linear = match m.str_opt("llama.rope.scaling.type")? {
            None | Some("linear") => positive(factor_key, stated, Some(1.0))?,
            Some("none") => 1.0,
            Some(other) => return Err(ConfigError::RopeScaling { found: other.into() }),
        };
        Ok(Config {
            name: m.str_opt("general.name")?.map(str::to_string),
            layers,
            embedding,
            feed_forward,
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            rope_base,
            rope_linear,
            norm_epsilon,
            context: size("llama.context_length", m.usize_opt("llama.context_length")?, None)?,
        })
    }
}
