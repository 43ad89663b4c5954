//! config.json: the shape of a model.

use std::path::Path;

use serde_json::{Map, Value};

use super::config_fault::ConfigFault;
use super::experts::read_experts;
use super::json::{FileError, KeyError, MAX_SMALL_BYTES, Object, describe, read_json};
use super::plan::read_plan;
use super::quantised::method::Quantisation;
use super::rope_scaling::{Rope, RopeScaling, read_rope};
use crate::families::names::{Parameter, Role, TensorName};
use crate::families::{Activation, Bias, FAMILIES, Family, ModelPlan, NormKind, Sizes};
use crate::oddity::Oddity;

/// What config.json says of a model, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct HfConfig {
    /// The model's family (`model_type`).
    pub family: &'static Family,
    /// `hidden_size`, `intermediate_size`, `num_attention_heads`, `num_key_value_heads` (as many as query heads when
    /// absent), `head_dim` (even; where it is absent and the family has no default `hidden_size /
    /// num_attention_heads`), `vocab_size`.
    pub sizes: Sizes,
    /// Number of layers (`num_hidden_layers`).
    pub layers: usize,
    /// Longest context (`max_position_embeddings`).
    pub context: usize,
    /// ε of norms (`rms_norm_eps`; that of LayerNorm is no key).
    pub rms_norm_eps: f64,
    /// Base of the RoPE frequencies (`rope_theta`).
    pub rope_theta: f64,
    /// Scaling of RoPE (`rope_scaling` or `rope_parameters`).
    pub rope_scaling: RopeScaling,
    /// Windows, layers without RoPE, factors and caps.
    pub plan: ModelPlan,
    /// The output matrix is the embedding (`tie_word_embeddings`).
    pub tied: bool,
    /// The keys of the family's optional biases that are true (`attention_bias`, `mlp_bias`).
    pub biases: Vec<&'static str>,
    /// Norms have weights (`layer_norm_elementwise_affine`).
    pub norm_weights: bool,
    /// How the weights are quantised (`quantization_config`).
    pub(super) quantisation: Option<Quantisation>,
    /// Where the checkpoint came from (`_name_or_path`).
    pub name_or_path: Option<String>,
}

/// config.json as it is, for keys that concern others (token ids).
pub(super) type Json = Map<String, Value>;

/// Reads a config.json; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Json>, FileError> {
    read_json(path, MAX_SMALL_BYTES)
}

impl HfConfig {
    /// Reads and checks the keys of a model, in transformers 4's spelling or 5's. An absent key has the default of
    /// transformers' class where there is one that models rely on; sizes have none.
    pub(super) fn from_json(json: &Json) -> Result<(HfConfig, Vec<Oddity>), ConfigFault> {
        let config = Object::new(json, "");
        let (family, oddity) = read_family(&config)?;
        let quantisation = Quantisation::read(&config)?;
        if family.block.ungated.is_none() {
            check_activation(&config, family.spelling.activation, family.block.activation)?;
        }
        let has = |role| family.tensor(role).is_some();
        let size = |key| config.size(key).and_then(|v| config.required(key, v));
        let hidden = size("hidden_size")?;
        let heads = match family.defaults.heads.filter(|_| !config.has("num_attention_heads")) {
            Some(heads) => heads,
            None => size("num_attention_heads")?,
        };
        let kv_default = family.defaults.kv_heads.filter(|_| !config.has("num_key_value_heads"));
        let kv_heads = config.size("num_key_value_heads")?.or(kv_default).unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(ConfigFault::HeadsPerKvHead { heads, kv_heads });
        }
        let head_dim = match config.size("head_dim")?.or(family.defaults.head_dim) {
            Some(head_dim) => head_dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => return Err(ConfigFault::HiddenPerHead { hidden, heads }),
        };
        if !head_dim.is_multiple_of(2) {
            return Err(ConfigFault::OddHeadDim { head_dim });
        }
        if heads.checked_mul(head_dim).is_none_or(|n| n >= 1 << 31) {
            return Err(ConfigFault::HeadsOverflow { heads, head_dim });
        }
        let context = config.size("max_position_embeddings")?.unwrap_or(family.defaults.context);
        let Rope { theta: rope_theta, scaling: rope_scaling, dim: rope_dim } = match family.block.has_rope() {
            true => read_rope(&config, family, head_dim, context)?,
            false => Rope { theta: family.defaults.rope_base, scaling: RopeScaling::None, dim: 0 },
        };
        let layers = size("num_hidden_layers")?;
        let dense_width = family.experts.as_ref().and_then(|keys| keys.dense_width);
        let feed_forward = size(dense_width.unwrap_or(family.spelling.feed_forward))?;
        let experts = read_experts(&config, family, layers, feed_forward)?;
        let sizes = Sizes {
            hidden,
            feed_forward,
            experts: experts.as_ref().map_or(0, |experts| experts.count),
            expert_feed_forward: experts.as_ref().map_or(0, |experts| experts.feed_forward),
            heads,
            kv_heads,
            head_dim,
            rope_dim,
            vocabulary: match family.defaults.vocabulary.filter(|_| !config.has("vocab_size")) {
                Some(vocabulary) => vocabulary,
                None => size("vocab_size")?,
            },
            embedding: config.size("word_embed_proj_dim")?.filter(|_| has(Role::EmbeddingIn)).unwrap_or(hidden),
            positions: context,
        };
        let config = HfConfig {
            family,
            sizes,
            layers,
            context,
            rms_norm_eps: config.positive("rms_norm_eps")?.unwrap_or(family.defaults.epsilon),
            rope_theta,
            rope_scaling,
            plan: ModelPlan { experts, ..read_plan(&config, family, &sizes, layers, rope_theta)? },
            tied: config.bool("tie_word_embeddings")?.unwrap_or(family.defaults.tied),
            biases: read_biases(&config, family)?,
            norm_weights: family.block.norm == NormKind::Rms
                || config.bool("layer_norm_elementwise_affine")?.unwrap_or(true),
            quantisation,
            name_or_path: config.string("_name_or_path")?.filter(|s| !s.is_empty()).map(str::to_string),
        };
        Ok((config, oddity.into_iter().collect()))
    }

    /// Whether `name` is the weight of a norm that has none, where it would be ones.
    pub(super) fn has_ones(&self, name: TensorName) -> bool {
        let of_norm = matches!(name.role, Role::AttentionNorm | Role::FeedForwardNorm | Role::OutputNorm);
        of_norm && !self.norm_weights && name.parameter == Parameter::Weight
    }

    /// Whether a matrix with this `bias` has one.
    pub fn has_bias(&self, bias: Bias) -> bool {
        match bias.key() {
            None => bias == Bias::Always,
            Some((key, _)) => self.biases.contains(&key),
        }
    }
}

/// The keys of the family's optional biases that are true.
fn read_biases(config: &Object, family: &Family) -> Result<Vec<&'static str>, ConfigFault> {
    let mut biases = Vec::new();
    for tensor in family.tensors {
        if let Some((key, default)) = tensor.bias.key()
            && config.bool(key)?.unwrap_or(default)
            && !biases.contains(&key)
        {
            biases.push(key);
        }
    }
    Ok(biases)
}

/// Refuses another activation function than the family's.
fn check_activation(config: &Object, key: &'static str, expected: Activation) -> Result<(), ConfigFault> {
    let names: &[&str] = match expected {
        Activation::Silu => &["silu", "swish"],
        Activation::GeluTanh => &["gelu_pytorch_tanh"],
    };
    match config.value(key).filter(|v| !names.contains(&v.as_str().unwrap_or(""))) {
        Some(found) => Err(ConfigFault::Activation { key, found: describe(found), expected: names[0] }),
        None => Ok(()),
    }
}

/// The family, by `model_type`, which goes before `architectures` as it does in transformers. A class that has the
/// family's layers and another head, or none, is read as the one that writes texts.
fn read_family(config: &Object) -> Result<(&'static Family, Option<Oddity>), ConfigFault> {
    let unknown = |found: &Value| ConfigFault::Family { found: describe(found) };
    let has = |names: &[&str], v: &Value| v.as_str().is_some_and(|v| names.contains(&v));
    let classes =
        config.typed("architectures", "an array of names", Value::as_array)?.map(Vec::as_slice).unwrap_or_default();
    let family = match (config.value("model_type"), classes.first()) {
        (Some(found), _) => FAMILIES.into_iter().find(|f| has(f.model_types, found)).ok_or_else(|| unknown(found))?,
        (None, Some(found)) => FAMILIES.into_iter().find(|f| has(f.classes, found)).ok_or_else(|| unknown(found))?,
        (None, None) => return Err(KeyError::Missing { key: "model_type".into() }.into()),
    };
    let Some(other) = classes.iter().find(|name| !has(family.classes, name)) else { return Ok((family, None)) };
    const HEADS: [&str; 4] = ["Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"];
    let stem = family.classes[0].trim_end_matches("ForCausalLM");
    match other.as_str().filter(|name| name.strip_prefix(stem).is_some_and(|head| HEADS.contains(&head))) {
        Some(class) => Ok((family, Some(Oddity::Class { found: class.into() }))),
        None => Err(unknown(other)),
    }
}
