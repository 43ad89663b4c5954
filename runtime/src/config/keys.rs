//! The keys of a GGUF's metadata that say how a model is built.

use quipu_formats::families::keys as names;
use quipu_formats::families::{Family, YARN_BETAS, yarn_attention};
use quipu_formats::gguf::{Metadata, MetadataError, Value};

use super::error::ConfigError;
use crate::rope_scaling::{RopeMethod, RopeScaling};

/// Far above every model that exists; keeps sizes from overflowing.
const MOST: usize = 1 << 24;

/// The keys of one architecture, read and checked.
pub(super) struct Keys<'a> {
    pub family: &'static Family,
    pub metadata: &'a Metadata,
}

impl Keys<'_> {
    /// A number; or one for each layer, if they are all the same.
    pub fn usize(&self, key: &str) -> Result<Option<usize>, ConfigError> {
        let whole = self.family.key(key);
        let Some(Value::Array(array)) = self.metadata.get(&whole) else { return Ok(self.metadata.usize_opt(&whole)?) };
        let numbers = array.integers().unwrap_or_default();
        match numbers.first() {
            Some(&first) if numbers.iter().all(|&n| n == first) => Ok(usize::try_from(first).ok()),
            _ => Err(self.wrong(key, "an array", "a number, the same for all layers".into())),
        }
    }

    pub fn f32(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        Ok(self.metadata.f32_opt(&self.family.key(key))?)
    }

    fn missing(&self, key: &str) -> ConfigError {
        MetadataError::Missing { key: self.family.key(key) }.into()
    }

    pub fn wrong(&self, key: &str, found: impl ToString, expected: String) -> ConfigError {
        ConfigError::Value { key: self.family.key(key), found: found.to_string(), expected }
    }

    /// A number of something, from 1 to [`MOST`].
    pub fn size(&self, key: &str, default: Option<usize>) -> Result<usize, ConfigError> {
        match self.usize(key)?.or(default) {
            None => Err(self.missing(key)),
            Some(n) if n == 0 || n > MOST => Err(self.wrong(key, n, format!("1 to {MOST}"))),
            Some(n) => Ok(n),
        }
    }

    pub fn positive(&self, key: &str, value: Option<f32>) -> Result<f32, ConfigError> {
        match value {
            None => Err(self.missing(key)),
            Some(x) if !(x.is_finite() && x > 0.0) => Err(self.wrong(key, x, "a positive number".into())),
            Some(x) => Ok(x),
        }
    }

    /// A positive number, if the key is there.
    pub fn positive_opt(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        let value = self.f32(key)?;
        value.map(|_| self.positive(key, value)).transpose()
    }

    /// RoPE's scaling, of a model made for `context` positions.
    pub fn rope_scaling(&self, context: usize) -> Result<RopeScaling, ConfigError> {
        let kind = self.metadata.str_opt(&self.family.key(names::ROPE_SCALING))?;
        let method = match (kind, self.metadata.f32_opt(names::DYNAMIC_FACTOR)?) {
            (None | Some("none" | "linear"), None) => RopeMethod::Linear,
            (None | Some("none" | "linear"), Some(factor)) if factor.is_finite() && factor > 0.0 => {
                RopeMethod::Dynamic { factor }
            }
            (None | Some("none" | "linear"), Some(factor)) => {
                let (key, expected) = (names::DYNAMIC_FACTOR.into(), "a positive number".into());
                return Err(ConfigError::Value { key, found: factor.to_string(), expected });
            }
            (Some("yarn"), _) => RopeMethod::Yarn {
                // To llama.cpp, less than 0 is unset.
                blend: match self.f32(names::YARN_BLEND)? {
                    Some(blend) if !blend.is_finite() => {
                        return Err(self.wrong(names::YARN_BLEND, blend, "a number".into()));
                    }
                    blend => blend.filter(|blend| *blend >= 0.0).unwrap_or(1.0),
                },
                beta_fast: self.positive_opt(names::YARN_BETA_FAST)?.unwrap_or(YARN_BETAS.0 as f32),
                beta_slow: self.positive_opt(names::YARN_BETA_SLOW)?.unwrap_or(YARN_BETAS.1 as f32),
                truncate: self.metadata.bool_opt(names::YARN_TRUNCATE)?.unwrap_or(true),
            },
            (Some("longrope"), _) => RopeMethod::LongRope,
            (Some(other), _) => return Err(ConfigError::RopeScaling { found: other.into() }),
        };
        let factor = self.f32(names::ROPE_FACTOR)?.or(self.f32(names::ROPE_FACTOR_OLD)?);
        // And 0 is none.
        let factor = factor.filter(|factor| kind != Some("none") && *factor != 0.0).unwrap_or(1.0);
        let factor = self.positive(names::ROPE_FACTOR, Some(factor))?;
        let besides = f64::from(self.positive_opt(names::ROPE_ATTENTION)?.unwrap_or(1.0));
        let attention = match method {
            RopeMethod::Yarn { blend, .. } => besides * self.yarn_attention(factor, blend)?,
            _ => besides,
        };
        Ok(RopeScaling { method, factor, attention, original_context: self.size(names::ROPE_ORIGINAL, Some(context))? })
    }

    /// The size that YaRN gives cosines and sines.
    fn yarn_attention(&self, factor: f32, blend: f32) -> Result<f64, ConfigError> {
        if let Some(given) = self.positive_opt(names::YARN_ATTENTION)? {
            return Ok(given.into());
        }
        if blend == 0.0 {
            return Ok(1.0);
        }
        let size = |scale: f32| yarn_attention(factor.into(), scale.into());
        match self.f32(names::YARN_LOG_MULTIPLIER)?.filter(|scale| *scale != 0.0) {
            None => Ok(size(1.0)),
            Some(scale) if size(scale).is_finite() && size(scale) > 0.0 => Ok(size(1.0) / size(scale)),
            Some(scale) => Err(self.wrong(names::YARN_LOG_MULTIPLIER, scale, "a positive number".into())),
        }
    }
}
