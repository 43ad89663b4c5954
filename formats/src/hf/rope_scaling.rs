//! RoPE's scaling in a config.json, with transformers' defaults (`modeling_rope_utils.py`).

use serde_json::Value;

use super::json::{KeyError, Object, describe};
use crate::families::{Family, YARN_BETAS, yarn_attention};

/// What a config.json says of RoPE that Quipu does not run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum RopeFault {
    /// A key is missing or of the wrong type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A scaling that is not known.
    #[error(
        "rope scaling {found} is not supported: Quipu knows default, linear, dynamic, yarn, longrope (su) and llama3"
    )]
    Type { found: String },
    /// Part of each head is left unrotated, which the family does not do.
    #[error("`partial_rotary_factor` is {found}; RoPE has to turn whole heads")]
    PartialRotary { found: String },
    /// LongRoPE's factors are not those of the model's heads.
    #[error("`{key}` has {found} numbers; expected {expected}, half of what turns of a head")]
    Factors { key: &'static str, expected: usize, found: usize },
}

/// How positions beyond the training context are scaled.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every position divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided by `factor`, high ones left, those between blended.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths beyond `original_context / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// The context length before scaling.
        original_context: f64,
    },
    /// NTK-aware: a base that grows with the part of the context beyond `max_position_embeddings`.
    Dynamic {
        /// How fast it grows.
        factor: f64,
    },
    /// YaRN (Peng et al. 2023): pairs that turn often within the original context are left, those that turn less than
    /// about once are divided by `factor`, those between blended.
    Yarn {
        /// The divisor.
        factor: f64,
        /// The context length before scaling.
        original_context: usize,
        /// What cosines and sines are multiplied by.
        attention: f64,
        /// Turns within the original context above which a pair is left as it is.
        beta_fast: f64,
        /// Turns below which it is divided.
        beta_slow: f64,
        /// The pairs where blending begins and ends are whole numbers.
        truncate: bool,
    },
    /// LongRoPE (Ding et al. 2024): a divisor for every pair, of two lists.
    LongRope {
        /// The divisors within the original context, one for each pair.
        short: Vec<f64>,
        /// The divisors beyond it, one for each pair.
        long: Vec<f64>,
        /// The context length before scaling.
        original_context: usize,
        /// What cosines and sines are multiplied by, within the original context and beyond it.
        attention: f64,
    },
}

/// What config.json says of RoPE.
pub(super) struct Rope {
    /// Its base.
    pub theta: f64,
    pub scaling: RopeScaling,
    /// Elements of a head that turn.
    pub dim: usize,
}

/// RoPE of a model with heads of `head_dim` and the context `context`. As in transformers `rope_scaling`, unless it is
/// empty, goes before `rope_parameters`, where version 5 has both. Where layers with a window have a RoPE of their own,
/// this is that of the others.
pub(super) fn read_rope(config: &Object, family: &Family, head_dim: usize, context: usize) -> Result<Rope, RopeFault> {
    let (empty, default_theta) = (serde_json::Map::new(), family.defaults.rope_base);
    let scaling = config.object("rope_scaling")?.filter(|map| !map.is_empty());
    let (map, prefix) = match (scaling, config.object("rope_parameters")?) {
        (Some(scaling), _) => (scaling, "rope_scaling."),
        // An object for each kind of layer.
        (None, Some(parameters)) => match parameters.get("full_attention").and_then(Value::as_object) {
            Some(global) => (global, "rope_parameters.full_attention."),
            None => (parameters, "rope_parameters."),
        },
        (None, None) => (&empty, "rope_parameters."),
    };
    let rope = Object::new(map, prefix);
    let dim = rope_dim(config, &rope, family, head_dim)?;
    let theta = rope.positive("rope_theta")?.or(config.positive("rope_theta")?).unwrap_or(default_theta);
    let reader = Reader { config, rope: &rope, context };
    // `type` is the older name; some files have both.
    let kind = match rope.string("rope_type")? {
        Some(kind) => Some(kind),
        None => rope.string("type")?,
    };
    let scaling = match kind {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: reader.required("factor")? },
        // With whole heads turned it is that.
        Some("proportional") => RopeScaling::Linear { factor: rope.positive("factor")?.unwrap_or(1.0) },
        Some("dynamic") => RopeScaling::Dynamic { factor: reader.required("factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: reader.required("factor")?,
            low_freq_factor: reader.required("low_freq_factor")?,
            high_freq_factor: reader.required("high_freq_factor")?,
            original_context: reader.original()?,
        },
        Some("yarn") => reader.yarn()?,
        // Microsoft's name of the method before its paper.
        Some("longrope" | "su") => reader.long_rope(dim)?,
        Some(other) => return Err(RopeFault::Type { found: format!("{other:?}") }),
    };
    Ok(Rope { theta, scaling, dim })
}

/// How many elements of a head turn: all, or `partial_rotary_factor` of them.
fn rope_dim(config: &Object, rope: &Object, family: &Family, head_dim: usize) -> Result<usize, RopeFault> {
    const KEY: &str = "partial_rotary_factor";
    let mut dim = head_dim;
    for holder in [config, rope] {
        let Some(found) = holder.value(KEY).filter(|v| v.as_f64() != Some(1.0)) else { continue };
        if !family.block.partial_rope {
            return Err(RopeFault::PartialRotary { found: describe(found) });
        }
        let part =
            found.as_f64().filter(|part| (0.0..1.0).contains(part)).map(|part| (head_dim as f64 * part) as usize);
        dim = match part {
            Some(dim) if dim > 0 && dim.is_multiple_of(2) => dim,
            _ => {
                let expected = "a number up to 1 that makes an even number of elements of a head";
                return Err(KeyError::Wrong { key: KEY.into(), expected, found: describe(found) }.into());
            }
        };
    }
    Ok(dim)
}

/// Reads the numbers of one scaling.
struct Reader<'a> {
    config: &'a Object<'a>,
    /// `rope_scaling` or `rope_parameters`.
    rope: &'a Object<'a>,
    /// `max_position_embeddings`.
    context: usize,
}

impl Reader<'_> {
    fn required(&self, key: &str) -> Result<f64, KeyError> {
        self.rope.positive(key).and_then(|v| self.rope.required(key, v))
    }

    fn number(&self, key: &str) -> Result<Option<f64>, KeyError> {
        self.rope.typed(key, "a number", Value::as_f64)
    }

    /// The context before scaling: beside the scaling's own object, in it, or the model's.
    fn original(&self) -> Result<f64, KeyError> {
        const KEY: &str = "original_max_position_embeddings";
        let found = match self.config.positive(KEY)? {
            Some(found) => Some(found),
            None => self.rope.positive(KEY)?,
        };
        Ok(found.unwrap_or(self.context as f64))
    }

    /// [`Reader::original`] as a number of positions.
    fn original_positions(&self) -> Result<usize, KeyError> {
        let original = self.original()?;
        if original.fract() == 0.0 && original < f64::from(1u32 << 31) {
            return Ok(original as usize);
        }
        let (key, expected) = ("original_max_position_embeddings".into(), "an integer from 1 to 2147483647");
        Err(KeyError::Wrong { key, expected, found: original.to_string() })
    }

    /// The factor; where it is not given, how many times longer the context has become.
    fn factor(&self, original: usize) -> Result<f64, KeyError> {
        Ok(self.rope.positive("factor")?.unwrap_or(self.context as f64 / original as f64))
    }

    fn yarn(&self) -> Result<RopeScaling, KeyError> {
        let original_context = self.original_positions()?;
        let factor = self.factor(original_context)?;
        // For transformers zero is as good as absent, here and in the betas.
        let given = |key| Ok::<_, KeyError>(self.number(key)?.filter(|v| *v != 0.0));
        let attention = match (self.rope.positive("attention_factor")?, given("mscale")?, given("mscale_all_dim")?) {
            (Some(attention), ..) => attention,
            (None, Some(scale), Some(all)) => yarn_attention(factor, scale) / yarn_attention(factor, all),
            (None, ..) => yarn_attention(factor, 1.0),
        };
        check_attention("mscale", attention)?;
        let beta = |key, default| match given(key)? {
            None => Ok(default),
            Some(_) => self.required(key),
        };
        Ok(RopeScaling::Yarn {
            factor,
            original_context,
            attention,
            beta_fast: beta("beta_fast", YARN_BETAS.0)?,
            beta_slow: beta("beta_slow", YARN_BETAS.1)?,
            truncate: self.rope.bool("truncate")?.unwrap_or(true),
        })
    }

    fn long_rope(&self, dim: usize) -> Result<RopeScaling, RopeFault> {
        let original_context = self.original_positions()?;
        let factor = self.factor(original_context)?;
        let attention = match self.rope.positive("attention_factor")? {
            Some(attention) => attention,
            None if factor <= 1.0 => 1.0,
            None => libm::sqrt(1.0 + libm::log(factor) / libm::log(original_context as f64)),
        };
        check_attention("original_max_position_embeddings", attention)?;
        let (short, long) = (self.factors("short_factor", dim / 2)?, self.factors("long_factor", dim / 2)?);
        Ok(RopeScaling::LongRope { short, long, original_context, attention })
    }

    fn factors(&self, key: &'static str, pairs: usize) -> Result<Vec<f64>, RopeFault> {
        let number = |v: &Value| v.as_f64().filter(|v| (*v as f32) > 0.0 && (*v as f32).is_finite());
        let list = |v: &Value| v.as_array().and_then(|list| list.iter().map(number).collect::<Option<Vec<f64>>>());
        let factors = self.rope.typed(key, "an array of positive numbers", list)?;
        let factors = self.rope.required(key, factors)?;
        let found = factors.len();
        if found == pairs { Ok(factors) } else { Err(RopeFault::Factors { key, expected: pairs, found }) }
    }
}

/// Refuses what would multiply queries and keys by nothing, or by infinity, because of `key`.
fn check_attention(key: &str, attention: f64) -> Result<(), KeyError> {
    if (attention as f32) > 0.0 && (attention as f32).is_finite() {
        return Ok(());
    }
    let expected = "a value that makes a positive attention factor";
    Err(KeyError::Wrong { key: key.into(), expected, found: format!("one that makes {attention}") })
}
