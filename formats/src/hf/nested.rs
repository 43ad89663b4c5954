//! Checkpoints whose text model is a part of one that sees or hears, too: what concerns the text.

use serde_json::Value;

use super::config::Json;
use super::shards::Shards;
use crate::families::FAMILIES;

/// What config.json has beside the text model's object that concerns it.
const OUTER: [&str; 4] = ["architectures", "tie_word_embeddings", "quantization_config", "_name_or_path"];

/// How names of the text model's tensors begin, in the layouts of transformers 4 and 5, and what they begin with in a
/// checkpoint of its own.
const PREFIXES: [(&str, &str); 3] =
    [("language_model.model.", "model."), ("language_model.lm_head.", "lm_head."), ("model.language_model.", "model.")];

/// The text model's config.json, if `json` has it inside, in `text_config`, and its family is known.
pub(super) fn text_config(json: &Json) -> Option<Json> {
    let text = json.get("text_config")?.as_object()?;
    let kind = json.get("model_type").or(text.get("model_type")).and_then(Value::as_str)?;
    FAMILIES.iter().find(|family| family.model_types.contains(&kind))?;
    let mut whole = text.clone();
    whole.insert("model_type".into(), kind.into());
    for key in OUTER {
        if let (None, Some(value)) = (whole.get(key), json.get(key)) {
            whole.insert(key.into(), value.clone());
        }
    }
    Some(whole)
}

/// Gives the text model's tensors the names that they have alone.
pub(super) fn rename(shards: &mut Shards) {
    let named = std::mem::take(&mut shards.index);
    let alone = |name: String| {
        let found = PREFIXES.iter().find_map(|(nested, alone)| Some(format!("{alone}{}", name.strip_prefix(nested)?)));
        found.unwrap_or(name)
    };
    shards.index = named.into_iter().map(|(name, at)| (alone(name), at)).collect();
}
