//! `keep_alive`: how long a model stays loaded, and the request that has it unloaded.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::fields::Fields;
use crate::models::host::Host;
use crate::models::keep_alive::KeepAlive;
use crate::models::state::Served;
use crate::random;

/// Keeps the model as long as `keep_alive` says.
///
/// # Errors
/// 400 with the name of the field.
pub fn keep(fields: &Fields<'_>, served: &Served) -> Result<(), ApiError> {
    if let Some(time) = keep_alive(fields)? {
        served.keep_alive(time);
    }
    Ok(())
}

fn keep_alive(fields: &Fields<'_>) -> Result<Option<KeepAlive>, ApiError> {
    let Some(value) = fields.get("keep_alive") else { return Ok(None) };
    KeepAlive::of_json(value).map(Some).map_err(|why| ApiError::field(fields.name("keep_alive"), why))
}

/// A request for no text that says `keep_alive: 0` has the model unloaded; it need not be loaded for that.
///
/// # Errors
/// What is wrong with the request.
pub fn unload(host: &Host, body: &Json) -> Result<Option<Json>, ApiError> {
    let fields = Fields::of_body(body)?;
    let nothing = |value: &Json| value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
    let asks = ["messages", "prompt"].iter().any(|field| fields.get(field).is_some_and(|value| !nothing(value)));
    if asks || keep_alive(&fields)? != Some(KeepAlive::For(Duration::ZERO)) {
        return Ok(None);
    }
    let name = fields.str("model")?;
    host.unload(name)?;
    let mut line = json!({"model": name, "created_at": random::timestamp(), "done": true, "done_reason": "unload"});
    // Each of the two paths has its own form of an empty text; clients skip the other's.
    line["response"] = "".into();
    line["message"] = json!({"role": "assistant", "content": ""});
    Ok(Some(line))
}
