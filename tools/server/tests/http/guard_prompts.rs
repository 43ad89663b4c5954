//! The prompts of Llama Guard's own templates, as Hugging Face renders them (`tests/refs/guard_reference.py`).

use std::path::PathBuf;
use std::sync::Arc;

use quipu_runtime::chat::{ChatTemplate, Message, RenderOptions};
use quipu_server::model::Model;
use quipu_server::moderation::form::Form;
use quipu_server::moderation::moderator::{Moderator, ModeratorOptions, turns};
use quipu_server::moderation::policy::Policy;
use serde_json::Value as Json;

use crate::server::engine;

fn reference() -> Option<Json> {
    let path = PathBuf::from(std::env::var_os("QUIPU_REFS")?).join("guard.json");
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

#[test]
fn prompts_are_hugging_faces() {
    let Some(reference) = reference() else {
        return eprintln!(
            "SKIPPED: no guard.json in QUIPU_REFS (tests/refs/guard_reference.py makes it of Meta's templates)"
        );
    };
    let engine = engine();
    let cases = reference["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let template = reference["templates"][name].as_str().unwrap();
        let model = Arc::new(Model::of(&engine, vec![name.into()]).with_template(template).unwrap());
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let turns = turns(&messages, messages.len().is_multiple_of(2)).unwrap();
        let mut options = ModeratorOptions::default();
        if let Some(policy) = case["categories"].as_object() {
            let list: String =
                policy.iter().map(|(code, text)| format!("{code}: {}\n", text.as_str().unwrap())).collect();
            options.policy = Some(Policy::parse(&list).unwrap());
        }
        if let Some(codes) = case["excluded_category_keys"].as_array() {
            options.excluded = codes.iter().map(|code| code.as_str().unwrap().to_string()).collect();
        }
        let text = case["text"].as_str().unwrap();
        assert_eq!(Moderator::new(model, &options).unwrap().text(&turns).unwrap(), text, "{name}");

        // The form of the same generation asks the same. (The mark for the beginning comes with the tokens.)
        if name == "Llama-Guard-3-1B" {
            continue;
        }
        let policy = Policy::of_prompt(text).unwrap();
        let form = Form::of_policy(&policy);
        assert_eq!(Form::of_name(name, form != Form::One), Some(form));
        let variables = [("categories".to_string(), policy.variable())].into_iter().collect();
        let own = ChatTemplate::new(&form.template(), None, None).unwrap();
        let own = own.render(&turns, &RenderOptions::default().variables(variables)).unwrap();
        assert_eq!(own, text.strip_prefix(" <|begin_of_text|>").unwrap_or(text), "{name}");
    }
}
