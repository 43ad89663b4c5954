//! `POST /models/load` and `/models/unload`, as llama.cpp's server for several models has them. What `GET /models`
//! tells says when it is done.

use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::models::host::Host;

fn name<'b>(fields: &Fields<'b>) -> Result<&'b str, ApiError> {
    fields.str("model")?.ok_or_else(|| fields.missing("model"))
}

/// Has a model loaded, and does not wait for it.
///
/// # Errors
/// What is wrong with the request.
pub fn load(host: &Host, body: &Json) -> Result<Json, ApiError> {
    host.load(Some(name(&Fields::of_body(body)?)?))?;
    Ok(json!({"success": true}))
}

/// Has a model unloaded as soon as nobody uses it; texts that are being written end first.
///
/// # Errors
/// What is wrong with the request; 400 for a model that is not loaded.
pub fn unload(host: &Host, body: &Json) -> Result<Json, ApiError> {
    let fields = Fields::of_body(body)?;
    match host.unload(Some(name(&fields)?))? {
        true => Ok(json!({"success": true})),
        false => Err(ApiError::field("model", "is not loaded")),
    }
}
