//! Fields that `/api/chat` and `/api/generate` share.

use quipu_runtime::generate::GenerateOptions;
use serde_json::Value as Json;

use crate::conversation::Conversation;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::model::Model;
use crate::openai::sampling::Sampling;
use crate::options::{Defaults, Limits};
use crate::shape;
use crate::thinking::Thinking;

/// How a text is written: the field `options`. What belongs to the machine (`num_thread`, `num_batch`) and `num_ctx`
/// are the server's business: the context is as long as it was started with, for everybody, and no request loads the
/// model anew.
///
/// # Errors
/// 400 with the name of the field, also for what nothing stands behind.
pub fn sampling(fields: &Fields<'_>, limits: &Limits, defaults: &Defaults) -> Result<Sampling, ApiError> {
    let empty = Json::Object(serde_json::Map::new());
    let options = fields.get("options").unwrap_or(&empty);
    let options = Fields::of(options, fields.name("options"))?;
    let mut sampling = Sampling::read(&options, limits, defaults, &[])?;
    sampling.choices = 1;
    sampling.lora.model = fields.str("model")?.map(str::to_string);
    // −1 is no limit, and −2 fills the context, which is what no limit does as well.
    if let Some(n) = options.integer("num_predict", -2..=i64::from(u32::MAX))? {
        sampling.options.max_tokens = usize::try_from(n).ok();
    }
    if let Some(asked) = shape::of_ollama(fields)? {
        sampling.shape = Some(asked);
    }
    if fields.bool("logprobs")? == Some(true) {
        return Err(ApiError::field("logprobs", "are told by /v1/completions and /v1/chat/completions"));
    }
    Ok(sampling)
}

/// Has the model think or not, as the field `think` says: true, false, or how much.
///
/// # Errors
/// 400 if the model's template cannot be asked for it.
pub fn think(
    fields: &Fields<'_>,
    model: &Model,
    conversation: &mut Conversation,
    options: &mut GenerateOptions,
) -> Result<(), ApiError> {
    let asked = match fields.get("think") {
        None => Thinking::Any,
        Some(Json::Bool(think)) => Thinking::Whether(*think),
        Some(Json::String(word)) => Thinking::Effort(word),
        Some(_) => return Err(fields.wrong("think", "true, false or a word")),
    };
    let is_asked = !matches!(asked, Thinking::Any | Thinking::Whether(false) | Thinking::Effort("none"));
    if is_asked && !model.template()?.source().contains("think") {
        return Err(ApiError::field("think", "is not supported: this model does not think apart"));
    }
    asked.apply(conversation, options);
    Ok(())
}

/// Refuses pictures.
///
/// # Errors
/// 501 if there are any.
pub fn no_images(fields: &Fields<'_>) -> Result<(), ApiError> {
    match fields.array("images", usize::MAX)? {
        Some(images) if !images.is_empty() => Err(ApiError::images(fields.name("images"))),
        _ => Ok(()),
    }
}
