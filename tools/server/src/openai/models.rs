//! `GET /v1/models` and `/v1/models/{id}`. A model's adapters are models of their own with that one as `parent`.

use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::models::host::Host;
use crate::models::view::{Status, View};

/// All models, each under its first name.
///
/// # Errors
/// None.
pub fn list(host: &Host, _: &str) -> Result<Json, ApiError> {
    let names = |view: &View| std::iter::once(view.id().to_string()).chain(view.adapters.clone()).collect::<Vec<_>>();
    let all = |view: &View| names(view).iter().map(|name| describe(view, name)).collect::<Vec<_>>();
    let models: Vec<Json> = host.views().iter().flat_map(all).collect();
    Ok(json!({"object": "list", "data": models}))
}

/// One model, by any of its names.
///
/// # Errors
/// 404.
pub fn one(host: &Host, name: &str) -> Result<Json, ApiError> {
    let views = host.views();
    let view = views.iter().find(|view| view.names.iter().chain(&view.adapters).any(|own| own == name));
    let names: Vec<&str> = views.iter().map(View::id).collect();
    view.map(|view| describe(view, name)).ok_or_else(|| ApiError::no_model(name, &names))
}

/// `meta` and `status` are llama.cpp's.
fn describe(view: &View, name: &str) -> Json {
    let meta = view.card.as_ref().map(|card| {
        json!({
            "n_vocab": card.vocabulary,
            "n_ctx": view.context(),
            "n_ctx_train": card.trained_context,
            "n_embd": card.hidden,
            "n_params": card.parameters,
            "size": card.bytes,
        })
    });
    let mut status = json!({"value": view.word()});
    if let Status::Unloaded { failed: true } = view.status {
        status["failed"] = true.into();
    }
    let is_adapter = view.adapters.iter().any(|own| own == name);
    let mut model = json!({
        "id": name,
        "object": "model",
        "created": view.since,
        "owned_by": "quipu",
        "aliases": if is_adapter { json!([name]) } else { json!(view.names) },
        "status": status,
        "meta": meta,
    });
    if is_adapter {
        model["parent"] = view.id().into();
    }
    model
}
