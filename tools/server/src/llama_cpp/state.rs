//! What the server is and does: `GET /props` and `GET /slots`.

use quipu_runtime::generate::GenerateOptions;
use quipu_runtime::tokenizer::Tokenizer;
use serde_json::{Value as Json, json};

use crate::error::ApiError;
use crate::models::host::Host;
use crate::openai::parts::FINGERPRINT;
use crate::openai::samplers;

/// The model that a query names (`model=…`).
fn named(query: &str) -> Option<String> {
    let name = query.split('&').find_map(|part| part.strip_prefix("model="))?;
    let mut bytes = Vec::new();
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => (hex(rest.next())? * 16 + hex(rest.next())?) as u8,
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// `GET /props`, of the model that `query` names, or else of the one that a request without a name would get. It need
/// not be loaded: then it is asleep, in llama.cpp's words.
///
/// # Errors
/// 404 for a model that is not there, 400 where one has to be named.
pub fn props(host: &Host, query: &str) -> Result<Json, ApiError> {
    let view = host.view(named(query).as_deref())?;
    let piece = |id: fn(&Tokenizer) -> Option<u32>| {
        let tokenizer = view.model().map(|model| &model.tokenizer);
        tokenizer.and_then(|tokenizer| Some(tokenizer.piece(id(tokenizer)?))).unwrap_or_default()
    };
    Ok(json!({
        "default_generation_settings": {
            "n_ctx": view.context(),
            "params": settings(view.model().map(|model| &*model.tokenizer), &host.defaults.options),
        },
        "total_slots": view.room.running,
        "model_alias": view.id(),
        "model_path": view.card.as_ref().map(|card| card.path.as_str()).unwrap_or_default(),
        "modalities": {"vision": false, "audio": false},
        "chat_template": view.template(),
        "bos_token": piece(Tokenizer::bos),
        "eos_token": piece(Tokenizer::eos),
        "build_info": FINGERPRINT,
        "is_sleeping": view.model().is_none(),
        "mcp_servers": host.toolbox.to_json(),
    }))
}

/// `GET /slots`: a place for each text that may be written at once, of the model that [`props`] tells of. Texts have no
/// place of their own here, so the first ones are those that are taken.
///
/// # Errors
/// Those of [`props`]; 503 if there is none free and `query` asks for that.
pub fn slots(host: &Host, query: &str) -> Result<Json, ApiError> {
    let view = host.view(named(query).as_deref())?;
    let (places, taken) = (view.room.running, view.counters.running.get() as usize);
    if taken >= places && query.split('&').any(|part| part == "fail_on_no_slot=1") {
        return Err(ApiError::busy(1));
    }
    let slot = |i| json!({"id": i, "n_ctx": view.context(), "speculative": false, "is_processing": i < taken});
    Ok((0..places).map(slot).collect())
}

/// How texts are written, in llama.cpp's words.
pub fn settings(tokenizer: Option<&Tokenizer>, options: &GenerateOptions) -> Json {
    // JSON has no −∞.
    let bias = |(token, bias): (u32, f32)| json!({"token": token, "bias": bias.is_finite().then_some(bias)});
    let ends = tokenizer.filter(|_| options.ignore_end).into_iter().flat_map(Tokenizer::ends);
    let ends = ends.map(|id| (id, f32::NEG_INFINITY));
    let biases: Json = options.sampler.logit_bias.iter().copied().chain(ends).map(bias).collect();
    let mut settings = samplers::settings(&options.sampler);
    let limit = options.max_tokens.map_or(-1, |n| n as i64);
    for (name, value) in [
        ("seed", json!(options.sampler.seed)),
        ("ignore_eos", json!(options.ignore_end)),
        ("n_predict", json!(limit)),
        ("max_tokens", json!(limit)),
        ("n_probs", json!(options.top_logprobs)),
        ("stop", json!(options.stops)),
        ("banned_strings", json!(options.bans)),
        ("post_sampling_probs", json!(options.sampled_logprobs)),
        ("logit_bias", biases),
        // A sampler that there is not.
        ("adaptive_target", json!(-1.0)),
        ("adaptive_decay", json!(0.9)),
    ] {
        settings[name] = value;
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_query_may_name_a_model() {
        let name = |query| named(query);
        assert_eq!(name("model=a%2Fb:q4&x=1").as_deref(), Some("a/b:q4"));
        assert_eq!(name("fail_on_no_slot=1&model=a+b").as_deref(), Some("a b"));
        for query in ["", "models=a", "model=%", "model=%2", "model=%zz", "model=%ff"] {
            assert_eq!(name(query), None, "{query}");
        }
    }
}
