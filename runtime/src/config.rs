//! The sizes of a model, from GGUF metadata.

use quipu_formats::families::{Family, LayerPlan, Sizes, YARN_BETAS, keys, known_architectures, yarn_attention};
use quipu_formats::gguf::{Metadata, MetadataError, Required, Value};

use crate::rope_scaling::{RopeMethod, RopeScaling};

/// The numbers that say how a model is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The model's family.
    pub family: &'static Family,
    /// The model's name, if the file says one.
    pub name: Option<String>,
    /// Transformer blocks.
    pub layers: usize,
    /// The hidden size: the width of the residual stream.
    pub hidden: usize,
    /// The intermediate size: the width of the feed-forward layer.
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
    /// How RoPE is stretched.
    pub rope: RopeScaling,
    /// The ε of RMSNorm.
    pub norm_epsilon: f32,
    /// The context length that the model was trained for, in positions.
    pub context: usize,
}

/// Why a file's metadata does not describe a model that this runtime runs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A key is missing or has the wrong type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Another architecture.
    #[error("this is a `{found}` model; Quipu runs {}", known_architectures())]
    Architecture {
        /// What the file says.
        found: String,
    },
    /// A mixture of experts.
    #[error("this is a mixture of {experts} experts (`{key}`), which Quipu does not run")]
    Experts {
        /// The key that says so.
        key: String,
        /// How many.
        experts: usize,
    },
    /// A number that can't be.
    #[error("metadata key `{key}` is {found}; expected {expected}")]
    Value {
        /// The key.
        key: String,
        /// What the file has.
        found: String,
        /// What makes sense.
        expected: String,
    },
    /// A way of stretching RoPE that is not implemented.
    #[error(
        "RoPE scaling `{found}` is not supported; known are none, linear, yarn, longrope and llama3 (rope_freqs.weight)"
    )]
    RopeScaling {
        /// What the file says.
        found: String,
    },
}

/// Far above every model that exists; keeps sizes from overflowing.
const MOST: usize = 1 << 24;

/// The keys of one architecture, read and checked.
struct Keys<'a> {
    family: &'static Family,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    /// A number; or one for each layer, if they are all the same.
    fn usize(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let whole = self.family.key(key);
        let Some(Value::Array(array)) = self.metadata.get(&whole) else { return Ok(self.metadata.usize_opt(&whole)?) };
        let numbers = array.integers().unwrap_or_default();
        match numbers.first() {
            Some(&first) if numbers.iter().all(|&n| n == first) => Ok(usize::try_from(first).ok()),
            _ => Err(self.wrong(key, "an array", "a number, the same for all layers".into())),
        }
    }

    fn f32(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        Ok(self.metadata.f32_opt(&self.family.key(key))?)
    }

    fn missing(&self, key: &str) -> ConfigError {
        MetadataError::Missing { key: self.family.key(key) }.into()
    }

    fn wrong(&self, key: &str, found: impl ToString, expected: String) -> ConfigError {
        ConfigError::Value { key: self.family.key(key), found: found.to_string(), expected }
    }

    /// A number of something, from 1 to [`MOST`].
    fn size(&self, key: &str, default: Option<usize>) -> Result<usize, ConfigError> {
        match self.usize(key)?.or(default) {
            None => Err(self.missing(key)),
            Some(n) if n == 0 || n > MOST => Err(self.wrong(key, n, format!("1 to {MOST}"))),
            Some(n) => Ok(n),
        }
    }

    fn positive(&self, key: &str, value: Option<f32>) -> Result<f32, ConfigError> {
        match value {
            None => Err(self.missing(key)),
            Some(x) if !(x.is_finite() && x > 0.0) => Err(self.wrong(key, x, "a positive number".into())),
            Some(x) => Ok(x),
        }
    }

    /// A positive number, if the key is there.
    fn positive_opt(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        let value = self.f32(key)?;
        value.map(|_| self.positive(key, value)).transpose()
    }

    /// RoPE's scaling, of a model made for `context` positions.
    fn rope_scaling(&self, context: usize) -> Result<RopeScaling, ConfigError> {
        let kind = self.metadata.str_opt(&self.family.key(keys::ROPE_SCALING))?;
        let method = match (kind, self.metadata.f32_opt(keys::DYNAMIC_FACTOR)?) {
            (None | Some("none" | "linear"), None) => RopeMethod::Linear,
            (None | Some("none" | "linear"), Some(factor)) if factor.is_finite() && factor > 0.0 => {
                RopeMethod::Dynamic { factor }
            }
            (None | Some("none" | "linear"), Some(factor)) => {
                let (key, expected) = (keys::DYNAMIC_FACTOR.into(), "a positive number".into());
                return Err(ConfigError::Value { key, found: factor.to_string(), expected });
            }
            (Some("yarn"), _) => RopeMethod::Yarn {
                // To llama.cpp, less than 0 is unset.
                blend: match self.f32(keys::YARN_BLEND)? {
                    Some(blend) if !blend.is_finite() => {
                        return Err(self.wrong(keys::YARN_BLEND, blend, "a number".into()));
                    }
                    blend => blend.filter(|blend| *blend >= 0.0).unwrap_or(1.0),
                },
                beta_fast: self.positive_opt(keys::YARN_BETA_FAST)?.unwrap_or(YARN_BETAS.0 as f32),
                beta_slow: self.positive_opt(keys::YARN_BETA_SLOW)?.unwrap_or(YARN_BETAS.1 as f32),
                truncate: self.metadata.bool_opt(keys::YARN_TRUNCATE)?.unwrap_or(true),
            },
            (Some("longrope"), _) => RopeMethod::LongRope,
            (Some(other), _) => return Err(ConfigError::RopeScaling { found: other.into() }),
        };
        let factor = self.f32(keys::ROPE_FACTOR)?.or(self.f32(keys::ROPE_FACTOR_OLD)?);
        // And 0 is none.
        let factor = factor.filter(|factor| kind != Some("none") && *factor != 0.0).unwrap_or(1.0);
        let factor = self.positive(keys::ROPE_FACTOR, Some(factor))?;
        let besides = f64::from(self.positive_opt(keys::ROPE_ATTENTION)?.unwrap_or(1.0));
        let attention = match method {
            RopeMethod::Yarn { blend, .. } => besides * self.yarn_attention(factor, blend)?,
            _ => besides,
        };
        Ok(RopeScaling { method, factor, attention, original_context: self.size(keys::ROPE_ORIGINAL, Some(context))? })
    }

    /// The size that YaRN gives cosines and sines.
    fn yarn_attention(&self, factor: f32, blend: f32) -> Result<f64, ConfigError> {
        if let Some(given) = self.positive_opt(keys::YARN_ATTENTION)? {
            return Ok(given.into());
        }
        if blend == 0.0 {
            return Ok(1.0);
        }
        let size = |scale: f32| yarn_attention(factor.into(), scale.into());
        match self.f32(keys::YARN_LOG_MULTIPLIER)?.filter(|scale| *scale != 0.0) {
            None => Ok(size(1.0)),
            Some(scale) if size(scale).is_finite() && size(scale) > 0.0 => Ok(size(1.0) / size(scale)),
            Some(scale) => Err(self.wrong(keys::YARN_LOG_MULTIPLIER, scale, "a positive number".into())),
        }
    }
}

impl Config {
    /// Reads the key `general.architecture` and those of that architecture.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_metadata(metadata: &Metadata) -> Result<Config, ConfigError> {
        let architecture = metadata.str_opt(keys::ARCHITECTURE).required(keys::ARCHITECTURE)?;
        let unknown = || ConfigError::Architecture { found: architecture.into() };
        let family = Family::of_architecture(architecture).ok_or_else(unknown)?;
        let keys = Keys { family, metadata };
        if let Some(experts @ 1..) = keys.usize(keys::EXPERTS)? {
            return Err(ConfigError::Experts { key: family.key(keys::EXPERTS), experts });
        }
        let hidden = keys.size(keys::HIDDEN, None)?;
        let heads = keys.size(keys::HEADS, None)?;
        let kv_heads = keys.size(keys::KV_HEADS, Some(heads))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(keys.wrong(keys::KV_HEADS, kv_heads, format!("a divisor of the {heads} query heads")));
        }
        let default_dim = if hidden.is_multiple_of(heads) { Some(hidden / heads) } else { None };
        let head_dim = keys.size(keys::KEY_LENGTH, default_dim.or(keys.usize(keys::ROPE_DIM)?))?;
        let value_dim = keys.size(keys::VALUE_LENGTH, Some(head_dim))?;
        if value_dim != head_dim {
            return Err(keys.wrong(keys::VALUE_LENGTH, value_dim, format!("{head_dim}, the length of a key")));
        }
        let rope_dim = keys.size(keys::ROPE_DIM, Some(head_dim))?;
        if rope_dim > head_dim || rope_dim % 2 == 1 {
            let expected = format!("an even number up to {head_dim}, the length of a head");
            return Err(keys.wrong(keys::ROPE_DIM, rope_dim, expected));
        }
        let context = keys.size(keys::CONTEXT, None)?;
        let rope_base = keys.positive(keys::ROPE_BASE, keys.f32(keys::ROPE_BASE)?.or(Some(10_000.0)))?;
        let rope = keys.rope_scaling(context)?;
        if matches!(rope.method, RopeMethod::Yarn { .. }) && rope_base <= 1.0 {
            return Err(keys.wrong(keys::ROPE_BASE, rope_base, "more than 1 with YaRN".into()));
        }
        Ok(Config {
            family,
            name: metadata.str_opt("general.name")?.map(str::to_string),
            layers: keys.size(keys::LAYERS, None)?,
            hidden,
            feed_forward: keys.size(keys::FEED_FORWARD, None)?,
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            rope_base,
            rope,
            norm_epsilon: keys.positive(keys::RMS_EPSILON, keys.f32(keys::RMS_EPSILON)?)?,
            context,
        })
    }

    /// How a layer computes.
    pub fn layer(&self) -> LayerPlan {
        self.family.layer
    }

    /// What the extents of tensors are made of, with `vocabulary` rows of the embedding.
    pub fn sizes(&self, vocabulary: usize) -> Sizes {
        Sizes {
            hidden: self.hidden,
            feed_forward: self.feed_forward,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            rope_dim: self.rope_dim,
            vocabulary,
        }
    }
}
