//! What there is: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`.

use serde_json::{Map, Value as Json, json};

use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Model;
use crate::random;

/// `GET /api/version`. Clients compare it with the first version of ollama that has what they need; this is the one
/// whose interface was read.
///
/// # Errors
/// None.
pub fn version(_: &Context, _: &str) -> Result<Json, ApiError> {
    Ok(json!({"version": "0.17.0", "quipu": env!("CARGO_PKG_VERSION")}))
}

fn details(model: &Model) -> Json {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": model.architecture,
        "families": [model.architecture],
        "parameter_size": size(model.parameters),
        "quantization_level": model.quantisation,
    })
}

/// A number of weights as people say it.
fn size(parameters: u64) -> String {
    match parameters as f64 {
        n if n >= 1e9 => format!("{:.1}B", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n => format!("{:.1}K", n / 1e3),
    }
}

fn entry(model: &Model) -> Json {
    json!({
        "name": model.id(),
        "model": model.id(),
        "modified_at": random::timestamp_of(model.loaded),
        "size": model.bytes,
        // No file is hashed for this; the name and the size tell models apart.
        "digest": digest(model),
        "details": details(model),
    })
}

/// Sixty-four digits that are the same for the same model.
fn digest(model: &Model) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let part = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, model.id(), model.bytes, model.parameters).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    (0..4).map(part).collect()
}

/// `GET /api/tags`.
///
/// # Errors
/// None.
pub fn tags(context: &Context, _: &str) -> Result<Json, ApiError> {
    Ok(json!({"models": context.models.iter().map(|served| entry(&served.model)).collect::<Json>()}))
}

/// `GET /api/ps`: all models are loaded, and stay so.
///
/// # Errors
/// None.
pub fn ps(context: &Context, _: &str) -> Result<Json, ApiError> {
    let one = |model: &Model| {
        let mut entry = entry(model);
        entry["expires_at"] = "2318-01-01T00:00:00Z".into();
        entry["size_vram"] = 0.into();
        entry["context_length"] = model.context.into();
        entry
    };
    Ok(json!({"models": context.models.iter().map(|served| one(&served.model)).collect::<Json>()}))
}

/// `POST /api/show`: `model`, or `name` as it was before.
///
/// # Errors
/// 404 for a model that is not there.
pub fn show(context: &Context, body: &Json) -> Result<Json, ApiError> {
    let fields = Fields::of_body(body)?;
    let name = match fields.str("model")? {
        Some(name) => Some(name),
        None => fields.str("name")?,
    };
    let model = &context.model(name)?.model;
    let family = &model.architecture;
    let mut info = Map::new();
    info.insert("general.architecture".into(), family.as_str().into());
    info.insert("general.parameter_count".into(), model.parameters.into());
    info.insert(format!("{family}.context_length"), model.context.into());
    info.insert(format!("{family}.embedding_length"), model.hidden.into());
    info.insert("tokenizer.ggml.tokens.length".into(), model.tokenizer.vocab_size().into());
    let template = model.template().map_or("", |template| template.source());
    Ok(json!({
        "modelfile": format!("FROM {}\n", model.id()),
        "parameters": "",
        "template": template,
        "details": details(model),
        "model_info": info,
        "capabilities": ["completion", "embedding"],
        "modified_at": random::timestamp_of(model.loaded),
    }))
}
