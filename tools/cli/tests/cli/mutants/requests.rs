//! What users ask for, and an adapter, without lies.

use std::path::Path;

use serde_json::{Value as Json, json};

pub const SCHEMAS: [&str; 4] = [
    r#"{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0}},"required":["name"],"additionalProperties":false}"#,
    r##"{"$defs":{"n":{"type":"object","properties":{"left":{"$ref":"#/$defs/n"},"value":{"enum":[1,"two",null]}}}},"$ref":"#/$defs/n"}"##,
    r#"{"type":"array","prefixItems":[{"type":"boolean"},{"const":{"a":1.5}}],"items":{"type":"number","multipleOf":0.5},"minItems":1,"maxItems":4}"#,
    r#"{"anyOf":[{"type":"string","pattern":"^[a-z]{1,3}(-[0-9]+)?$"},{"type":"string","format":"date-time"},{"type":"null"}]}"#,
];
pub const GRAMMARS: [&str; 3] = [
    "root ::= list\nlist ::= \"[\" ws (item (\",\" ws item)*)? \"]\" ws\nitem ::= [a-c]+ ws | list\nws ::= | \" \" | \"\\n\" [ \\t]{0,4}\n",
    "root ::= \"\\x41\\u00e9\" [^a-z\\n] . maybe?\nmaybe ::= (\"x\" |\n  \"y\"){2,3} # two\n",
    "%llguidance {}\nstart: \"a\" (NUMBER | list)\nlist: \"[\" (list (\",\" list)*)? \"]\"\nNUMBER: /[0-9]+/ & ~\"0\"\n",
];
pub const TEMPLATE: &str = "{% for m in messages %}{{ m.role ~ ': ' ~ (m.content or '')|trim }}\n{% endfor %}\
                        {% if tools %}{{ tools|tojson }}{% endif %}{% if add_generation_prompt %}assistant:{% endif %}";
pub fn tools() -> Json {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]});
    json!([
        {"type": "function", "function": {"name": "weather", "description": "Rain or sun", "parameters": parameters, "strict": true}},
        {"type": "function", "function": {"name": "now"}},
    ])
}

pub fn requests() -> Vec<Json> {
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let chat = json!({
        "messages": [message("system", "Be brief."), message("user", "Once")], "max_tokens": 3, "tools": tools(),
        "tool_choice": "auto", "response_format": {"type": "text"}, "stop": ["x", "y"], "logprobs": true, "top_logprobs": 2,
    });
    let completion = json!({
        "prompt": ["Once", [5, 6, 7]], "max_tokens": 3, "n": 2, "temperature": 1.5, "top_p": 0.9, "seed": 7,
        "logit_bias": {"5": -100, "6": 2.5}, "frequency_penalty": 0.5, "logprobs": 1, "echo": false,
    });
    let shaped = json!({
        "messages": [message("user", "Once")], "max_tokens": 4,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}},
    });
    let line = |id: &str, url: &str, body: Json| json!({"custom_id": id, "method": "POST", "url": url, "body": body});
    vec![
        line("a", "/v1/chat/completions", chat),
        line("b", "/v1/completions", completion),
        line("c", "/v1/chat/completions", shaped),
    ]
}

pub fn lines(requests: &[Json]) -> String {
    requests.iter().map(|request| format!("{request}\n")).collect()
}

/// One for tiny-llama3-bf16.
const ADAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/lora/two");

/// Writes a valid file of each kind.
pub fn write(dir: &Path) {
    let tools = tools().to_string();
    for (name, text) in [
        ("schema", SCHEMAS[0]),
        ("template", TEMPLATE),
        ("tools", tools.as_str()),
        ("lines", lines(&requests()[1..2]).as_str()),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
    }
    std::fs::create_dir(dir.join("lora")).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(format!("{ADAPTER}/{name}"), dir.join("lora").join(name)).unwrap();
    }
}
