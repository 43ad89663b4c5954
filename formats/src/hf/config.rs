//! config.json: the shape of a model.

use std::path::Path;

use serde_json::{Map, Value};

use super::json::{FileError, KeyError, MAX_SMALL_BYTES, Object, describe, read_json};
use super::quantised::method::{MethodFault, Quantisation};
use super::rope_scaling::{RopeFault, RopeScaling, read_rope};
use crate::families::{Bias, FAMILIES, Family, Sizes};
use crate::oddity::Oddity;

/// A rule that a config.json breaks, or something in it that Quipu does not run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // The fields are what the messages show.
#[non_exhaustive]
pub enum ConfigFault {
    /// A key is missing or of the wrong type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A family that is not known here, or a class of another one than `model_type` says.
    #[error("{found} is not supported: Quipu runs {}", known_types())]
    Family { found: String },
    /// The weights are quantised in a way of their own.
    #[error(
        "the checkpoint is quantised ({method}), which Quipu does not read: convert from the original F32, F16 or BF16 checkpoint"
    )]
    Quantized { method: String },
    /// A key of Meta's or Mistral's params.json that changes what the model computes.
    #[error("`{key}` is {found}: models with it are not supported")]
    Params { key: &'static str, found: String },
    /// An activation function that no family here has.
    #[error("`{key}` is {found}; expected silu")]
    Activation { key: &'static str, found: String },
    /// RoPE.
    #[error(transparent)]
    Rope(#[from] RopeFault),
    /// Some layers see a window of the latest positions only.
    #[error("`{key}` is {found}: layers with a sliding window are not supported")]
    SlidingWindow { key: &'static str, found: String },
    /// Query heads cannot be shared out among key/value heads.
    #[error("`num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}")]
    HeadsPerKvHead { heads: usize, kv_heads: usize },
    /// No `head_dim`, and the heads do not divide the hidden size.
    #[error("`hidden_size` {hidden} is no multiple of `num_attention_heads` {heads}, and `head_dim` is not given")]
    HiddenPerHead { hidden: usize, heads: usize },
    /// RoPE turns pairs.
    #[error("`head_dim` {head_dim} is odd; RoPE turns pairs")]
    OddHeadDim { head_dim: usize },
    /// All heads together are larger than any model.
    #[error("{heads} heads of {head_dim} overflow")]
    HeadsOverflow { heads: usize, head_dim: usize },
}

impl From<MethodFault> for ConfigFault {
    fn from(fault: MethodFault) -> ConfigFault {
        match fault {
            MethodFault::Key(error) => error.into(),
            MethodFault::Unknown { method } => ConfigFault::Quantized { method },
        }
    }
}

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
    /// Longest context (`max_position_embeddings`, or what a window over all layers leaves of it).
    pub context: usize,
    /// ε of RMSNorm (`rms_norm_eps`).
    pub rms_norm_eps: f64,
    /// Base of the RoPE frequencies (`rope_theta`).
    pub rope_theta: f64,
    /// Scaling of RoPE (`rope_scaling` or `rope_parameters`).
    pub rope_scaling: RopeScaling,
    /// The output matrix is the embedding (`tie_word_embeddings`).
    pub tied: bool,
    /// The keys of the family's optional biases that are true (`attention_bias`, `mlp_bias`).
    pub biases: Vec<&'static str>,
    /// How the weights are quantised (`quantization_config`).
    pub(super) quantisation: Option<Quantisation>,
    /// Where the checkpoint came from (`_name_or_path`).
    pub name_or_path: Option<String>,
}

/// transformers' names of SiLU (Ramachandran et al. 2017 call it swish).
const SILU: [&str; 2] = ["silu", "swish"];

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
        if let Some(found) = config.value("hidden_act").filter(|v| !SILU.contains(&v.as_str().unwrap_or(""))) {
            return Err(ConfigFault::Activation { key: "hidden_act", found: describe(found) });
        }
        let size = |key| config.size(key).and_then(|v| config.required(key, v));
        let (hidden, heads) = (size("hidden_size")?, size("num_attention_heads")?);
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
        let (rope_theta, rope_scaling) = read_rope(&config, head_dim, context)?;
        let layers = size("num_hidden_layers")?;
        let window = match family.defaults.window {
            Some(default) => config.size("sliding_window")?.or((!config.has("sliding_window")).then_some(default)),
            None => refuse_windows(&config, layers).map(|()| None)?,
        };
        let config = HfConfig {
            family,
            sizes: Sizes {
                hidden,
                feed_forward: size("intermediate_size")?,
                heads,
                kv_heads,
                head_dim,
                rope_dim: head_dim,
                vocabulary: size("vocab_size")?,
            },
            layers,
            // Up to its length, a window hides nothing.
            context: window.map_or(context, |window| context.min(window)),
            rms_norm_eps: config.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            tied: config.bool("tie_word_embeddings")?.unwrap_or(false),
            biases: read_biases(&config, family)?,
            quantisation,
            name_or_path: config.string("_name_or_path")?.filter(|s| !s.is_empty()).map(str::to_string),
        };
        let shorter = window.filter(|window| *window < context).map(|window| Oddity::Window { window, context });
        Ok((config, oddity.into_iter().chain(shorter).collect()))
    }

    /// Whether a matrix with this `bias` has one.
    pub fn has_bias(&self, bias: Bias) -> bool {
        match bias {
            Bias::None => false,
            Bias::Always => true,
            Bias::If(key) => self.biases.contains(&key),
        }
    }
}

/// The keys of the family's optional biases that are true.
fn read_biases(config: &Object, family: &Family) -> Result<Vec<&'static str>, ConfigFault> {
    let mut biases = Vec::new();
    for tensor in family.tensors {
        if let Bias::If(key) = tensor.bias
            && config.bool(key)?.unwrap_or(false)
            && !biases.contains(&key)
        {
            biases.push(key);
        }
    }
    Ok(biases)
}

/// What may stand in `model_type` and `architectures`, for messages.
fn known_types() -> String {
    let name = |family: &&Family| format!("{} (model_type {})", family.classes[0], family.model_types.join(" or "));
    FAMILIES.iter().map(name).collect::<Vec<_>>().join(", ")
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

/// Refuses a model some of whose layers see a sliding window. As in transformers, `layer_types` goes before the older
/// keys, whose defaults are those of Qwen2.
fn refuse_windows(config: &Object, layers: usize) -> Result<(), ConfigFault> {
    const FULL: &str = "full_attention";
    if let Some(types) = config.typed("layer_types", "an array of names", Value::as_array)? {
        return match types.iter().find(|kind| kind.as_str() != Some(FULL)) {
            Some(other) => Err(ConfigFault::SlidingWindow { key: "layer_types", found: describe(other) }),
            None => Ok(()),
        };
    }
    let first = config.typed("max_window_layers", "a number of layers", Value::as_u64)?.unwrap_or(28);
    if config.bool("use_sliding_window")?.unwrap_or(false) && first < layers as u64 {
        return Err(ConfigFault::SlidingWindow { key: "use_sliding_window", found: "true".into() });
    }
    Ok(())
}
