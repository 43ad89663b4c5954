//! What the files beside tokenizer.json say: chat templates, and which tokens are special.

use quipu_formats::gguf::Metadata;
use quipu_formats::oddity::Oddity;
use quipu_formats::source::Source;
use serde_json::{Value, json};

use crate::build::*;

/// The metadata of `llama`, and what is odd.
fn read(llama: &Llama) -> (Metadata, Vec<Oddity>) {
    let (hf, _dir) = llama.open().unwrap();
    (hf.metadata().clone(), hf.oddities().to_vec())
}

fn template(m: &Metadata, name: &str) -> Option<String> {
    m.str_opt(&format!("tokenizer.chat_template{name}")).unwrap().map(str::to_string)
}

fn names(m: &Metadata) -> Vec<String> {
    let names = m.strings_opt("tokenizer.chat_templates").unwrap();
    names.map_or_else(Vec::new, |names| names.iter().map(String::from).collect())
}

#[test]
fn templates_from_every_place() {
    let main = |llama: &Llama| template(&read(llama).0, "");
    assert_eq!(main(&Llama::new()), None);
    let config = |t: Value| Llama::new().tokenizer_config(json!({"chat_template": t}));
    assert_eq!(main(&config(json!("A"))).as_deref(), Some("A"));
    let with_json = config(json!("A")).file("chat_template.json", r#"{"chat_template":"B"}"#);
    assert_eq!(main(&with_json).as_deref(), Some("B"));
    let with_jinja = with_json.file("chat_template.jinja", "C");
    assert_eq!(main(&with_jinja).as_deref(), Some("C"));
    let with_more = with_jinja
        .file("additional_chat_templates/tool use.jinja", "D")
        .file("additional_chat_templates/rag.jinja", "E")
        .file("additional_chat_templates/notes.txt", "F");
    let (m, oddities) = read(&with_more);
    let found = ["", ".tool_use", ".rag"].map(|name| template(&m, name).unwrap());
    assert_eq!(
        (found, names(&m)),
        (["C", "D", "E"].map(String::from), vec!["rag".to_string(), "tool_use".to_string()])
    );
    assert!(oddities.is_empty());
    let list = json!([{"name": "default", "template": "G"}, {"name": "tool_use", "template": "H"}]);
    let (m, _) = read(&config(list));
    let found = ["", ".tool_use"].map(|name| template(&m, name).unwrap());
    assert_eq!((found, names(&m)), (["G", "H"].map(String::from), vec!["tool_use".to_string()]));
}

/// As in transformers: further templates go before tokenizer_config.json even where there is no chat_template.jinja,
/// one that is called default is the default, and of one name the last counts. A GGUF has fewer names.
#[test]
fn templates_of_one_name() {
    let config = |t: Value| Llama::new().tokenizer_config(json!({"chat_template": t}));
    let more = config(json!("A")).file("additional_chat_templates/rag.jinja", "B");
    let (m, _) = read(&more);
    assert_eq!((template(&m, ""), template(&m, ".rag").as_deref()), (None, Some("B")));
    let (m, _) = read(&more.file("chat_template.jinja", "C").file("additional_chat_templates/default.jinja", "D"));
    assert_eq!((template(&m, "").as_deref(), template(&m, ".rag").as_deref()), (Some("D"), Some("B")));

    let entry = |name: &str, template: &str| json!({"name": name, "template": template});
    let (m, oddities) =
        read(&config(json!([entry("default", "A"), entry("rag", "B"), entry("default", "C"), entry("rag", "D")])));
    assert_eq!((template(&m, "").as_deref(), template(&m, ".rag").as_deref()), (Some("C"), Some("D")));
    assert!(oddities.is_empty());
    let (m, oddities) = read(&config(json!([entry("tool-use", "A"), entry("tool use", "B"), entry("tool_use", "C")])));
    assert_eq!((template(&m, ".tool_use").as_deref(), names(&m)), (Some("C"), vec!["tool_use".to_string()]));
    let odd = |name: &str| Oddity::TemplateName { name: name.into(), other: "tool_use".into() };
    assert_eq!(oddities, [odd("tool-use"), odd("tool use")]);
}

/// added_tokens.json does not say what is special, and tokenizer.json may not either.
#[test]
fn tokens_are_special_by_their_role() {
    const CONTROL: i32 = 3;
    const USER_DEFINED: i32 = 4;
    let older = || Llama::new().tokenizer_config(json!({})).file("added_tokens.json", r#"{"<|x|>": 18}"#);
    let ty = |llama: &Llama| {
        let (m, _) = read(llama);
        assert_eq!(m.strings_opt("tokenizer.ggml.tokens").unwrap().unwrap().iter().nth(18), Some("<|x|>"));
        m.i32s_opt("tokenizer.ggml.token_type").unwrap().unwrap()[18]
    };
    assert_eq!(ty(&older()), USER_DEFINED);
    for map in [
        r#"{"additional_special_tokens": ["<|y|>", "<|x|>"]}"#,
        r#"{"additional_special_tokens": [{"content": "<|x|>", "lstrip": false}]}"#,
        r#"{"extra_special_tokens": ["<|x|>"]}"#,
        r#"{"extra_special_tokens": {"image_token": "<|x|>"}}"#,
        r#"{"pad_token": "<|x|>"}"#,
        r#"{"eos_token": {"content": "<|x|>"}}"#,
    ] {
        assert_eq!(ty(&older().file("special_tokens_map.json", map)), CONTROL, "{map}");
    }
    assert_eq!(ty(&older().tokenizer_config(json!({"mask_token": "<|x|>"}))), CONTROL);
    // With a list of its own in tokenizer_config.json the older file is not asked.
    let newer = |special: bool| {
        let decoder = json!({"18": {"content": "<|x|>", "special": special}});
        Llama::new()
            .tokenizer_config(json!({"added_tokens_decoder": decoder}))
            .file("special_tokens_map.json", r#"{"pad_token": "<|x|>"}"#)
    };
    assert_eq!((ty(&newer(false)), ty(&newer(true))), (USER_DEFINED, CONTROL));

    let listed = || {
        Llama::new().tokenizer(|t| {
            t["added_tokens"].as_array_mut().unwrap().push(json!({"id": 18, "content": "<|x|>", "special": false}));
        })
    };
    let with = |config: Value| ty(&listed().tokenizer_config(config));
    assert_eq!(with(json!({})), USER_DEFINED);
    assert_eq!(with(json!({"pad_token": "<|x|>"})), CONTROL);
    assert_eq!(with(json!({"additional_special_tokens": ["<|x|>"]})), USER_DEFINED, "tokenizer.json says it is not");
}

/// In normalised text, unless they are special: so transformers adds what added_tokens.json has.
#[test]
fn older_added_tokens_are_normalised() {
    let exact = |map: &'static str| {
        let llama =
            Llama::new().tokenizer(|t| t["normalizer"] = json!({"type": "Lowercase"})).tokenizer_config(json!({}));
        let llama = llama.file("added_tokens.json", r#"{"<|X|>": 18}"#).file("special_tokens_map.json", map);
        let (m, _) = read(&llama);
        let list: Option<Value> =
            m.str_opt("quipu.tokenizer.added_tokens").unwrap().map(|json| serde_json::from_str(json).unwrap());
        list.map(|list| {
            list.as_array().unwrap().iter().find(|t| t["content"] == "<|X|>").unwrap()["normalized"].clone()
        })
    };
    assert_eq!(exact("{}"), Some(json!(true)));
    assert_eq!(exact(r#"{"pad_token": "<|X|>"}"#), None, "as GGUF's keys say");
}
