//! Fields that would change the answer and that nothing stands behind yet. They are refused by name: an answer that is
//! not what was asked for is worse than none. A value that changes nothing is taken.

use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::fields::Fields;

/// llama.cpp's samplers that this runtime does not have, and the values that turn them off.
const SAMPLERS: &[(&str, &[f64])] = &[
    ("mirostat", &[0.0]),
    ("typical_p", &[1.0]),
    ("top_n_sigma", &[-1.0, 0.0]),
    ("xtc_probability", &[0.0]),
    ("dry_multiplier", &[0.0]),
    ("dynatemp_range", &[0.0]),
    ("adaptive_target", &[-1.0]),
];

/// Refuses what would change the answer.
///
/// # Errors
/// 400 with the name of the field.
pub fn check(fields: &Fields<'_>) -> Result<(), ApiError> {
    for (name, off) in SAMPLERS {
        if let Some(value) = fields.get(name)
            && !value.as_f64().is_some_and(|value| off.contains(&value))
        {
            return Err(refused(fields, name, "is a sampler that is not supported; leave it out"));
        }
    }
    let empty = |value: &Json| [json!(""), json!([]), json!({})].contains(value);
    if fields.get("lora").is_some_and(|value| !empty(value)) {
        return Err(refused(fields, "lora", "is not supported"));
    }
    Ok(())
}

fn refused(fields: &Fields<'_>, name: &str, why: &str) -> ApiError {
    ApiError::field(fields.name(name), why)
}
