//! Llama 3.2-Vision as Hugging Face has it: its text as a Llama's ([`mllama`](crate::families)).

use serde_json::{Value, json};

use super::config::Json;
use super::config_fault::ConfigFault;
use super::json::{KeyError, Object, describe};
use super::shards::Shards;
use crate::families::mllama::CrossLayers;
use crate::oddity::Oddity;

/// `model_type` of the whole, and of the text by itself.
const KINDS: [&str; 2] = ["mllama", "mllama_text_model"];

/// What belongs to images.
const OF_IMAGES: [&str; 4] =
    ["vision_model.", "multi_modal_projector.", "model.vision_model.", "model.multi_modal_projector."];

const LAYERS: &str = "model.layers.";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// A Llama's config.json, if `json`, that of a text model or of one with images around it, is of such a model, and the
/// layers that are none of a Llama's. What is absent has transformers' defaults.
pub(super) fn text_config(text: &Json, kind: &str) -> Result<Option<(Json, CrossLayers)>, ConfigFault> {
    if !KINDS.contains(&kind) {
        return Ok(None);
    }
    const KEY: &str = "cross_attention_layers";
    let object = Object::new(text, "");
    let layers = object.size("num_hidden_layers").and_then(|layers| object.required("num_hidden_layers", layers))?;
    let list = object.required(KEY, object.value(KEY))?;
    let numbers: Option<Vec<u64>> = list.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
    let Some(cross) = numbers.and_then(|numbers| CrossLayers::new(&numbers, layers)) else {
        let expected = "an array of some of the layers, each once";
        return Err(KeyError::Wrong { key: KEY.into(), expected, found: describe(list) }.into());
    };
    let mut llama = text.clone();
    llama.remove("architectures");
    llama.insert("model_type".into(), "llama".into());
    llama.insert("num_hidden_layers".into(), cross.others().into());
    for (key, default) in
        [("num_key_value_heads", json!(8)), ("rms_norm_eps", json!(1e-5)), ("max_position_embeddings", json!(131_072))]
    {
        llama.entry(key).or_insert(default);
    }
    if !object.has("rope_parameters") {
        llama.entry("rope_theta").or_insert(json!(500_000.0));
    }
    Ok(Some((llama, cross)))
}

/// Leaves the Llama in `shards`, whose names are already those of a text model alone, with an embedding of `vocabulary`
/// rows.
pub(super) fn keep_text(shards: &mut Shards, cross: &CrossLayers, vocabulary: usize) -> Oddity {
    let before = shards.index.len();
    let named = std::mem::take(&mut shards.index);
    let kept = named.into_iter().filter_map(|(name, at)| Some((text_name(name, cross)?, at)));
    shards.index = kept.collect();
    if let Some(&(embedding, _)) = shards.index.get(EMBEDDING)
        && let Some(part) = shards.weights[embedding].part(0..vocabulary)
    {
        shards.weights[embedding] = part;
    }
    Oddity::TextHalf { tensors: before - shards.index.len(), layers: cross.count() }
}

/// The name of a tensor in the Llama, if it is one of its own.
fn text_name(name: String, cross: &CrossLayers) -> Option<String> {
    if OF_IMAGES.iter().any(|begin| name.starts_with(begin)) {
        return None;
    }
    let layer = name.strip_prefix(LAYERS).and_then(|rest| {
        let (number, rest) = rest.split_once('.')?;
        Some((number.parse().ok()?, rest))
    });
    match layer {
        Some((layer, rest)) => cross.number(layer).map(|layer| format!("{LAYERS}{layer}.{rest}")),
        None => Some(name),
    }
}
