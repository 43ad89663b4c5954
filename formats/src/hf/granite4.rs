//! Granite 4's dense models as Hugging Face has them: a [Granite 3](crate::families) under other names.
//!
//! Their class has layers with experts and layers of Mamba, too, and a feed-forward layer that serves all tokens. Where
//! there is nothing else, that one is the feed-forward layer, its gate and way up in one matrix.

use serde_json::Value;

use super::config::Json;
use super::config_fault::ConfigFault;
use super::json::{KeyError, Object, describe};
use super::shards::Shards;

const KIND: &str = "granitemoehybrid";

/// What layers with attention are called.
const ATTENTION: [&str; 2] = ["attention", "full_attention"];

/// A Granite 3's config.json, if `json`, whose model is of this `kind`, is of a dense Granite 4.
pub(super) fn config(json: &Json, kind: &str) -> Result<Option<Json>, ConfigFault> {
    if kind != KIND {
        return Ok(None);
    }
    let object = Object::new(json, "");
    let check = |key: &str, expected, good: &dyn Fn(&Value) -> bool| match object.required(key, object.value(key))? {
        value if good(value) => Ok(()),
        other => Err(KeyError::Wrong { key: key.into(), expected, found: describe(other) }),
    };
    let attends = |kind: &Value| kind.as_str().is_some_and(|kind| ATTENTION.contains(&kind));
    check("num_local_experts", "0, as in Granite 4's dense models, which alone are supported", &|v| {
        v.as_u64() == Some(0)
    })?;
    check("layer_types", "attention in all layers, as in Granite 4's dense models, which alone are supported", &|v| {
        v.as_array().is_some_and(|types| types.iter().all(attends))
    })?;
    check("position_embedding_type", "\"rope\"", &|v| v.as_str() == Some("rope"))?;
    let mut granite = json.clone();
    for key in ["architectures", "layer_types"] {
        granite.remove(key);
    }
    granite.insert("model_type".into(), "granite".into());
    if let Some(width) = granite.remove("shared_intermediate_size") {
        granite.insert("intermediate_size".into(), width);
    }
    Ok(Some(granite))
}

/// Gives tensors the names that a Granite 3 has, and halves the matrices that have a gate and a way up.
pub(super) fn rename(shards: &mut Shards) {
    let named = std::mem::take(&mut shards.index);
    for (name, (number, file)) in named {
        let Some(stem) = name.strip_suffix("shared_mlp.input_linear.weight") else {
            shards.index.insert(name.replacen("shared_mlp.output_linear.", "mlp.down_proj.", 1), (number, file));
            continue;
        };
        let weight = &shards.weights[number];
        let (all, half) = (weight.shape[0], weight.shape[0] / 2);
        let halves = [("gate", weight.part(0..half)), ("up", weight.part(half..all))];
        if halves.iter().any(|(_, part)| part.is_none()) {
            // Nothing else has this name, so it will be missed under its new ones.
            shards.index.insert(name, (number, file));
            continue;
        }
        for (part, weight) in halves {
            shards.index.insert(format!("{stem}mlp.{part}_proj.weight"), (shards.weights.len(), file));
            shards.weights.extend(weight);
        }
    }
}
