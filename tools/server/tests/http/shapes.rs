//! Answers with a shape, in every dialect.

use serde_json::{Value as Json, json};

use crate::server::shared;

fn schema() -> Json {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "kind": {"enum": ["king", "miller", null]},
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": false,
    })
}

/// Whether it is valid against the schema.
fn is_valid(text: &str) -> bool {
    let Ok(Json::Object(map)) = serde_json::from_str(text) else { return false };
    let name = map.get("name").and_then(Json::as_str).is_some_and(|name| name.chars().count() <= 12);
    let age = map.get("age").and_then(Json::as_i64).is_some_and(|age| (0..=130).contains(&age));
    name && age && map.len() == 3 && [json!("king"), json!("miller"), Json::Null].contains(&map["kind"])
}

fn messages() -> Json {
    json!([{"role": "user", "content": "Who lived in the mill?"}])
}

#[test]
fn every_dialect_keeps_to_a_schema() {
    let format = json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": schema()}});
    let flat = json!({"type": "json_schema", "name": "person", "schema": schema()});
    let cases: [(&str, Json, &str); 10] = [
        (
            "/v1/chat/completions",
            json!({"messages": messages(), "response_format": format}),
            "/choices/0/message/content",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": messages(), "guided_json": schema()}),
            "/choices/0/message/content",
        ),
        ("/v1/completions", json!({"prompt": "A", "structured_outputs": {"json": schema()}}), "/choices/0/text"),
        (
            "/v1/completions",
            json!({"prompt": "A", "response_format": {"type": "json_object", "schema": schema()}}),
            "/choices/0/text",
        ),
        ("/v1/responses", json!({"input": "Who?", "text": {"format": flat}}), "/output/0/content/0/text"),
        ("/v1/messages", json!({"messages": messages(), "output_config": {"format": flat}}), "/content/0/text"),
        ("/api/chat", json!({"messages": messages(), "format": schema(), "stream": false}), "/message/content"),
        ("/api/generate", json!({"prompt": "A", "raw": true, "format": schema(), "stream": false}), "/response"),
        ("/completion", json!({"prompt": "A", "json_schema": schema()}), "/content"),
        ("/completion", json!({"prompt": "A", "json_schema": schema().to_string()}), "/content"),
    ];
    for (path, mut body, place) in cases {
        for (name, value) in [("seed", json!(3)), ("temperature", json!(1.5))] {
            let options = if path.starts_with("/api") { &mut body["options"] } else { &mut body };
            options[name] = value;
        }
        let most = if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" };
        if !path.starts_with("/api") {
            body[most] = 200.into();
        }
        let answer = shared().post(path, &body).ok();
        let text = answer.pointer(place).and_then(Json::as_str).unwrap_or_else(|| panic!("{path}: {answer}"));
        assert!(is_valid(text), "{path} {body}: {text}");
    }
}

#[test]
fn a_stream_and_several_choices_keep_to_it_and_what_is_cut_says_length() {
    let mut body = json!({"prompt": "A", "response_format": {"type": "json_object", "schema": schema()}, "n": 3, "max_tokens": 200, "seed": 1});
    let answer = shared().post("/v1/completions", &body).ok();
    let texts: Vec<String> = (0..3).map(|i| answer["choices"][i]["text"].as_str().unwrap().to_string()).collect();
    assert!(texts.iter().all(|text| is_valid(text)), "{texts:?}");
    body["stream"] = true.into();
    let mut streamed = vec![String::new(); 3];
    for event in shared().post("/v1/completions", &body).events() {
        let Ok(piece) = serde_json::from_str::<Json>(&event) else { continue };
        for choice in piece["choices"].as_array().unwrap() {
            streamed[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap_or_default();
        }
    }
    assert_eq!(streamed, texts);
    body["max_tokens"] = 4.into();
    body["stream"] = false.into();
    let answer = shared().post("/v1/completions", &body).ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[test]
fn grammars_regular_expressions_and_choices() {
    let ask = |fields: Json| {
        let mut body = json!({"prompt": "A", "max_tokens": 40, "seed": 2});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        shared().post("/v1/completions", &body).ok()["choices"][0]["text"].as_str().unwrap().to_string()
    };
    let gbnf = "root ::= (\"yes\" | \"no\") \"!\"{1,3}";
    for fields in
        [json!({"grammar": gbnf}), json!({"guided_grammar": gbnf}), json!({"structured_outputs": {"grammar": gbnf}})]
    {
        let text = ask(fields);
        assert!(["yes", "no"].contains(&text.trim_end_matches('!')) && (3..=6).contains(&text.len()), "{text}");
    }
    let lark = "%llguidance {}\nstart: \"a\" /[0-9]/ \"b\"";
    assert!(ask(json!({"grammar": lark})).starts_with('a'));
    let text = ask(json!({"guided_regex": "[a-c]{3}-[0-9]"}));
    assert!(text.len() == 5 && text.as_bytes()[3] == b'-', "{text}");
    assert!(["red", "green"].contains(&ask(json!({"guided_choice": ["red", "green"]})).as_str()));
}

#[test]
fn what_cannot_be_kept_to_is_refused_by_its_name() {
    let chat = |format: Json| ("/v1/chat/completions", json!({"messages": messages(), "response_format": format}));
    let of = |schema: Json| json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    for ((path, body), param, word) in [
        (
            chat(of(json!({"items": {"uniqueItems": true}}))),
            "response_format.json_schema.schema",
            "#/items/uniqueItems",
        ),
        (chat(of(json!({"$ref": "http://example.org/x"}))), "response_format.json_schema.schema", "leads out"),
        (chat(of(json!({"type": "string", "format": "phone"}))), "response_format.json_schema.schema", "#/format"),
        (
            chat(json!({"type": "json_schema", "json_schema": {"name": "x"}})),
            "response_format.json_schema.schema",
            "needed",
        ),
        (chat(json!({"type": "xml"})), "response_format.type", "json_object"),
        (("/completion", json!({"prompt": "x", "grammar": "root ::= (\"a\""})), "grammar", "line 1"),
        (("/completion", json!({"prompt": "x", "grammar": "root ::= \"a\"", "json_schema": {}})), "", ""),
        (
            ("/completion", json!({"prompt": "x", "grammar": "root ::= \"a\"", "json_schema": {"type": "null"}})),
            "grammar",
            "together",
        ),
        (("/v1/completions", json!({"prompt": "x", "guided_regex": "(a"})), "guided_regex", "regular expression"),
        (
            ("/v1/completions", json!({"prompt": "x", "structured_outputs": {"structural_tag": {}}})),
            "structured_outputs.structural_tag",
            "not supported",
        ),
        (
            ("/v1/responses", json!({"input": "x", "text": {"format": {"type": "json_schema"}}})),
            "text.format.json_schema",
            "needed",
        ),
    ] {
        let response = shared().post(path, &body);
        if param.is_empty() {
            // An empty schema asks for nothing.
            assert_eq!(response.status, 200);
            continue;
        }
        let error = &response.json()["error"];
        assert_eq!((response.status, error["param"].as_str()), (400, Some(param)), "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    let refused = shared().post("/api/chat", &json!({"messages": messages(), "format": "xml"}));
    assert!(refused.status == 400 && refused.json()["error"].as_str().unwrap().contains("format"));
}
