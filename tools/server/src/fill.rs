//! What stands between two texts, for models that were trained to write that.

use quipu_runtime::generate::{InfillOrder, InfillTokens};

use crate::error::ApiError;
use crate::model::Model;

/// The prompt for what stands between `before` and `after`; nothing for a model that has no tokens for it.
///
/// # Errors
/// When there is no room for it.
pub fn between(model: &Model, before: &str, after: &str) -> Result<Option<Vec<u32>>, ApiError> {
    model.check_bytes(before.len().saturating_add(after.len()))?;
    let Some(tokens) = InfillTokens::of(&model.tokenizer) else { return Ok(None) };
    model.check_room(tokens.prompt(&model.tokenizer, before, after, InfillOrder::PrefixFirst)).map(Some)
}
