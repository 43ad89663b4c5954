//! What is wrong with a config.json.

use super::json::KeyError;
use super::quantised::method::MethodFault;
use super::rope_scaling::RopeFault;
use crate::families::{FAMILIES, Family};

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
    /// An activation function that the family does not have.
    #[error("`{key}` is {found}; expected {expected}")]
    Activation { key: &'static str, found: String, expected: &'static str },
    /// RoPE.
    #[error(transparent)]
    Rope(#[from] RopeFault),
    /// Some layers see a window of the latest positions only.
    #[error("`{key}` is {found}: such layers are not supported in models of this type")]
    SlidingWindow { key: &'static str, found: String },
    /// A cap that the family does not have.
    #[error("`{key}` is {found}: models of this type have none")]
    SoftCap { key: &'static str, found: String },
    /// Positions see those behind them.
    #[error("`use_bidirectional_attention` is true: only models that write texts are supported")]
    Bidirectional,
    /// The RoPE of layers with a window is stretched.
    #[error("`rope_parameters.sliding_attention.rope_type` is {found}; expected default")]
    LocalRope { found: String },
    /// Query heads cannot be shared out among key/value heads.
    #[error("`num_attention_heads` {heads} is no multiple of `num_key_value_heads` {kv_heads}")]
    HeadsPerKvHead { heads: usize, kv_heads: usize },
    /// No `head_dim`, and the heads do not divide the hidden size.
    #[error("`hidden_size` {hidden} is no multiple of `num_attention_heads` {heads}, and `head_dim` is not given")]
    HiddenPerHead { hidden: usize, heads: usize },
    /// RoPE turns pairs.
    #[error("`head_dim` {head_dim} is odd; RoPE turns pairs")]
    OddHeadDim { head_dim: usize },
    /// A token would take more experts than there are.
    #[error("`num_experts_per_tok` is {used}, but a layer has {count} experts")]
    ExpertsUsed { used: usize, count: usize },
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

/// What may stand in `model_type` and `architectures`, for messages.
fn known_types() -> String {
    let name = |family: &&Family| format!("{} (model_type {})", family.classes[0], family.model_types.join(" or "));
    // Its text is a Llama.
    let vision = "MllamaForConditionalGeneration (model_type mllama)".to_string();
    FAMILIES.iter().map(name).chain([vision]).collect::<Vec<_>>().join(", ")
}
