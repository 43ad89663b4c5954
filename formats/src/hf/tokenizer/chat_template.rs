//! Chat templates: one, or several by name.

use std::path::Path;

use serde_json::Value;

use super::special::NamedObject;
use crate::gguf::{Array, Metadata, Value as GgufValue};
use crate::hf::error::HfError;
use crate::hf::json::{FileError, KeyError, MAX_SMALL_BYTES, describe, read_json, read_text};
use crate::oddity::Oddity;

const KEY: &str = "chat_template";

/// Adds `tokenizer.chat_template` and, of templates with other names than `default`, `tokenizer.chat_template.NAME` and
/// their list `tokenizer.chat_templates`, as llama.cpp has them.
///
/// Of several places the first counts, in transformers' order: chat_template.jinja and
/// additional_chat_templates/NAME.jinja, chat_template.json, tokenizer_config.json. Of templates of one name the last
/// counts, as there; where names become one key, the first or the one that is spelled so, and the other is odd.
pub(super) fn add(metadata: &mut Metadata, dir: &Path, tokenizer_config: &NamedObject) -> Result<Vec<Oddity>, HfError> {
    let (mut oddities, mut others): (Vec<Oddity>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let key = |name: &str| name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect::<String>();
    let (exact, bent): (Vec<_>, Vec<_>) =
        find(dir, tokenizer_config)?.into_iter().partition(|(name, _)| key(name) == *name);
    for (name, template) in exact.into_iter().chain(bent) {
        if name == "default" {
            metadata.set("tokenizer.chat_template", GgufValue::String(template));
            continue;
        }
        let key = key(&name);
        match others.iter().find(|(taken, _)| *taken == key) {
            Some((_, other)) if *other != name => {
                oddities.push(Oddity::TemplateName { name, other: other.clone() });
                continue;
            }
            Some(_) => {}
            None => others.push((key.clone(), name)),
        }
        metadata.set(format!("tokenizer.chat_template.{key}"), GgufValue::String(template));
    }
    if !others.is_empty() {
        let keys = others.into_iter().map(|(key, _)| key).collect();
        metadata.set("tokenizer.chat_templates", GgufValue::Array(Array::String(keys)));
    }
    Ok(oddities)
}

/// Names and templates.
fn find(dir: &Path, tokenizer_config: &NamedObject) -> Result<Vec<(String, String)>, HfError> {
    let jinja = read_text(&dir.join("chat_template.jinja"), MAX_SMALL_BYTES)?;
    let mut templates: Vec<_> = jinja.into_iter().map(|template| ("default".to_string(), template)).collect();
    templates.extend(additional(&dir.join("additional_chat_templates"))?);
    if !templates.is_empty() {
        return Ok(templates);
    }
    let path = dir.join("chat_template.json");
    if let Some(object) = read_json(&path, MAX_SMALL_BYTES)? {
        let file = NamedObject { path, object };
        if file.get().value(KEY).is_some() {
            return from_json(&file);
        }
    }
    from_json(tokenizer_config)
}

/// The templates in the directory `dir`, by the names of their files; none when there is no such directory.
fn additional(dir: &Path) -> Result<Vec<(String, String)>, HfError> {
    let read = |source| FileError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(read(e).into()),
    };
    let mut templates = Vec::new();
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let Some(name) = path.file_stem().filter(|_| path.extension().is_some_and(|e| e == "jinja")) else { continue };
        if let Some(template) = read_text(&path, MAX_SMALL_BYTES)? {
            templates.push((name.to_string_lossy().into_owned(), template));
        }
    }
    templates.sort();
    Ok(templates)
}

/// `chat_template` of a JSON file: a template, or a list of `{name, template}`.
fn from_json(file: &NamedObject) -> Result<Vec<(String, String)>, HfError> {
    let Some(value) = file.get().value(KEY) else { return Ok(Vec::new()) };
    let named = |entry: &Value| Some((entry["name"].as_str()?.to_string(), entry["template"].as_str()?.to_string()));
    let templates = match value {
        Value::String(template) => Some(vec![("default".to_string(), template.clone())]),
        Value::Array(entries) => entries.iter().map(named).collect(),
        _ => None,
    };
    templates.ok_or_else(|| {
        let expected = "a template or a list of objects with `name` and `template`";
        HfError::tokenizer(&file.path, KeyError::Wrong { key: KEY.into(), expected, found: describe(value) })
    })
}
