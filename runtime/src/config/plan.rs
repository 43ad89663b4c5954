//! Windows, layers without RoPE, factors and caps, by their keys.

use quipu_formats::families::keys as names;
use quipu_formats::families::{AttentionScale, Cap, Layers, ModelPlan, Scale, Ungated, Window};
use quipu_formats::gguf::{Array, Value};

use super::error::ConfigError;
use super::keys::Keys;

impl Keys<'_> {
    /// The plan of a model of these sizes.
    pub fn plan(
        &self,
        layers: usize,
        hidden: usize,
        heads: usize,
        head_dim: usize,
        rope_base: f32,
    ) -> Result<ModelPlan, ConfigError> {
        let block = &self.family.block;
        let scales = &block.scales;
        // To llama.cpp, 0 is unset; and it reads a key only where it knows it.
        let factor = |key, has: bool, default: f32| match has {
            true => Ok::<_, ConfigError>(self.not_zero(key)?.unwrap_or(default)),
            false => Ok(default),
        };
        let has = |scale| scale != Scale::One;
        let local_base = match block.local_rope {
            Some(local) => {
                let default = local.base.map_or(rope_base, |base| base as f32);
                Some(f64::from(self.positive_opt(names::ROPE_BASE_LOCAL)?.unwrap_or(default)))
            }
            None => None,
        };
        Ok(ModelPlan {
            window: self.window(layers)?,
            roped: match self.layer_list(names::ROPED, layers)? {
                Some(list) => Layers::Listed(list),
                None => block.roped(),
            },
            local_base,
            norms_after: self.flag(names::NORMS_AFTER, false)?,
            final_norm: self.flag(names::FINAL_NORM, true)?,
            ungated: match block.ungated {
                Some(default) => Some(self.ungated(default)?),
                None => None,
            },
            embedding_scale: factor(names::EMBEDDING_SCALE, has(scales.embedding), scales.embedding.of_gguf(hidden))?,
            attention_scale: factor(
                names::ATTENTION_SCALE,
                scales.attention != AttentionScale::HeadLength,
                scales.attention.of_gguf(hidden, heads, head_dim, layers),
            )?,
            residual_scale: factor(names::RESIDUAL_SCALE, has(scales.residual), 1.0)?,
            logit_divisor: factor(names::LOGIT_SCALE, has(scales.logits), 1.0)?,
            attention_cap: self.cap(names::ATTENTION_CAP, scales.attention_cap)?,
            logit_cap: self.cap(names::LOGIT_CAP, scales.logit_cap)?,
        })
    }

    /// A switch of models without a gate; all others have the default.
    fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.family.block.ungated {
            Some(_) => Ok(self.metadata.bool_opt(&self.family.key(key))?.unwrap_or(default)),
            None => Ok(default),
        }
    }

    /// The function of a feed-forward layer without a gate.
    fn ungated(&self, default: Ungated) -> Result<Ungated, ConfigError> {
        let Some(found) = self.metadata.str_opt(&self.family.key(names::ACTIVATION))? else { return Ok(default) };
        let known = Ungated::ALL.into_iter().find(|function| function.name() == found);
        known.ok_or_else(|| self.wrong(names::ACTIVATION, found, "relu or gelu".into()))
    }

    /// A positive number; 0 stands for none.
    fn not_zero(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        if self.f32(key)? == Some(0.0) { Ok(None) } else { self.positive_opt(key) }
    }

    /// A soft cap; 0 stands for none, which is not the default.
    fn cap(&self, key: &str, rule: Cap) -> Result<Option<f32>, ConfigError> {
        match (rule, self.f32(key)?) {
            (Cap::None, _) => Ok(None),
            (_, None) => Ok(rule.default()),
            (_, Some(_)) => self.not_zero(key),
        }
    }

    fn window(&self, layers: usize) -> Result<Option<Window>, ConfigError> {
        let length = match self.usize(names::WINDOW)? {
            Some(length) => Some(length).filter(|length| *length > 0),
            None => self.family.defaults.window,
        };
        let Some(length) = length else { return Ok(None) };
        let pattern = self.family.key(names::WINDOW_PATTERN);
        let which = match self.metadata.get(&pattern) {
            Some(Value::Array(Array::Bool(_))) => self.layer_list(&pattern, layers)?.map(Layers::Listed),
            _ => self.usize(names::WINDOW_PATTERN)?.map(Layers::AllBut),
        };
        Ok(Some(Window { length, layers: which.unwrap_or(self.family.block.windows.layers()) }))
    }

    /// What the list of booleans under this whole key says of each layer.
    fn layer_list(&self, key: &str, layers: usize) -> Result<Option<Vec<bool>>, ConfigError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(list))) if list.len() >= layers => Ok(Some(list.clone())),
            Some(other) => {
                let found = match other {
                    Value::Array(array) => format!("an array of {}", array.len()),
                    other => other.type_name().into(),
                };
                let expected = format!("an array of booleans, one for each of the {layers} layers");
                Err(ConfigError::Value { key: key.into(), found, expected })
            }
        }
    }
}
