//! What config.json says of experts.

use serde_json::Value;

use super::config_fault::ConfigFault;
use super::json::{KeyError, Object};
use crate::families::{ExpertLayers, Experts, Family, Layers};

/// Far more layers than any model has whose dense ones are listed by number.
const MOST_LAYERS: usize = 1 << 20;

/// The experts of a model with so many layers and such a feed-forward layer, if its family has any and it, too.
pub(super) fn read_experts(
    config: &Object,
    family: &Family,
    layers: usize,
    feed_forward: usize,
) -> Result<Option<Experts>, ConfigFault> {
    let Some(keys) = &family.experts else { return Ok(None) };
    const USED: &str = "num_experts_per_tok";
    let (names, default) = keys.count;
    let name = names.iter().copied().find(|name| config.has(name));
    let count = match name {
        // 0 stands for none.
        Some(name) if config.value(name).and_then(Value::as_u64) == Some(0) => return Ok(None),
        Some(name) => config.size(name)?.unwrap_or(default),
        None => default,
    };
    let used = config.size(USED)?.unwrap_or(keys.used);
    if used > count {
        return Err(ConfigFault::ExpertsUsed { used, count });
    }
    let normalised = match keys.normalised {
        Some((key, default)) => config.bool(key)?.unwrap_or(default),
        None => true,
    };
    let feed_forward = match keys.width {
        Some((key, default)) => config.size(key)?.unwrap_or(default),
        None => feed_forward,
    };
    let layers = match keys.layers {
        ExpertLayers::All => Layers::All,
        ExpertLayers::SparseStep => sparse_layers(config, layers)?,
        ExpertLayers::Interleaved => match interleaved_layers(config, layers)? {
            Some(layers) => layers,
            None => return Ok(None),
        },
    };
    Ok(Some(Experts { count, used, feed_forward, normalised, layers }))
}

/// Every `decoder_sparse_step`-th layer, but for those in `mlp_only_layers`.
fn sparse_layers(config: &Object, layers: usize) -> Result<Layers, ConfigFault> {
    let step = config.size("decoder_sparse_step")?.unwrap_or(1);
    let every = if step == 1 { Layers::All } else { Layers::Every(step) };
    match listed(config, "mlp_only_layers", layers)? {
        Some(dense) if dense.contains(&true) => {
            let has = dense.iter().enumerate().map(|(i, dense)| every.contains(i) && !dense);
            Ok(Layers::Listed(has.collect()).or_usual(every))
        }
        _ => Ok(every),
    }
}

/// Those in `moe_layers`, or every `interleave_moe_layer_step`-th; `None` where no layer has experts.
fn interleaved_layers(config: &Object, layers: usize) -> Result<Option<Layers>, ConfigFault> {
    const STEP: &str = "interleave_moe_layer_step";
    let none = config.value(STEP).and_then(Value::as_u64) == Some(0);
    let step = if none { 0 } else { config.size(STEP)?.unwrap_or(1) };
    let every = if step == 1 { Layers::All } else { Layers::Every(step) };
    let has = match listed(config, "moe_layers", layers)? {
        Some(list) => Layers::Listed(list).or_usual(every),
        None => every,
    };
    Ok(has.are_any_of(layers).then_some(has))
}

/// Which layers stand in the list of numbers under `key`, if it is there.
fn listed(config: &Object, key: &'static str, layers: usize) -> Result<Option<Vec<bool>>, ConfigFault> {
    let numbers = |v: &Value| v.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
    let list: Option<Vec<u64>> = config.typed(key, "an array of numbers of layers", numbers)?;
    let Some(list) = list else { return Ok(None) };
    if layers > MOST_LAYERS {
        let found = format!("a list, of {layers} layers");
        return Err(KeyError::Wrong { key: key.into(), expected: "none in a model of so many layers", found }.into());
    }
    let mut has = vec![false; layers];
    for i in list.into_iter().filter_map(|i| usize::try_from(i).ok()).filter(|&i| i < layers) {
        has[i] = true;
    }
    Ok(Some(has))
}
