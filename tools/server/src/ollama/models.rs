//! What there is: `/api/tags`, `/api/show`, `/api/ps`, `/api/version`.

use serde_json::{Map, Value as Json, json};

use crate::card::Card;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::models::host::Host;
use crate::models::view::View;
use crate::random;

/// `GET /api/version`. Clients compare it with the first version of ollama that has what they need; this is the one
/// whose interface was read.
///
/// # Errors
/// None.
pub fn version(_: &Host, _: &str) -> Result<Json, ApiError> {
    Ok(json!({"version": "0.17.0", "quipu": env!("CARGO_PKG_VERSION")}))
}

fn details(card: &Card) -> Json {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": card.architecture,
        "families": [card.architecture],
        "parameter_size": size(card.parameters),
        "quantization_level": card.quantisation,
    })
}

/// A number of weights as people say it.
fn size(parameters: u64) -> String {
    match parameters as f64 {
        n if n >= 1e9 => format!("{:.1}B", n / 1e9),
        n if n >= 1e6 => format!("{:.1}M", n / 1e6),
        n => format!("{:.1}K", n / 1e3),
    }
}

/// Nothing for files that cannot be read: clients would offer them.
fn entry(view: &View) -> Option<Json> {
    let card = view.card.as_ref()?;
    Some(json!({
        "name": view.id(),
        "model": view.id(),
        "modified_at": random::timestamp_of(view.since),
        "size": card.bytes,
        // No file is hashed for this; the name and the size tell models apart.
        "digest": digest(view.id(), card),
        "details": details(card),
    }))
}

/// Sixty-four digits that are the same for the same model.
fn digest(name: &str, card: &Card) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let part = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, name, card.bytes, card.parameters).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    (0..4).map(part).collect()
}

/// `GET /api/tags`.
///
/// # Errors
/// None.
pub fn tags(host: &Host, _: &str) -> Result<Json, ApiError> {
    Ok(json!({"models": host.views().iter().filter_map(entry).collect::<Json>()}))
}

/// `GET /api/ps`: the models that are loaded.
///
/// # Errors
/// None.
pub fn ps(host: &Host, _: &str) -> Result<Json, ApiError> {
    let one = |view: &View| {
        view.model()?;
        let mut entry = entry(view)?;
        // A year that nobody waits for, where ollama has one as well.
        entry["expires_at"] = view.expires().map_or("2318-01-01T00:00:00Z".into(), random::timestamp_of).into();
        entry["size_vram"] = 0.into();
        entry["context_length"] = view.context().into();
        Some(entry)
    };
    Ok(json!({"models": host.views().iter().filter_map(one).collect::<Json>()}))
}

/// `POST /api/show`: `model`, or `name` as it was before. No model is loaded for this.
///
/// # Errors
/// 404 for a model that is not there, 500 for one that cannot be read.
pub fn show(host: &Host, body: &Json) -> Result<Json, ApiError> {
    let fields = Fields::of_body(body)?;
    let name = match fields.str("model")? {
        Some(name) => Some(name),
        None => fields.str("name")?,
    };
    let view = host.view(name)?;
    let unread = || ApiError::not_loaded(view.id(), "its files cannot be read, or are no model that runs here");
    let card = view.card.as_ref().ok_or_else(unread)?;
    let family = &card.architecture;
    let mut info = Map::new();
    info.insert("general.architecture".into(), family.as_str().into());
    info.insert("general.parameter_count".into(), card.parameters.into());
    info.insert(format!("{family}.context_length"), view.context().into());
    info.insert(format!("{family}.embedding_length"), card.hidden.into());
    info.insert("tokenizer.ggml.tokens.length".into(), card.vocabulary.into());
    Ok(json!({
        "modelfile": format!("FROM {}\n", view.id()),
        "parameters": "",
        "template": view.template(),
        "details": details(card),
        "model_info": info,
        "capabilities": capabilities(view.template()),
        "modified_at": random::timestamp_of(view.since),
    }))
}

/// What a model can be asked for, by the variables and marks that its chat template names: ollama's clients offer tools
/// and thoughts only where they stand.
fn capabilities(template: &str) -> Vec<&'static str> {
    let names = |words: &[&str]| words.iter().any(|word| template.contains(word));
    let mut capabilities = vec!["completion", "embedding"];
    capabilities.extend(names(&["tools"]).then_some("tools"));
    capabilities.extend(names(&["<think>", "enable_thinking", "reasoning_content"]).then_some("thinking"));
    capabilities
}

#[cfg(test)]
mod tests {
    use super::capabilities;

    #[test]
    fn a_template_tells_what_a_model_can_do() {
        assert_eq!(capabilities("{{ messages[0].content }}"), ["completion", "embedding"]);
        assert_eq!(capabilities("{% if tools %}{{ tools | tojson }}{% endif %}"), ["completion", "embedding", "tools"]);
        let thinks = "{% for tool in tools %}{% endfor %}<think>{{ message.reasoning_content }}</think>";
        assert_eq!(capabilities(thinks), ["completion", "embedding", "tools", "thinking"]);
    }
}
