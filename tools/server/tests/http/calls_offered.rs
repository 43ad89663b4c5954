//! Calls that a model makes by itself, kept to what was declared. The models say what a script says: what they like
//! best is wrong, and what they like second is right.

use quipu_runtime::generate::Scheduler;
use quipu_runtime::{Engine, LoadOptions, TuningChoice};
use quipu_server::model::Model;
use quipu_server::models::library::{Library, Loaded};
use quipu_server::models::offer::Offer;
use quipu_server::options::{Address, ServerOptions};
use quipu_test_script::Script;
use serde_json::{Value as Json, json};

use crate::server::Running;

/// Roles and tools, a mark of how calls are written, and at the end what the script begins with.
fn template(mark: &str) -> String {
    format!(
        "{{% if tools %}}{mark}{{{{ tools | tojson }}}}{{% endif %}}{{% for m in messages %}}{{{{ m.content }}}}\n{{% endfor %}}<|answer|>"
    )
}

fn serve(mark: &str, pieces: &[&[&str]]) -> Running {
    let mut script = Script::new(&template(mark));
    script.says("<|answer|>", pieces);
    serve_script(&script)
}

/// A server with a model that says what a script says.
pub fn serve_script(script: &Script) -> Running {
    let file = tempfile::NamedTempFile::new().unwrap();
    script.write(file.path()).unwrap();
    let load = move |_: &Offer| {
        let options = LoadOptions::default().threads(1).tuning(TuningChoice::Defaults);
        let engine = Engine::load(quipu_runtime::open(file.path().to_str().unwrap()).unwrap(), &options, &|_, _| {});
        let engine = engine.unwrap();
        Ok(Loaded { model: Model::of(&engine, vec!["script".into()]), scheduler: Scheduler::new(engine) })
    };
    let mut options = ServerOptions::new(Address::Tcp([127, 0, 0, 1].into(), 0));
    options.drain = std::time::Duration::from_millis(200);
    Running::of(options, Library::new([Offer::new(vec!["script".into()], "script")], load))
}

/// The message with which a model answers if it has tools, or has none.
fn ask(server: &Running, tools: bool, more: Json) -> (Json, Json) {
    let days = json!({"type": "integer", "minimum": 1, "maximum": 9});
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": days}, "required": ["city", "days"]});
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": schema}}])
        .as_array()
        .filter(|_| tools)
        .cloned();
    let mut body = json!({"messages": [{"role": "user", "content": "How is it?"}], "tools": tools, "temperature": 0, "max_tokens": 300});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let choice = server.post("/v1/chat/completions", &body).ok()["choices"][0].clone();
    (choice["message"].clone(), choice["finish_reason"].clone())
}

fn call(message: &Json) -> (&str, Json) {
    let [call] = &message["tool_calls"].as_array().unwrap_or_else(|| panic!("{message}"))[..] else {
        panic!("{message}")
    };
    let arguments = call["function"]["arguments"].as_str().unwrap();
    (call["function"]["name"].as_str().unwrap(), serde_json::from_str(arguments).unwrap())
}

#[test]
fn a_call_is_kept_to_what_was_declared() {
    let server = serve(
        "<tool_call>",
        &[
            &["Let me see.\n"],
            &["<tool_call>"],
            &["\n{\"name\": \""],
            &["get_wether", "get_weather"],
            &["\", \"arguments\": {\"city\": \""],
            &["Lima"],
            &["\", \"days\": "],
            &["\"three\"", "12", "3"],
            &["}}"],
            &["\n</tool_call>"],
        ],
    );
    let (message, finish) = ask(&server, true, json!({}));
    assert_eq!((&message["content"], finish), (&json!("Let me see.\n"), json!("tool_calls")));
    assert_eq!(call(&message), ("get_weather", json!({"city": "Lima", "days": 3})));
    // Without tools the model says what it likes.
    let (message, finish) = ask(&server, false, json!({}));
    let said = "Let me see.\n<tool_call>\n{\"name\": \"get_wether\", \"arguments\": {\"city\": \"Lima\", \"days\": \"three\"}}\n</tool_call>";
    assert_eq!((&message["content"], finish), (&json!(said), json!("stop")));
    let (message, _) = ask(&server, true, json!({"tool_choice": "none"}));
    assert_eq!(message["content"], said);
    // A demanded call has no text before it.
    let (message, _) = ask(&server, true, json!({"tool_choice": "required", "parallel_tool_calls": false}));
    let name = &message["tool_calls"][0]["function"]["name"];
    assert!(message["content"].is_null() && *name == "get_weather", "{message}");
}

#[test]
fn llama_3_calls_without_a_mark() {
    let pieces: &[&[&str]] = &[
        &["{\"name\": \""],
        &["get_weather"],
        &["\", \"parameters\": {\"city\": \"Lima\", \"days\": "],
        &["0", "7"],
        &["}}"],
    ];
    let (message, _) = ask(&serve("", pieces), true, json!({}));
    assert_eq!(call(&message), ("get_weather", json!({"city": "Lima", "days": 7})));
    // What names no tool is no call.
    let pieces: &[&[&str]] = &[&["{\"name\": \""], &["Ada"], &["\", \"parameters\": "], &["0", "{}"], &["}"]];
    let server = serve("", pieces);
    let (message, finish) = ask(&server, true, json!({}));
    assert_eq!((&message["content"], finish), (&json!("{\"name\": \"Ada\", \"parameters\": 0}"), json!("stop")));
}

#[test]
fn what_is_thought_calls_nothing() {
    let pieces: &[&[&str]] = &[&["<think>"], &["Is <tool_call>"], &[" 7 right?"], &["</think>"], &["No."]];
    let (message, finish) = ask(&serve("<tool_call>", pieces), true, json!({}));
    assert_eq!(
        (&message["content"], &message["reasoning_content"]),
        (&json!("No."), &json!("Is <tool_call> 7 right?"))
    );
    assert_eq!(finish, "stop");
}

/// An answer that is to be JSON is that, or a call.
#[test]
fn a_shape_and_tools() {
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"sky": {"enum": ["blue"]}}, "required": ["sky"]}}});
    let asked = json!({"response_format": format, "parallel_tool_calls": false});
    let calls: &[&[&str]] = &[
        &["Well, ", "<tool_call>"],
        &["\n{\"name\": \"get_weather\", \"arguments\": "],
        &["{\"city\": \"Lima\", \"days\": "],
        &["3"],
        &["}}\n</tool_call>"],
    ];
    let server = serve("<tool_call>", calls);
    assert_eq!(call(&ask(&server, true, asked.clone()).0), ("get_weather", json!({"city": "Lima", "days": 3})));
    let (message, _) =
        ask(&server, true, json!({"response_format": format, "parallel_tool_calls": false, "tool_choice": "required"}));
    assert_eq!(call(&message).0, "get_weather");
    let says: &[&[&str]] = &[&["Well, ", "{\"sky\": \""], &["grey", "blue"], &["\"}"]];
    let (message, finish) = ask(&serve("<tool_call>", says), true, asked);
    assert_eq!((&message["content"], finish), (&json!("{\"sky\": \"blue\"}"), json!("stop")));
}

/// The demo model, which has learnt of no tools, writes what it writes without a grammar, whatever is drawn.
#[test]
fn nothing_else_changes() {
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]);
    let ask = json!([{"role": "user", "content": "Tell me of the old king."}]);
    let server = crate::server::shared();
    let prompt = server.post("/apply-template", &json!({"messages": ask, "tools": tools})).ok()["prompt"].clone();
    for seed in 0..6 {
        let body =
            json!({"messages": ask, "tools": tools, "seed": seed, "temperature": 1.5, "top_k": 0, "max_tokens": 40});
        let message = server.post("/v1/chat/completions", &body).ok()["choices"][0]["message"].clone();
        let body = json!({"prompt": prompt, "seed": seed, "temperature": 1.5, "top_k": 0, "n_predict": 40});
        let free = server.post("/completion", &body).ok();
        assert_eq!(message["content"], free["content"], "{seed}");
    }
}
