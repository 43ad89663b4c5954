//! GGUF's `general.*` keys and those of the architecture, with the types that llama.cpp writes.

use std::path::Path;

use quipu_quant::TensorType;

use super::config::HfConfig;
use super::rope_scaling::RopeScaling;
use crate::families::{Cap, Layers, Router, Scale, Windows, YARN_BETAS, keys, yarn_attention};
use crate::gguf::{Array, Metadata, Value};
use crate::source::TensorInfo;

/// The metadata of the model without its tokenizer.
pub(super) fn model_metadata(config: &HfConfig, dir: &Path, tensors: &[&TensorInfo]) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set(keys::ARCHITECTURE, Value::String(config.family.architecture.into()));
    metadata.set("general.type", Value::String("model".into()));
    metadata.set("general.name", Value::String(model_name(dir, config.name_or_path.as_deref())));
    let parameters = tensors.iter().map(|t| t.shape.iter().map(|&n| n as u64).product::<u64>()).sum();
    metadata.set("general.size_label", Value::String(size_label(parameters)));

    // Sizes are below 2³¹ (Object::size).
    let (family, sizes) = (config.family, config.sizes);
    let mut size = |key: &str, value: usize| metadata.set(family.key(key), Value::U32(value as u32));
    size(keys::LAYERS, config.layers);
    size(keys::CONTEXT, config.context);
    size(keys::HIDDEN, sizes.hidden);
    size(keys::FEED_FORWARD, sizes.feed_forward);
    if let Some(experts) = &config.plan.experts {
        size(keys::EXPERTS, experts.count);
        size(keys::EXPERTS_USED, experts.used);
        if family.experts.as_ref().is_some_and(|keys| keys.width.is_some()) {
            size(keys::EXPERT_FEED_FORWARD, experts.feed_forward);
        }
    }
    size(keys::HEADS, sizes.heads);
    size(keys::KV_HEADS, sizes.kv_heads);
    size(keys::KEY_LENGTH, sizes.head_dim);
    size(keys::VALUE_LENGTH, sizes.head_dim);
    if family.block.has_rope() {
        size(keys::ROPE_DIM, sizes.rope_dim);
    }
    size(keys::VOCABULARY, sizes.vocabulary);
    if sizes.embedding != sizes.hidden {
        size(keys::EMBEDDING, sizes.embedding);
    }
    if family.block.has_rope() {
        metadata.set(family.key(keys::ROPE_BASE), Value::F32(config.rope_theta as f32));
    }
    metadata.set(family.key(family.block.norm.epsilon_key()), Value::F32(config.rms_norm_eps as f32));
    rope_scaling(&mut metadata, config);
    plan(&mut metadata, config);
    experts_and_temperature(&mut metadata, config);
    metadata.set("general.file_type", Value::U32(file_type(tensors)));
    metadata
}

/// The keys of windows, layers without RoPE, factors and caps: what differs from what a reader takes by itself.
fn plan(metadata: &mut Metadata, config: &HfConfig) {
    let (family, sizes, plan) = (config.family, &config.sizes, &config.plan);
    let mut set = |key: &str, value: Value| metadata.set(family.key(key), value);
    let flags = |layers: &Layers| (0..config.layers).map(|i| layers.contains(i)).collect();
    match &plan.window {
        Some(window) if window.chunked => {
            if family.defaults.window != Some(window.length) {
                set(keys::CHUNK, Value::U32(window.length as u32));
            }
            if window.layers != plan.roped {
                set(keys::WINDOW_PATTERN, Value::Array(Array::Bool(flags(&window.layers))));
            }
        }
        Some(window) => {
            set(keys::WINDOW, Value::U32(window.length as u32));
            if window.layers != family.block.windows.layers() {
                set(keys::WINDOW_PATTERN, Value::Array(Array::Bool(flags(&window.layers))));
            }
        }
        None if family.defaults.window.is_some() => set(keys::WINDOW, Value::U32(0)),
        None => {}
    }
    let local = family.block.local_rope.map(|local| local.base.unwrap_or(config.rope_theta));
    if let Some(base) = plan.local_base.filter(|base| local != Some(*base)) {
        set(keys::ROPE_BASE_LOCAL, Value::F32(base as f32));
    }
    let scales = &family.block.scales;
    let usual = scales.attention.of_gguf(sizes.hidden, sizes.heads, sizes.head_dim, config.layers);
    let factors = [
        (keys::ATTENTION_SCALE, plan.attention_scale, usual),
        (keys::EMBEDDING_SCALE, plan.embedding_scale, scales.embedding.of_gguf(sizes.hidden)),
        (keys::RESIDUAL_SCALE, plan.residual_scale, 1.0),
        (keys::LOGIT_SCALE, plan.logit_divisor, 1.0),
    ];
    for (key, value, usual) in factors {
        // llama.cpp wants this one of every Granite.
        if value != usual || (key == keys::LOGIT_SCALE && scales.logits != Scale::One) {
            set(key, Value::F32(value));
        }
    }
    for (key, cap, rule) in [
        (keys::ATTENTION_CAP, plan.attention_cap, scales.attention_cap),
        (keys::LOGIT_CAP, plan.logit_cap, scales.logit_cap),
    ] {
        // 0 is none, where there is one as a rule.
        let none = matches!(rule, Cap::Key(_, Some(_))).then_some(0.0);
        cap.or(none).into_iter().for_each(|cap| set(key, Value::F32(cap)));
    }
    if let Some(function) = plan.ungated {
        set(keys::ACTIVATION, Value::String(function.name().into()));
        set(keys::NORMS_AFTER, Value::Bool(plan.norms_after));
        set(keys::FINAL_NORM, Value::Bool(plan.final_norm));
    }
    // To llama.cpp, a Llama 4 without chunks has RoPE in all layers.
    let by_default = match plan.window {
        None if family.block.windows == Windows::Chunks => Layers::All,
        _ => family.block.roped(),
    };
    if plan.roped != by_default {
        metadata.set(keys::ROPED, Value::Array(Array::Bool(flags(&plan.roped))));
    }
}

/// The keys of experts, and of what layers with and without RoPE do in their own ways.
fn experts_and_temperature(metadata: &mut Metadata, config: &HfConfig) {
    let (family, sizes, plan) = (config.family, &config.sizes, &config.plan);
    let mut set = |key: String, value: Value| metadata.set(key, value);
    if let Some(experts) = &plan.experts {
        let step = match experts.layers {
            Layers::All => Some(1),
            Layers::Every(step) => Some(step),
            _ => None,
        };
        let by_step = step.filter(|_| family.block.router == Some(Router::SigmoidOfInput));
        if let Some(step) = by_step {
            set(family.key(keys::EXPERT_STEP), Value::U32(step as u32));
        }
        if let Some(Router::Softmax { normalised }) = family.block.router
            && normalised != experts.normalised
        {
            set(family.key(keys::EXPERTS_NORMALISED), Value::Bool(experts.normalised));
        }
        if by_step.is_none() && experts.layers != Layers::All {
            let has = (0..config.layers).map(|i| experts.layers.contains(i)).collect();
            set(keys::EXPERT_LAYERS.into(), Value::Array(Array::Bool(has)));
        }
    }
    if family.block.temperature {
        let given = plan.temperature.map_or((8192, 0.0), |given| (given.floor, given.scale));
        if given.0 != 8192 {
            set(family.key(keys::TEMPERATURE_FLOOR), Value::U32(given.0 as u32));
        }
        if given.1 != 0.1 {
            set(family.key(keys::TEMPERATURE_SCALE), Value::F32(given.1));
        }
    }
    if family.block.bare_qk_norm && plan.bare_qk_norm != (sizes.experts != 128) {
        set(family.key(keys::BARE_QK_NORM), Value::Bool(plan.bare_qk_norm));
    }
}

/// The keys of RoPE's scaling. Llama 3's is in a tensor alone, LongRoPE's factors are in two.
fn rope_scaling(metadata: &mut Metadata, config: &HfConfig) {
    let key = |key: &str| config.family.key(key);
    let number = |value: f64| Value::F32(value as f32);
    let kind = |name: &str| Value::String(name.into());
    match config.rope_scaling {
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
        RopeScaling::Linear { factor } => {
            metadata.set(key(keys::ROPE_SCALING), kind("linear"));
            metadata.set(key(keys::ROPE_FACTOR), number(factor));
        }
        // llama.cpp refuses a type that it does not know.
        RopeScaling::Dynamic { factor } => metadata.set(keys::DYNAMIC_FACTOR, number(factor)),
        RopeScaling::Yarn { factor, original_context, attention, beta_fast, beta_slow, truncate } => {
            metadata.set(key(keys::ROPE_SCALING), kind("yarn"));
            metadata.set(key(keys::ROPE_FACTOR), number(factor));
            metadata.set(key(keys::ROPE_ORIGINAL), Value::U32(original_context as u32));
            // The one key of these that llama.cpp reads in every architecture; it multiplies YaRN's own size.
            let besides = attention / yarn_attention(factor, 1.0);
            if besides != 1.0 {
                metadata.set(key(keys::ROPE_ATTENTION), number(besides));
            }
            for (beta, value, default) in
                [(keys::YARN_BETA_FAST, beta_fast, YARN_BETAS.0), (keys::YARN_BETA_SLOW, beta_slow, YARN_BETAS.1)]
            {
                if value != default {
                    metadata.set(key(beta), number(value));
                }
            }
            if !truncate {
                metadata.set(keys::YARN_TRUNCATE, Value::Bool(false));
            }
        }
        RopeScaling::LongRope { original_context, attention, .. } => {
            metadata.set(key(keys::ROPE_SCALING), kind("longrope"));
            metadata.set(key(keys::ROPE_ORIGINAL), Value::U32(original_context as u32));
            metadata.set(key(keys::ROPE_ATTENTION), number(attention));
        }
    }
}

/// llama.cpp's number (`llama_ftype`) for the type of most of the weights.
fn file_type(tensors: &[&TensorInfo]) -> u32 {
    let elements = |ty: TensorType| -> usize {
        tensors
            .iter()
            .filter(|t| t.ty() == ty)
            .map(|t| t.rows().saturating_mul(t.cols()))
            .fold(0, usize::saturating_add)
    };
    let floats = [TensorType::F32, TensorType::F16, TensorType::BF16];
    floats.into_iter().max_by_key(|&ty| elements(ty)).and_then(TensorType::file_type).unwrap_or(0)
}

/// What to call the model: the directory; or, in Hugging Face's cache, where that is only a hash, the repository.
fn model_name(dir: &Path, name_or_path: Option<&str>) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
    let own = name(&dir).unwrap_or_default();
    let is_hash = own.len() == 40 && own.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hash && !own.is_empty() {
        return own;
    }
    // models--ORG--NAME/snapshots/HASH
    let repository = dir.ancestors().nth(2).and_then(name);
    let cached = repository.and_then(|r| Some(r.strip_prefix("models--")?.rsplit("--").next()?.to_string()));
    let origin = || name_or_path.and_then(|n| name(Path::new(n)));
    cached.or_else(origin).unwrap_or(own)
}

/// `parameters` as model names have it: two digits or more, e.g. `135M`, `8.4M`, `1.2B`.
fn size_label(parameters: u64) -> String {
    let scales = [(1e12, "T"), (1e9, "B"), (1e6, "M")];
    let n = parameters as f64;
    let (scale, suffix) = scales.into_iter().find(|(scale, _)| n > *scale).unwrap_or((1e3, "K"));
    let scaled = n / scale;
    let decimals = usize::from(scaled.round() < 10.0);
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels() {
        let labels = [
            (8_400_000, "8.4M"),
            (1_235_814_400, "1.2B"),
            (134_515_008, "135M"),
            (70_553_706_496, "71B"),
            (900, "0.9K"),
        ];
        for (parameters, label) in labels {
            assert_eq!(size_label(parameters), label);
        }
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let cache = format!("/hub/models--org--Some-Llama-1B/snapshots/{hash}");
        assert_eq!(model_name(Path::new(&cache), None), "Some-Llama-1B");
        assert_eq!(model_name(Path::new("/models/My-Llama/"), Some("org/Other")), "My-Llama");
        assert_eq!(model_name(Path::new(&format!("/x/y/{hash}")), Some("org/Other")), "Other");
    }
}
