//! What agents send: the fields of real requests (Codex 0.171, Claude Code 2.1.197), with words of our own. The model
//! calls the tool that an agent offers, and after its result says that it is done.

use serde_json::{Value as Json, json};

use crate::calls_offered::serve_script;
use crate::server::Running;
use quipu_test_script::Script;

/// A template that is as strict as Mistral's: one system's message, turns, ids of nine letters and digits. It has each
/// message said, so that nothing goes missing.
const STRICT: &str = "{# tools <tool_call> #}{% set ns = namespace(turn='user') %}{% for m in messages %}\
    {% if m.role == 'system' and not loop.first %}{{ raise_exception('the system speaks first') }}{% endif %}\
    {% if m.role in ['user', 'assistant'] %}{% if m.role != ns.turn %}{{ raise_exception('it is not your turn') }}{% endif %}\
    {% set ns.turn = 'assistant' if m.role == 'user' else 'user' %}{% endif %}\
    {% if m.role == 'tool' %}{% set ns.turn = 'assistant' %}\
    {% if m.tool_call_id|length != 9 %}{{ raise_exception('nine') }}{% endif %}{% endif %}{{ m.content }}{% endfor %}\
    {% if messages[-1].role == 'tool' %}<|told|>{% else %}<|asked|>{% endif %}";

fn agent(tool: &str, argument: &str) -> Running {
    let mut script = Script::new(STRICT);
    let arguments = format!("\", \"arguments\": {{\"{argument}\": \"ls\"");
    let call: &[&[&str]] = &[
        &["I will look."],
        &["\n<tool_call>"],
        &["\n{\"name\": \""],
        &["nothing", tool],
        &[&arguments],
        &["}}"],
        &["\n</tool_call>"],
    ];
    script.says("<|asked|>", call);
    script.says("<|told|>", &[&["It is done."]]);
    serve_script(&script)
}

fn events(server: &Running, path: &str, body: &Json) -> Vec<Json> {
    let response = server.post(path, body);
    assert_eq!(response.status, 200, "{}", response.text());
    let data = |line: &str| serde_json::from_str(line.strip_prefix("data: ")?).ok();
    response.text().lines().filter_map(data).collect()
}

#[test]
fn codex() {
    let server = agent("exec_command", "cmd");
    let text = |role: &str, id: &str, texts: &[&str]| {
        let parts: Vec<Json> = texts.iter().map(|text| json!({"type": "input_text", "text": text})).collect();
        json!({"type": "message", "id": id, "role": role, "content": parts})
    };
    let cmd = json!({"type": "object", "properties": {"cmd": {"type": "string", "description": "What runs."}, "wait_ms": {"type": "number"}}, "required": ["cmd"], "additionalProperties": false});
    let function = |name: &str, parameters: &Json| json!({"type": "function", "name": name, "description": "It.", "strict": false, "parameters": parameters});
    let mut body = json!({
        "model": "script",
        "stream": true,
        "input": [
            text("developer", "msg_01", &["You work in a terminal."]),
            text("developer", "msg_02", &["Ask for nothing.", "Be brief."]),
            text("user", "msg_03", &["<place>/home</place>"]),
            text("user", "msg_04", &["What is here?"]),
        ],
        "tools": [
            function("exec_command", &cmd),
            function("look", &json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false})),
            {"type": "namespace", "name": "others", "description": "Others.", "tools": [function("spawn", &cmd)]},
            {"type": "web_search", "external_web_access": true},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "reasoning": {"summary": "auto"},
        "store": false,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0123",
        "client_metadata": {"session_id": "0123", "turn": "{\"kind\":\"turn\"}"},
        "temperature": 0,
    });
    let told = events(&server, "/v1/responses", &body);
    let response = &told.last().unwrap()["response"];
    let output = response["output"].as_array().unwrap();
    assert!(response["status"] == "completed" && output.len() == 2, "{response}");
    assert_eq!((&output[1]["name"], &output[1]["arguments"]), (&json!("exec_command"), &json!("{\"cmd\":\"ls\"}")));
    // What was said and called comes back as it was, and the result after it.
    let result = json!({"type": "function_call_output", "call_id": output[1]["call_id"], "output": "Exit code: 0\nOutput:\nfile"});
    let input = body["input"].as_array_mut().unwrap();
    input.extend(output.iter().cloned());
    input.push(result);
    let told = events(&server, "/v1/responses", &body);
    let response = &told.last().unwrap()["response"];
    assert_eq!(response["output"][0]["content"][0]["text"], "It is done.", "{response}");
}

#[test]
fn claude_code() {
    let server = agent("Bash", "command");
    let kept = json!({"type": "ephemeral"});
    let command = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {
        "command": {"type": "string", "description": "What runs."}, "timeout": {"type": "number"}}, "required": ["command"], "additionalProperties": false});
    let limits = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {
        "url": {"type": "string", "format": "uri"}, "lines": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991i64},
        "state": {"anyOf": [{"type": "string", "enum": ["open"]}, {"type": "string", "const": "gone"}]}, "all": {"type": "boolean", "default": false}},
        "required": ["url"], "additionalProperties": false});
    let tool = |name: &str, schema: &Json| json!({"name": name, "description": "It.", "input_schema": schema});
    let mut body = json!({
        "model": "script",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "<hint>Today.</hint>"}, {"type": "text", "text": "What is here?", "cache_control": kept}]},
            {"role": "system", "content": "There are agents, too."},
        ],
        "system": [{"type": "text", "text": "billing: 1"}, {"type": "text", "text": "You work in a terminal.", "cache_control": kept}],
        "tools": [tool("Bash", &command), tool("Fetch", &limits)],
        "metadata": {"user_id": "{\"session\":\"0123\"}"},
        "max_tokens": 32000,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": true,
    });
    // The sampler's default would do, but the script is to be followed.
    body["temperature"] = 0.into();
    let told = events(&server, "/v1/messages?beta=true", &body);
    let find = |kind: &str| told.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    let call = find("content_block_start").last().unwrap()["content_block"].clone();
    let input: String = told.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(
        (&call["type"], &call["name"], input.as_str()),
        (&json!("tool_use"), &json!("Bash"), "{\"command\":\"ls\"}")
    );
    assert_eq!(find("message_delta")[0]["delta"]["stop_reason"], "tool_use");
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": [
        {"type": "text", "text": "I will look."}, {"type": "tool_use", "id": call["id"], "name": "Bash", "input": {"command": "ls"}}]}));
    messages.push(json!({"role": "user", "content": [
        {"tool_use_id": call["id"], "type": "tool_result", "content": "file", "is_error": false, "cache_control": kept}]}));
    let told = events(&server, "/v1/messages?beta=true", &body);
    let text: String = told.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "It is done.");
    body.as_object_mut().unwrap().retain(|name, _| !["max_tokens", "stream"].contains(&name.as_str()));
    let count = server.post("/v1/messages/count_tokens?beta=true", &body).ok()["input_tokens"].as_u64().unwrap();
    // Everybody has been heard.
    assert!(count > "billing: 1You work in a terminal.There are agents, too.What is here?file".len() as u64, "{count}");
}
