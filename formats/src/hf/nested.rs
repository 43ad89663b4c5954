//! Checkpoints whose text model is a part of one that sees or hears, too, or has other names than its family: what
//! concerns the text, under the family's names.

use serde_json::Value;

use super::config::Json;
use super::config_fault::ConfigFault;
use super::shards::Shards;
use super::{granite4, mllama};
use crate::families::FAMILIES;
use crate::families::mllama::CrossLayers;
use crate::oddity::Oddity;

/// What config.json has beside the text model's object that concerns it.
const OUTER: [&str; 4] = ["architectures", "tie_word_embeddings", "quantization_config", "_name_or_path"];

/// How names of the text model's tensors begin, in the layouts of transformers 4 and 5, and what they begin with in a
/// checkpoint of its own.
const PREFIXES: [(&str, &str); 3] =
    [("language_model.model.", "model."), ("language_model.lm_head.", "lm_head."), ("model.language_model.", "model.")];

/// The text model within a checkpoint.
pub(super) struct Text {
    /// The config.json that it would have alone.
    pub config: Json,
    form: Form,
}

/// How a checkpoint's tensors differ from those of the text model alone.
enum Form {
    /// Their names begin otherwise.
    Nested,
    /// There are layers that look at an image, too.
    Vision(CrossLayers),
    /// Granite 4's.
    Granite4,
}

/// The text model, if `json`, a config.json, is that of a checkpoint with another form than its own.
pub(super) fn text(json: &Json) -> Result<Option<Text>, ConfigFault> {
    let inside = json.get("text_config").and_then(Value::as_object);
    let text = inside.unwrap_or(json);
    let Some(kind) = json.get("model_type").or(text.get("model_type")).and_then(Value::as_str) else { return Ok(None) };
    let is_known = || FAMILIES.iter().any(|family| family.model_types.contains(&kind));
    let (mut config, form) = if let Some((config, cross)) = mllama::text_config(text, kind)? {
        (config, Form::Vision(cross))
    } else if let Some(config) = granite4::config(text, kind)? {
        (config, Form::Granite4)
    } else if inside.is_some() && is_known() {
        let mut whole = text.clone();
        whole.insert("model_type".into(), kind.into());
        (whole, Form::Nested)
    } else {
        return Ok(None);
    };
    // What is read as another family is of none of that family's classes.
    for key in OUTER.into_iter().filter(|key| matches!(form, Form::Nested) || *key != "architectures") {
        if let (None, Some(value)) = (config.get(key), json.get(key)) {
            config.insert(key.into(), value.clone());
        }
    }
    Ok(Some(Text { config, form }))
}

impl Text {
    /// Gives the text model's tensors the names that they have alone, where its embedding has `vocabulary` rows.
    pub(super) fn rename(&self, shards: &mut Shards, vocabulary: usize) -> Option<Oddity> {
        let named = std::mem::take(&mut shards.index);
        let alone = |name: String| {
            let found =
                PREFIXES.iter().find_map(|(nested, alone)| Some(format!("{alone}{}", name.strip_prefix(nested)?)));
            found.unwrap_or(name)
        };
        shards.index = named.into_iter().map(|(name, at)| (alone(name), at)).collect();
        match &self.form {
            Form::Nested => None,
            Form::Vision(cross) => Some(mllama::keep_text(shards, cross, vocabulary)),
            Form::Granite4 => {
                granite4::rename(shards);
                None
            }
        }
    }
}
