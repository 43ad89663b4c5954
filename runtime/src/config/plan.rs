//! Windows, layers without RoPE, factors and caps, by their keys.

use quipu_formats::families::keys as names;
use quipu_formats::families::{
    AttentionScale, Cap, Experts, Layers, ModelPlan, Router, Scale, Temperature, Ungated, Window, Windows,
};
use quipu_formats::gguf::{Array, Value};

use super::error::ConfigError;
use super::keys::Keys;

impl Keys<'_> {
    /// The plan of a model of these sizes, but for its experts.
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
        // To llama.cpp, a Llama 4 without chunks has RoPE in all layers.
        let without_chunks = block.windows == Windows::Chunks && self.usize(names::WINDOW)? == Some(0);
        let roped = match self.layer_list(names::ROPED, layers)? {
            Some(list) => Layers::Listed(list),
            None if without_chunks => Layers::All,
            None => block.roped(),
        };
        Ok(ModelPlan {
            window: match block.windows {
                Windows::Chunks if without_chunks => None,
                Windows::Chunks => Some(self.chunks(layers, &roped)?),
                _ => self.window(layers)?,
            },
            roped,
            bare_qk_norm: block.bare_qk_norm && self.bare_qk_norm()?,
            temperature: if block.temperature { self.temperature()? } else { None },
            local_base,
            norms_after: self.flag(names::NORMS_AFTER, false)?,
            final_norm: self.flag(names::FINAL_NORM, true)?,
            ungated: match block.ungated {
                Some(default) => Some(self.ungated(default)?),
                None => None,
            },
            experts: None,
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

    /// The experts of a model with so many layers and such a feed-forward layer, if it has any.
    pub fn experts(&self, layers: usize, feed_forward: usize) -> Result<Option<Experts>, ConfigError> {
        let Some(count @ 1..) = self.usize(names::EXPERTS)? else { return Ok(None) };
        let Some(router) = self.family.block.router else {
            return Err(ConfigError::Experts { key: self.family.key(names::EXPERTS), experts: count });
        };
        let count = self.size(names::EXPERTS, Some(count))?;
        let used = self.size(names::EXPERTS_USED, None)?;
        if used > count {
            return Err(self.wrong(names::EXPERTS_USED, used, format!("1 to {count}, the experts that there are")));
        }
        let norm = self.metadata.bool_opt(&self.family.key(names::EXPERTS_NORMALISED))?;
        let normalised = matches!(router, Router::Softmax { normalised: true });
        Ok(Some(Experts {
            count,
            used,
            feed_forward: self.size(names::EXPERT_FEED_FORWARD, Some(feed_forward))?,
            normalised: norm.unwrap_or(normalised),
            layers: match (self.layer_list(names::EXPERT_LAYERS, layers)?, router) {
                (Some(list), _) => Layers::Listed(list),
                (None, Router::SigmoidOfInput) => match self.usize(names::EXPERT_STEP)? {
                    None | Some(1) => Layers::All,
                    Some(step) => Layers::Every(step),
                },
                (None, Router::Softmax { .. }) => Layers::All,
            },
        }))
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
        Ok(Some(Window { length, chunked: false, layers: which.unwrap_or(self.family.block.windows.layers()) }))
    }

    /// The chunks of a model whose layers with RoPE are `roped`.
    fn chunks(&self, layers: usize, roped: &Layers) -> Result<Window, ConfigError> {
        let length = self.size(names::CHUNK, self.family.defaults.window)?;
        let listed = self.layer_list(&self.family.key(names::WINDOW_PATTERN), layers)?;
        Ok(Window { length, chunked: true, layers: listed.map_or_else(|| roped.clone(), Layers::Listed) })
    }

    /// Whether heads are normed behind RoPE: in models of other numbers of experts than Maverick's, to llama.cpp.
    fn bare_qk_norm(&self) -> Result<bool, ConfigError> {
        let by_experts = self.usize(names::EXPERTS)? != Some(128);
        Ok(self.metadata.bool_opt(&self.family.key(names::BARE_QK_NORM))?.unwrap_or(by_experts))
    }

    /// How queries of layers without RoPE grow.
    fn temperature(&self) -> Result<Option<Temperature>, ConfigError> {
        let floor = self.size(names::TEMPERATURE_FLOOR, Some(8192))?;
        let scale = match self.f32(names::TEMPERATURE_SCALE)? {
            None => Some(0.1),
            Some(_) => self.not_zero(names::TEMPERATURE_SCALE)?,
        };
        Ok(scale.map(|scale| Temperature { floor, scale }))
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
