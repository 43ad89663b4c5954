//! Fields that would change the answer and that nothing stands behind yet. They are refused by name: an answer that is
//! not what was asked for is worse than none. A value that changes nothing is taken.

use crate::error::ApiError;
use crate::fields::Fields;

/// Refuses what would change the answer.
///
/// # Errors
/// 400 with the name of the field.
pub fn check(fields: &Fields<'_>) -> Result<(), ApiError> {
    // llama.cpp's adaptive-p; below 0 it is off.
    if fields.get("adaptive_target").is_some_and(|target| !target.as_f64().is_some_and(|target| target < 0.0)) {
        return Err(refused(fields, "adaptive_target", "is a sampler that is not supported; leave it out"));
    }
    Ok(())
}

fn refused(fields: &Fields<'_>, name: &str, why: &str) -> ApiError {
    ApiError::field(fields.name(name), why)
}
