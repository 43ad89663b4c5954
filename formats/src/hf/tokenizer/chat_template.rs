//! Chat templates: one, or several by name.

use std::path::Path;

use serde_json::Value;

use super::special::NamedObject;
use crate::gguf::{Array, Metadata, Value as GgufValue};
use crate::hf::error::HfError;
use crate::hf::json::{FileError, KeyError, MAX_SMALL_BYTES, describe, read_json, read_text};

const KEY: &str = "chat_template";

/// Adds `tokenizer.chat_template` and, of templates with other names than `default`, `tokenizer.chat_template.NAME` and
/// their list `tokenizer.chat_templates`, as llama.cpp has them.
///
/// Of several places the first counts, in transformers' order: chat_template.jinja (with
/// additional_chat_templates/NAME.jinja), chat_template.json, tokenizer_config.json.
pub(super) fn add(metadata: &mut Metadata, dir: &Path, tokenizer_config: &NamedObject) -> Result<(), HfError> {
    let mut others = Vec::new();
    for (name, template) in find(dir, tokenizer_config)? {
        if name == "default" {
            metadata.set("tokenizer.chat_template", GgufValue::String(template));
            continue;
        }
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        metadata.set(format!("tokenizer.chat_template.{name}"), GgufValue::String(template));
        if !others.contains(&name) {
            others.push(name);
        }
    }
    if !others.is_empty() {
        metadata.set("tokenizer.chat_templates", GgufValue::Array(Array::String(others.into_iter().collect())));
    }
    Ok(())
}

/// Names and templates.
fn find(dir: &Path, tokenizer_config: &NamedObject) -> Result<Vec<(String, String)>, HfError> {
    let jinja = dir.join("chat_template.jinja");
    if let Some(template) = read_text(&jinja, MAX_SMALL_BYTES)? {
        let mut templates = vec![("default".to_string(), template)];
        templates.extend(additional(&dir.join("additional_chat_templates"))?);
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
