//! What the server is and does: `GET /props` and `GET /slots`.

use quipu_runtime::generate::GenerateOptions;
use serde_json::{Value as Json, json};

use crate::context::{Context, Served};
use crate::error::ApiError;
use crate::openai::parts::FINGERPRINT;

/// `GET /props`, of the first model.
///
/// # Errors
/// None.
pub fn props(context: &Context, _: &str) -> Result<Json, ApiError> {
    let Served { model, handle } = context.model(None)?;
    let piece = |id: Option<u32>| id.map_or("", |id| model.tokenizer.piece(id));
    Ok(json!({
        "default_generation_settings": {
            "n_ctx": model.context,
            "params": settings(&context.defaults.options),
        },
        "total_slots": handle.room().running,
        "model_alias": model.id(),
        "model_path": model.path,
        "modalities": {"vision": false, "audio": false},
        "chat_template": model.template().map_or("", |template| template.source()),
        "bos_token": piece(model.tokenizer.bos()),
        "eos_token": piece(model.tokenizer.eos()),
        "build_info": FINGERPRINT,
        "is_sleeping": false,
    }))
}

/// `GET /slots`: a place for each text that may be written at once. Texts have no place of their own here, so the
/// first ones are those that are taken.
///
/// # Errors
/// 503 if there is none free and `query` asks for that.
pub fn slots(context: &Context, query: &str) -> Result<Json, ApiError> {
    let Served { model, handle } = context.model(None)?;
    let (places, taken) = (handle.room().running, handle.counters().running.get() as usize);
    if taken >= places && query.split('&').any(|part| part == "fail_on_no_slot=1") {
        return Err(ApiError::busy(1));
    }
    let slot = |i| json!({"id": i, "n_ctx": model.context, "speculative": false, "is_processing": i < taken});
    Ok((0..places).map(slot).collect())
}

/// How texts are written, in llama.cpp's words.
pub fn settings(options: &GenerateOptions) -> Json {
    let sampler = &options.sampler;
    json!({
        "seed": sampler.seed,
        "temperature": sampler.temperature,
        "top_k": sampler.top_k,
        "top_p": sampler.top_p,
        "min_p": sampler.min_p,
        "repeat_last_n": sampler.repeat_last_n,
        "repeat_penalty": sampler.repeat_penalty,
        "presence_penalty": sampler.presence_penalty,
        "frequency_penalty": sampler.frequency_penalty,
        "n_predict": options.max_tokens.map_or(-1, |n| n as i64),
        "max_tokens": options.max_tokens.map_or(-1, |n| n as i64),
        "n_probs": options.top_logprobs,
        "stop": options.stops,
        "samplers": ["logit_bias", "penalties", "top_k", "top_p", "min_p", "temperature"],
    })
}
