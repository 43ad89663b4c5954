//! `GET` and `POST /lora-adapters`: which LoRA adapters are applied where a request says nothing of them.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::model::Model;
use crate::models::host::Host;

/// The model that a request without a name would get.
fn model(host: &Host) -> Result<Arc<Model>, ApiError> {
    let view = host.view(None)?;
    view.model().cloned().ok_or_else(|| ApiError::bad_request("the model is not loaded, so it has no adapters yet"))
}

/// All adapters: number, name, path and scale.
///
/// # Errors
/// 400 if the model is not loaded.
pub fn list(host: &Host, _: &str) -> Result<Json, ApiError> {
    Ok(model(host)?.loras.told())
}

/// Sets the scales of all adapters; those that the body does not name have 0.
///
/// # Errors
/// What is wrong with the request.
pub fn apply(host: &Host, body: &Json) -> Result<Json, ApiError> {
    model(host)?.loras.apply(body)?;
    Ok(json!({"success": true}))
}
