//! `GET /v1/models` and `/v1/models/{id}`.

use serde_json::{Value as Json, json};

use crate::context::Context;
use crate::error::ApiError;
use crate::model::Model;

/// All models, each under its first name.
pub fn list(context: &Context) -> Json {
    let models: Vec<Json> = context.models.iter().map(|served| describe(&served.model, served.model.id())).collect();
    json!({"object": "list", "data": models})
}

/// One model, by any of its names.
///
/// # Errors
/// 404.
pub fn one(context: &Context, name: &str) -> Result<Json, ApiError> {
    let is_called = |model: &Model| model.names.iter().any(|own| own == name);
    let served = context.models.iter().find(|served| is_called(&served.model));
    served.map(|served| describe(&served.model, name)).ok_or_else(|| ApiError::no_model(name))
}

fn describe(model: &Model, name: &str) -> Json {
    json!({
        "id": name,
        "object": "model",
        "created": model.loaded,
        "owned_by": "quipu",
        "aliases": model.names,
        "meta": {
            "n_vocab": model.tokenizer.vocab_size(),
            "n_ctx": model.context,
            "n_ctx_train": model.trained_context,
            "n_embd": model.hidden,
            "n_params": model.parameters,
            "size": model.bytes,
        },
    })
}
