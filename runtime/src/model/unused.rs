//! Tensors of a file that are not those of the model which its metadata describes.
//!
//! Layers that the header does not count, norms that the family does not have: the model was made with them, so without
//! them it would say something else, and nobody would see why. What stands beside the layers, such as a head for
//! another task, is passed over.

use quipu_formats::families::NormKind;
use quipu_formats::families::names::{Parameter, Role, TensorName, split_layer};
use quipu_formats::oddity::Oddity;
use quipu_formats::source::Source;

use super::loading::WeightsError;
use crate::config::Config;
use crate::rope_scaling::RopeMethod;

/// What the names of tensors begin with that take part in a forward pass of some architecture of llama.cpp (the list of
/// names in its src/llama-arch.cpp), besides layers.
const NEEDED: [&str; 10] =
    ["token_embd", "token_types", "position_embd", "output", "rope_", "per_layer_", "altup_", "conv1d", "enc.", "dec."];

/// Refuses the first tensor that is not used and on which numbers would depend.
pub(super) fn refuse_unused(source: &dyn Source, config: &Config) -> Result<(), WeightsError> {
    let names = source.tensors().iter().map(|tensor| tensor.name.as_str());
    for name in names.filter(|name| !is_used(name, config)) {
        let because = match split_layer(name) {
            Some((layer, _)) if layer >= config.layers => {
                format!("by its metadata the model has {} layers", config.layers)
            }
            None if !NEEDED.iter().any(|start| name.starts_with(start)) && !name.starts_with("blk.") => continue,
            // What activations were divided by when their own low-bit type was chosen; here they are int8.
            Some((_, rest)) if rest.ends_with(".input_scale") => continue,
            _ => format!("a `{}` model has no such tensor here", config.family.architecture),
        };
        return Err(WeightsError::Unused { path: source.path().into(), name: name.into(), because });
    }
    Ok(())
}

/// The tensors that are not used, once [`refuse_unused`] has passed.
pub(crate) fn unused_tensors(source: &dyn Source, config: &Config) -> Option<Oddity> {
    let mut names = source.tensors().iter().map(|t| &t.name).filter(|name| !is_used(name, config));
    let first = names.next()?.clone();
    let because = format!("a `{}` model has no such tensors", config.family.architecture);
    Some(Oddity::UnusedTensors { first, count: 1 + names.count(), because })
}

/// Whether a forward pass takes the tensor called `name`.
fn is_used(name: &str, config: &Config) -> bool {
    let Some(TensorName { layer, role, parameter }) = TensorName::parse(name) else { return false };
    let by_context = config.rope.method == RopeMethod::LongRope;
    let has_it = match role {
        // Read from a file of any family.
        Role::RopeFactors => !by_context,
        Role::RopeFactorsLong | Role::RopeFactorsShort => by_context,
        // Made by what the file says of the model.
        Role::EmbeddingIn | Role::EmbeddingOut => config.embedding != config.hidden,
        Role::OutputNorm if !config.plan.final_norm => false,
        _ => config.family.tensor(role).is_some_and(|tensor| {
            let experts = layer.is_some_and(|layer| config.layer(layer).experts);
            tensor.presence.is_in(experts)
        }),
    };
    let is_matrix = role.input(0).is_some() && !role.is_bank();
    // The embedding is looked up; what would be added to it or multiplied with it is only read where it is the output.
    let parameters = match parameter {
        Parameter::Weight => true,
        Parameter::Bias if is_layer_norm(role, config) => true,
        _ => is_matrix && role != Role::TokenEmbedding,
    };
    has_it && parameters && layer.is_none_or(|layer| layer < config.layers)
}

/// Whether this is a norm with a bias.
fn is_layer_norm(role: Role, config: &Config) -> bool {
    let of_rows = matches!(role, Role::AttentionNorm | Role::FeedForwardNorm | Role::OutputNorm);
    of_rows && config.family.block.norm == NormKind::Layer
}
