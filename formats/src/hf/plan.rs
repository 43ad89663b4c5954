//! What config.json says of a block beyond its sizes: windows, layers without RoPE, factors and caps.

use serde_json::Value;

use super::config_fault::ConfigFault;
use super::json::{KeyError, Object, describe};
use crate::families::{
    AttentionScale, Cap, Family, Layers, LocalRope, ModelPlan, Scale, Sizes, Temperature, Ungated, Window, Windows,
};

/// The plan of a model of `family`, whose RoPE has the base `rope_base`, but for its experts.
pub(super) fn read_plan(
    config: &Object,
    family: &Family,
    sizes: &Sizes,
    layers: usize,
    rope_base: f64,
) -> Result<ModelPlan, ConfigFault> {
    let scales = &family.block.scales;
    let factor = |key| Ok::<_, KeyError>(config.positive(key)?.unwrap_or(1.0));
    let scale = |scale| match scale {
        Scale::One => Ok(1.0),
        Scale::RootOfHidden => Ok((sizes.hidden as f64).sqrt()),
        Scale::Key(key) => factor(key),
    };
    let cap = |cap| match cap {
        Cap::None => Ok(None),
        // A null is none.
        Cap::Key(key, default) => Ok::<_, KeyError>(config.positive(key)?.or(default.filter(|_| !config.has(key)))),
    };
    let attention = match scales.attention {
        AttentionScale::HeadLength => 1.0 / (sizes.head_dim as f64).sqrt(),
        AttentionScale::Key(key) => factor(key)?,
        AttentionScale::InverseRoot { key, default, .. } => 1.0 / config.positive(key)?.unwrap_or(default).sqrt(),
    };
    // Gemma 3 has the key of Gemma 2, which means nothing in it as long as it is null.
    if let (Cap::None, Some(found)) = (scales.attention_cap, config.value("attn_logit_softcapping")) {
        return Err(ConfigFault::SoftCap { key: "attn_logit_softcapping", found: describe(found) });
    }
    if config.bool("use_bidirectional_attention")?.unwrap_or(false) {
        return Err(ConfigFault::Bidirectional);
    }
    let ungated = match family.block.ungated {
        Some(default) => Some(read_ungated(config, family.spelling.activation, default)?),
        None => None,
    };
    // Of OPT alone; the second is of models that were trained before its code was repaired.
    let norms_after = ungated.is_some() && !config.bool("do_layer_norm_before")?.unwrap_or(true);
    let removed = ungated.is_some() && config.bool("_remove_final_layer_norm")?.unwrap_or(false);
    let roped = read_roped(config, family, layers)?;
    let single = |number: Option<f64>| number.map(|number| number as f32);
    Ok(ModelPlan {
        window: match family.block.windows {
            Windows::Chunks => read_chunks(config, family, layers, &roped)?,
            _ => read_window(config, family, layers)?,
        },
        roped,
        bare_qk_norm: family.block.bare_qk_norm && config.bool("use_qk_norm")?.unwrap_or(true),
        temperature: if family.block.temperature { read_temperature(config)? } else { None },
        local_base: match family.block.local_rope {
            Some(local) => Some(read_local_base(config, local, rope_base)?),
            None => None,
        },
        norms_after,
        final_norm: !norms_after && !removed,
        ungated,
        experts: None,
        embedding_scale: scale(scales.embedding)? as f32,
        attention_scale: attention as f32,
        residual_scale: scale(scales.residual)? as f32,
        logit_divisor: scale(scales.logits)? as f32,
        attention_cap: single(cap(scales.attention_cap)?),
        logit_cap: single(cap(scales.logit_cap)?),
    })
}

/// The function of a feed-forward layer without a gate.
fn read_ungated(config: &Object, key: &'static str, default: Ungated) -> Result<Ungated, ConfigFault> {
    let Some(found) = config.value(key) else { return Ok(default) };
    let known = Ungated::ALL.into_iter().find(|function| found.as_str() == Some(function.name()));
    known.ok_or_else(|| ConfigFault::Activation { key, found: describe(found), expected: "relu or gelu" })
}

const SLIDING: &str = "sliding_attention";
const CHUNKED: &str = "chunked_attention";
const FULL: &str = "full_attention";

/// The window and the layers that have it. As in transformers, `layer_types` goes before the older keys, whose defaults
/// are those of the families.
fn read_window(config: &Object, family: &Family, layers: usize) -> Result<Option<Window>, ConfigFault> {
    let rule = family.block.windows;
    let first = config.typed("max_window_layers", "a number of layers", Value::as_u64)?.unwrap_or(28);
    let used = config.bool("use_sliding_window")?.unwrap_or(false);
    let types = config
        .typed("layer_types", "an array of names", Value::as_array)?
        .filter(|_| !matches!(rule, Windows::All | Windows::AllIfUsed));
    let listed = types.map(|types| read_layer_types(types, layers, SLIDING)).transpose()?;
    if rule == Windows::None {
        let found = |key, found| Err(ConfigFault::SlidingWindow { key, found });
        return match (listed, types) {
            (Some(listed), Some(_)) if listed.contains(&true) => found("layer_types", format!("{SLIDING:?}")),
            (None, _) if used && first < layers as u64 => found("use_sliding_window", "true".into()),
            _ => Ok(None),
        };
    }
    let default = family.defaults.window.filter(|_| !config.has("sliding_window"));
    let Some(length) = config.size("sliding_window")?.or(default) else { return Ok(None) };
    let every = |every: usize| Ok::<_, KeyError>(config.size("sliding_window_pattern")?.unwrap_or(every));
    let has = match (listed, rule) {
        (_, Windows::Last | Windows::AllIfUsed) if !used => return Ok(None),
        (Some(listed), _) => Layers::Listed(listed),
        (None, Windows::AllBut(default)) => Layers::AllBut(every(default)?),
        (None, Windows::Last) => Layers::From(usize::try_from(first).unwrap_or(usize::MAX)),
        (None, _) => Layers::All,
    };
    // A list that says what the family's rule says is none.
    let has = has.or_usual(rule.layers());
    Ok(has.are_any_of(layers).then_some(Window { length, chunked: false, layers: has }))
}

/// The chunks: of `attention_chunk_size` positions in the layers that `layer_types` lists, by default those with RoPE.
fn read_chunks(config: &Object, family: &Family, layers: usize, roped: &Layers) -> Result<Option<Window>, ConfigFault> {
    let default = family.defaults.window.filter(|_| !config.has("attention_chunk_size"));
    let Some(length) = config.size("attention_chunk_size")?.or(default) else { return Ok(None) };
    let types = config.typed("layer_types", "an array of names", Value::as_array)?;
    let has = match types {
        Some(types) => Layers::Listed(read_layer_types(types, layers, CHUNKED)?).or_usual(roped.clone()),
        None => roped.clone(),
    };
    Ok(has.are_any_of(layers).then_some(Window { length, chunked: true, layers: has }))
}

/// How queries of layers without RoPE grow.
fn read_temperature(config: &Object) -> Result<Option<Temperature>, ConfigFault> {
    // Some files have a number there.
    let is_off = |v: &Value| v.as_bool() == Some(false) || v.as_u64() == Some(0);
    if config.value("attn_temperature_tuning").is_some_and(is_off) {
        return Ok(None);
    }
    let (floor, scale) = (config.size("floor_scale")?.unwrap_or(8192), config.positive("attn_scale")?.unwrap_or(0.1));
    Ok(Some(Temperature { floor, scale: scale as f32 }))
}

/// Which layers have a window, which is of this kind.
fn read_layer_types(types: &[Value], layers: usize, window: &str) -> Result<Vec<bool>, ConfigFault> {
    if types.len() != layers {
        let found = format!("{} names", types.len());
        return Err(KeyError::Wrong { key: "layer_types".into(), expected: "a name for each layer", found }.into());
    }
    let has = |kind: &Value| match kind.as_str() {
        Some(kind) if kind == window => Ok(true),
        Some(FULL) => Ok(false),
        _ => Err(ConfigFault::SlidingWindow { key: "layer_types", found: describe(kind) }),
    };
    types.iter().map(has).collect()
}

/// The layers that have RoPE.
fn read_roped(config: &Object, family: &Family, layers: usize) -> Result<Layers, ConfigFault> {
    let Some(default) = family.block.without_rope else { return Ok(Layers::All) };
    const KEY: &str = "no_rope_layers";
    // In spite of its name, 1 stands for a layer with RoPE.
    let flags = |v: &Value| v.as_array().and_then(|list| list.iter().map(|v| Some(v.as_u64()? != 0)).collect());
    let list: Option<Vec<bool>> =
        config.typed(KEY, "an array of 0 and 1", flags)?.filter(|list: &Vec<bool>| !list.is_empty());
    let roped = match list {
        Some(list) if list.len() != layers => {
            let found = format!("{} numbers", list.len());
            return Err(KeyError::Wrong { key: KEY.into(), expected: "a number for each layer", found }.into());
        }
        Some(list) => Layers::Listed(list),
        None => Layers::AllBut(config.size("no_rope_layer_interval")?.unwrap_or(default)),
    };
    Ok(roped.or_usual(family.block.roped()))
}

/// The base of RoPE in layers with a window: beside the other one's, or in an object of its own.
fn read_local_base(config: &Object, local: LocalRope, rope_base: f64) -> Result<f64, ConfigFault> {
    let parameters = config.object("rope_parameters")?;
    if let Some(map) = parameters.and_then(|map| map.get(SLIDING)).and_then(Value::as_object) {
        let rope = Object::new(map, "rope_parameters.sliding_attention.");
        if let Some(kind) = rope.string("rope_type")?.filter(|kind| *kind != "default") {
            return Err(ConfigFault::LocalRope { found: format!("{kind:?}") });
        }
        if let Some(theta) = rope.positive("rope_theta")? {
            return Ok(theta);
        }
    }
    Ok(config.positive("rope_local_base_freq")?.or(local.base).unwrap_or(rope_base))
}
