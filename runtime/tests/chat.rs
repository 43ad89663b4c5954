//! Chat templates rendered here and by Hugging Face's `apply_chat_template` (see `tests/refs/template_reference.py`).

use std::path::{Path, PathBuf};

use quipu_runtime::chat::{ChatError, ChatTemplate, DateTime, Message, RenderOptions};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

#[derive(Deserialize)]
struct Reference {
    made_by: String,
    cases: Vec<Case>,
}

/// One rendering: exactly one of `text`, `refused` and `failed` is there.
#[derive(Deserialize)]
struct Case {
    template: String,
    name: String,
    messages: Vec<Message>,
    tools: Option<Json>,
    variables: Map<String, Json>,
    add_generation_prompt: bool,
    bos: Option<String>,
    eos: Option<String>,
    now: i64,
    text: Option<String>,
    refused: Option<String>,
    failed: Option<String>,
}

/// Renders every case with the templates in `templates`; returns what differs.
fn differences(templates: &Path, reference: &Reference) -> Vec<String> {
    let mut differences = Vec::new();
    for case in &reference.cases {
        let source = std::fs::read_to_string(templates.join(&case.template)).unwrap();
        let template = ChatTemplate::new(&source, case.bos.as_deref(), case.eos.as_deref()).unwrap();
        let options = RenderOptions::default()
            .tools(case.tools.clone())
            .add_generation_prompt(case.add_generation_prompt)
            .variables(case.variables.clone())
            .now(Some(DateTime::from_unix(case.now)));
        let difference = match (template.render(&case.messages, &options), case) {
            (Ok(got), Case { text: Some(want), .. }) => first_difference(&got, want),
            (Err(ChatError::Refused(got)), Case { refused: Some(want), .. }) => first_difference(&got, want),
            (Err(ChatError::Render(_)), Case { failed: Some(_), .. }) => None,
            (got, _) => Some(format!("got {got:?}, expected {:?}", (&case.text, &case.refused, &case.failed))),
        };
        differences.extend(difference.map(|d| format!("{}, {}: {d}", case.template, case.name)));
    }
    differences
}

fn first_difference(got: &str, want: &str) -> Option<String> {
    let (mut g, mut w) = (got.split('\n'), want.split('\n'));
    loop {
        match (g.next(), w.next()) {
            (None, None) => return None,
            (g, w) if g == w => {}
            (g, w) => return Some(format!("\n  got  {g:?}\n  want {w:?}")),
        }
    }
}

fn reference(path: &Path) -> Reference {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn templates_of_our_own_render_as_by_hugging_face() {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/templates");
    let reference = reference(&templates.join("expected.json"));
    assert!(reference.cases.len() > 90, "{} cases", reference.cases.len());
    let differences = differences(&templates, &reference);
    assert!(differences.is_empty(), "against {}:\n{}", reference.made_by, differences.join("\n"));
}

/// Llama 3.1, 3.2 and 3.3: their templates are not ours to ship, so both they and the reference may be missing.
#[test]
fn llama_templates_render_as_by_hugging_face() {
    let shared = std::env::var_os("QUIPU_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let templates = shared.join("data/templates");
    let references = std::env::var_os("QUIPU_REFS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/refs"), PathBuf::from);
    let path = references.join("templates.json");
    if !templates.is_dir() || !path.is_file() {
        println!("SKIPPED: {} or {} is missing", templates.display(), path.display());
        return;
    }
    let reference = reference(&path);
    for version in ["3.1", "3.2", "3.3"] {
        let count = reference.cases.iter().filter(|c| c.template.contains(version) && c.text.is_some()).count();
        assert!(count > 30, "{count} cases for Llama {version}");
    }
    let differences = differences(&templates, &reference);
    assert!(differences.is_empty(), "against {}:\n{}", reference.made_by, differences.join("\n"));
}

#[test]
fn messages_read_and_write_as_json() {
    let json = r#"{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"b":1,"a":2}}}]}"#;
    let message: Message = serde_json::from_str(json).unwrap();
    assert_eq!(message.content, Json::Null);
    assert_eq!(serde_json::to_string(&message).unwrap(), json);
}
