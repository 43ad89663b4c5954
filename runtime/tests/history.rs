//! Calls of tools in the templates of Llama 3.1 to 3.3, which refuse several in one message.

use std::path::PathBuf;

use quipu_runtime::chat::answer::Tool;
use quipu_runtime::chat::{ChatError, ChatTemplate, DateTime, Message, RenderOptions, history};
use serde_json::{Value as Json, json};

fn conversation() -> Vec<Message> {
    let call = |id: &str, city: &str| json!({"id": id, "type": "function", "function": {"name": "get_weather", "arguments": {"city": city}}});
    let mut calls = Message::new("assistant", "");
    calls.content = Json::Null;
    calls.extra.insert("tool_calls".into(), json!([call("a", "Lima"), call("b", "Cusco")]));
    let result = |id: &str, text: &str| {
        let mut message = Message::new("tool", text);
        message.extra.insert("tool_call_id".into(), id.into());
        message
    };
    vec![Message::new("user", "How is it?"), calls, result("b", "fog"), result("a", "sun")]
}

#[test]
fn llama_takes_one_call_after_the_other() {
    let Some(shared) = std::env::var_os("QUIPU_SHARED") else {
        return println!("SKIPPED: QUIPU_SHARED leads to no templates");
    };
    let tool = Tool {
        name: "get_weather".into(),
        description: None,
        parameters: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
        strict: false,
    };
    let now = DateTime { year: 2024, month: 7, day: 26, hour: 12, minute: 0, second: 0 };
    let mut seen = 0;
    for entry in PathBuf::from(shared).join("data/templates").read_dir().unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let template = ChatTemplate::new(&source, Some("<|begin_of_text|>"), Some("<|eot_id|>")).unwrap();
        let (messages, tools) = history::fitted(&template, &conversation(), std::slice::from_ref(&tool));
        assert_eq!(messages, conversation(), "it knows tools");
        let options = RenderOptions::default().tools(tools).add_generation_prompt(true).now(now);
        assert!(matches!(template.render(&messages, &options), Err(ChatError::Refused(_))));
        let split = history::one_call_each(&messages).unwrap();
        let text = template.render(&split, &options).unwrap();
        let place = |word: &str| text.rfind(word).unwrap_or_else(|| panic!("{word} is not in {text}"));
        let order = [place("How is it?"), place("\"Lima\""), place("sun"), place("\"Cusco\""), place("fog")];
        assert!(order.is_sorted(), "{text}");
        seen += 1;
    }
    assert!(seen > 0);
}
