//! `POST /infill`: what stands between two texts, for models that have tokens for it.

use serde_json::Value as Json;

use super::completion::CompletionBody;
use super::endpoints::plan;
use crate::context::{Context, Plan};
use crate::error::ApiError;
use crate::fields::Fields;
use crate::fill;
use crate::openai::completions::Prompt;

/// `input_prefix`, `input_suffix` and `prompt`, which goes between the prefix and what is written.
///
/// # Errors
/// What is wrong with the request; 501 for a model without such tokens.
pub fn infill(context: &Context, body: &Json) -> Result<Plan, ApiError> {
    let fields = Fields::of_body(body)?;
    let model = context.served.model.clone();
    let text = |name: &str| fields.str(name)?.ok_or_else(|| fields.missing(name));
    let (prefix, suffix) = (text("input_prefix")?, text("input_suffix")?);
    if fields.array("input_extra", 0)?.is_some_and(|extra| !extra.is_empty()) {
        return Err(ApiError::field("input_extra", "is not supported"));
    }
    let prompt = fields.str("prompt")?.unwrap_or_default();
    let Some(tokens) = fill::between(&model, &format!("{prefix}{prompt}"), suffix)? else {
        return Err(ApiError::unsupported("this model has no tokens for infilling"));
    };
    let prompts = vec![Prompt::Tokens(tokens)];
    plan(CompletionBody::of(&fields, prompts, true, &context.limits, &context.defaults)?, context)
}
