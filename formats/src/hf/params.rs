//! params.json of Meta's and Mistral's layouts, as the config.json that says the same.

use serde_json::{Value, json};

use super::config::Json;
use super::config_fault::ConfigFault;
use super::json::{Object, describe};
use super::quantised::method::META;

/// The keys of params.json that change what a model computes, in ways that are not run here.
const NOT_RUN: [&str; 6] = ["moe", "yarn", "llama_4_scaling", "vision_encoder", "vision_chunk_size", "lora"];

/// What config.json would say of a model with these `params`; `shape` gives the shape of a weight by Hugging Face's
/// name.
///
/// Meta's file does not have the width of the feed-forward layer, which the tensors show, nor the context, which is
/// known of each Llama: 128 Ki where RoPE is scaled (3.1 and later), 8192 with a vocabulary of 128256 (3), 16384 with
/// a base of 10⁶ (Code Llama), 4096 with an ε of 10⁻⁵ (2), else 2048. The factor of RoPE's scaling is 32 in the small
/// models of Llama 3.2, which are narrower than 4096, and 8 in all others.
pub(super) fn config(params: &Json, shape: impl Fn(&str) -> Option<Vec<usize>>) -> Result<Json, ConfigFault> {
    let object = Object::new(params, "");
    for key in NOT_RUN {
        // Meta writes -1 for what a model does not have.
        if let Some(found) = object.value(key).filter(|value| value.as_i64() != Some(-1)) {
            return Err(ConfigFault::Params { key, found: describe(found) });
        }
    }
    let rows = |name: &str| shape(name).and_then(|shape| shape.first().copied());
    let required = |key| object.size(key).and_then(|value| object.required(key, value));
    let (width, heads) = (required("dim")?, required("n_heads")?);
    let vocabulary = rows("model.embed_tokens.weight");
    let mut config = json!({
        "hidden_size": width,
        "num_hidden_layers": required("n_layers")?,
        "num_attention_heads": heads,
        "num_key_value_heads": object.size("n_kv_heads")?.unwrap_or(heads),
        "head_dim": object.size("head_dim")?,
        "rms_norm_eps": params.get("norm_eps").cloned().unwrap_or_default(),
        "rope_theta": params.get("rope_theta").cloned().unwrap_or_default(),
        "vocab_size": vocabulary,
        "intermediate_size": rows("model.layers.0.mlp.gate_proj.weight"),
        "tie_word_embeddings": shape("lm_head.weight").is_none(),
        "bos_token_id": 1,
        "eos_token_id": 2
    });
    // Mistral's file has it, Meta's has what it is computed from.
    let own = match object.size("hidden_dim")? {
        Some(feed_forward) => {
            let window = object.size("sliding_window")?;
            let context = object.size("max_position_embeddings")?.or(object.size("max_seq_len")?);
            json!({
                "model_type": "mistral",
                "intermediate_size": feed_forward,
                "sliding_window": window,
                "max_position_embeddings": context.unwrap_or(32768),
                "quantization_config": quantization(&object)?
            })
        }
        None => meta(&object, width, vocabulary)?,
    };
    let (Value::Object(mut config), Value::Object(own)) = (config.take(), own) else { return Ok(Json::new()) };
    config.extend(own);
    Ok(config)
}

fn meta(object: &Object, width: usize, vocabulary: Option<usize>) -> Result<Value, ConfigFault> {
    const LLAMA_3: usize = 128_256;
    let scaled = object.bool("use_scaled_rope")?.unwrap_or(false);
    let theta = object.positive("rope_theta")?;
    let context = match (scaled, vocabulary, theta, object.positive("norm_eps")?) {
        (true, ..) => 131_072,
        (_, Some(LLAMA_3), ..) => 8192,
        (_, _, Some(1e6), _) => 16_384,
        (.., Some(1e-5)) => 4096,
        _ => 2048,
    };
    let mut config = json!({"model_type": "llama", "max_position_embeddings": context});
    if scaled {
        config["rope_scaling"] = json!({
            "rope_type": "llama3",
            "factor": if width < 4096 { 32.0 } else { 8.0 },
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192
        });
    }
    if let Some(quantised) = meta_quantization(object)? {
        config["quantization_config"] = quantised;
    }
    if vocabulary == Some(LLAMA_3) {
        config["bos_token_id"] = json!(128_000);
        config["eos_token_id"] = json!([128_001, 128_008, 128_009]);
    }
    Ok(config)
}

/// Meta's `quantization_args` and `lora_args`: four bits, groups of 32.
fn meta_quantization(object: &Object) -> Result<Option<Value>, ConfigFault> {
    let Some(map) = object.object("quantization_args")? else { return Ok(None) };
    let args = Object::new(map, "quantization_args.");
    if let Some(other) = args.string("scheme")?.filter(|scheme| *scheme != META) {
        return Err(ConfigFault::Quantized { method: format!("{other:?}") });
    }
    let lora = object.object("lora_args")?.map(|map| Object::new(map, "lora_args."));
    let scale = lora.map(|lora| lora.positive("scale").and_then(|scale| lora.required("scale", scale))).transpose()?;
    let spinquant = args.bool("spinquant")?.unwrap_or(false);
    Ok(Some(json!({"quant_method": META, "spinquant": spinquant, "lora_scale": scale})))
}

/// Mistral's `quantization`: matrices in FP8, one scale each.
fn quantization(object: &Object) -> Result<Value, ConfigFault> {
    let Some(map) = object.object("quantization")? else { return Ok(Value::Null) };
    match map.get("qformat_weight").and_then(Value::as_str) {
        Some("fp8_e4m3") => Ok(json!({"quant_method": "fp8", "weight_block_size": null})),
        other => Err(ConfigFault::Quantized { method: format!("{:?}", other.unwrap_or("unnamed method")) }),
    }
}
