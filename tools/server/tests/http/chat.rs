//! Conversations, in all dialects: the same prompt gives the same text in each of them.

use quipu_runtime::chat::{ChatTemplate, Message, RenderOptions};
use quipu_runtime::generate::{GenerateOptions, Request, Scheduler};
use quipu_runtime::sampler::SamplerOptions;
use serde_json::{Value as Json, json};

use crate::client::Response;
use crate::server::{TEMPLATE, engine, shared};

const SEED: u64 = 7;
const TOKENS: usize = 24;

/// What the runtime alone answers.
fn alone(messages: &[Message]) -> String {
    let engine = engine();
    let template = ChatTemplate::for_tokenizer(TEMPLATE, engine.tokenizer()).unwrap();
    let render = RenderOptions::default().add_generation_prompt(true);
    let tokens = template.prompt(engine.tokenizer(), messages, &render, false).unwrap();
    let options = GenerateOptions::new(SamplerOptions::default().seed(SEED)).max_tokens(TOKENS);
    Scheduler::new(engine).complete(Request::new(tokens, options)).unwrap().0
}

fn conversation() -> [Message; 4] {
    [("system", "Be kind."), ("user", "Tell me a tale."), ("assistant", "Once."), ("user", "And <|eot_id|> then?")]
        .map(|(role, text)| Message::new(role, text))
}

fn events(response: &Response) -> Vec<(String, Json)> {
    assert_eq!(response.status, 200, "{}", response.text());
    let text = response.text().strip_suffix("\n\n").unwrap();
    let event = |event: &str| {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Json = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap().to_string();
        assert_eq!(data["type"], name);
        (name, data)
    };
    text.split("\n\n").map(event).collect()
}

fn names(events: &[(String, Json)]) -> Vec<&str> {
    let mut names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    names
}

#[test]
fn openai() {
    let expected = alone(&conversation());
    let body =
        json!({"messages": conversation(), "seed": SEED, "max_tokens": TOKENS, "logprobs": true, "top_logprobs": 2});
    let answer = shared().post("/v1/chat/completions", &body).ok();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"], json!({"role": "assistant", "content": expected}));
    assert_eq!(choice["logprobs"]["content"].as_array().unwrap().len(), TOKENS);
    assert_eq!(choice["logprobs"]["content"][0]["top_logprobs"].as_array().unwrap().len(), 2);

    let mut stream = body;
    stream["stream"] = true.into();
    stream["n"] = 2.into();
    let mut events = shared().post("/v1/chat/completions", &stream).events();
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let mut texts = [String::new(), String::new()];
    let mut roles = 0;
    let mut tokens = 0;
    for event in &events {
        let piece: Json = serde_json::from_str(event).unwrap();
        let choice = &piece["choices"][0];
        if choice["delta"]["role"] == "assistant" {
            assert!(choice["delta"]["content"].is_null() && roles < 2);
            roles += 1;
        } else if choice["finish_reason"].is_null() {
            let text = choice["delta"]["content"].as_str().unwrap();
            assert!(!text.is_empty());
            texts[choice["index"].as_u64().unwrap() as usize] += text;
            tokens += choice["logprobs"]["content"].as_array().map_or(0, Vec::len);
        } else {
            assert_eq!((&choice["delta"], &choice["finish_reason"]), (&json!({}), &json!("length")));
        }
    }
    assert_eq!((texts[0].as_str(), roles, tokens), (expected.as_str(), 2, 2 * TOKENS));
    assert_ne!(texts[0], texts[1]);
}

/// From what was known already to the whole prompt.
#[test]
fn a_stream_tells_how_far_the_prompt_is_read() {
    let messages = json!([{"role": "user", "content": "The king went to the mill. ".repeat(50)}]);
    let body = json!({"messages": messages, "max_tokens": 2, "stream": true, "return_progress": true});
    let events = shared().post("/v1/chat/completions", &body).events();
    let pieces = events[..events.len() - 1].iter().map(|event| serde_json::from_str::<Json>(event).unwrap());
    let progress: Vec<Json> = pieces.map(|piece| piece["prompt_progress"].clone()).filter(|p| !p.is_null()).collect();
    let number = |p: &Json, name: &str| p[name].as_u64().unwrap();
    let read: Vec<u64> = progress.iter().map(|p| number(p, "processed")).collect();
    assert_eq!(read[0], number(&progress[0], "cache"));
    assert!(read.len() > 1 && read.is_sorted() && *read.last().unwrap() == number(&progress[0], "total"), "{read:?}");
}

#[test]
fn anthropic() {
    let expected = alone(&conversation());
    let [system, rest @ ..] = conversation();
    let body = json!({
        "system": [{"type": "text", "text": system.content, "cache_control": {"type": "ephemeral"}}],
        "messages": rest, "seed": SEED, "max_tokens": TOKENS,
    });
    let answer = shared().post("/v1/messages", &body).ok();
    assert_eq!(answer["content"], json!([{"type": "text", "text": expected}]));
    assert_eq!((&answer["stop_reason"], &answer["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(TOKENS)));
    let count = shared().post("/v1/messages/count_tokens?beta=true", &body).ok();
    let usage = |name: &str| answer["usage"][name].as_u64().unwrap();
    assert_eq!(count["input_tokens"], usage("input_tokens") + usage("cache_read_input_tokens"));

    let mut stream = body.clone();
    stream["stream"] = true.into();
    let events = events(&shared().post("/v1/messages", &stream));
    let order = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names(&events), order);
    let deltas = events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str());
    assert_eq!(deltas.collect::<String>(), expected);

    let mut stopping = body.clone();
    let stop = &expected[4..9];
    stopping["stop_sequences"] = json!(["never this", stop]);
    let answer = shared().post("/v1/messages", &stopping).ok();
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));
    assert_eq!(answer["content"][0]["text"], expected[..expected.find(stop).unwrap()]);

    for (name, value) in [("messages", json!([])), ("max_tokens", json!("1")), ("tools", json!([{"name": 1}]))] {
        let mut wrong = body.clone();
        wrong[name] = value;
        let refused = shared().post("/v1/messages", &wrong);
        let error = refused.json();
        assert_eq!(
            (refused.status, &error["type"], &error["error"]["type"]),
            (400, &json!("error"), &json!("invalid_request_error"))
        );
        assert!(error["error"]["message"].as_str().unwrap().contains(name));
    }
}

#[test]
fn ollama() {
    let expected = alone(&conversation());
    let options = json!({"seed": SEED, "num_predict": TOKENS, "num_ctx": 2048});
    let body = json!({"model": "demo", "messages": conversation(), "options": options, "stream": false});
    let answer = shared().post("/api/chat", &body).ok();
    assert_eq!(answer["message"], json!({"role": "assistant", "content": expected}));
    assert_eq!(
        (&answer["done"], &answer["done_reason"], &answer["eval_count"]),
        (&json!(true), &json!("length"), &json!(TOKENS))
    );

    let mut stream = body;
    stream.as_object_mut().unwrap().remove("stream");
    let response = shared().post("/api/chat", &stream);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/x-ndjson")));
    let lines: Vec<Json> = response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts = lines.iter().map(|line| line["message"]["content"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), expected);
    assert!(lines.iter().rev().skip(1).all(|line| line["done"] == false));
    assert_eq!(lines.last().unwrap()["eval_count"], TOKENS);

    let prompt = [Message::new("system", "Be kind."), Message::new("user", "Tell me a tale.")];
    let body = json!({"model": "demo", "system": "Be kind.", "prompt": "Tell me a tale.", "options": options, "stream": false});
    assert_eq!(shared().post("/api/generate", &body).ok()["response"], alone(&prompt));
    let raw = json!({"model": "demo", "raw": true, "prompt": "The old king", "options": options, "stream": false});
    let plain = json!({"prompt": "The old king", "seed": SEED, "max_tokens": TOKENS});
    let plain = shared().post("/v1/completions", &plain).ok();
    assert_eq!(shared().post("/api/generate", &raw).ok()["response"], plain["choices"][0]["text"]);
    let load = shared().post("/api/chat", &json!({"model": "demo"})).ok();
    assert_eq!((&load["done"], &load["done_reason"]), (&json!(true), &json!("load")));

    assert_eq!(shared().get("/api/tags").ok()["models"][0]["name"], "demo");
    assert_eq!(shared().get("/api/ps").ok()["models"][0]["context_length"], crate::server::CONTEXT);
    assert_eq!(shared().post("/api/show", &json!({"name": "demo"})).ok()["template"], TEMPLATE);
    assert!(shared().get("/api/version").ok()["version"].is_string());
    assert_eq!(shared().get("/").text(), "Ollama is running");
    let refused = shared().post("/api/chat", &json!({"messages": [{"role": "user", "content": "x"}], "format": "xml"}));
    assert_eq!(refused.status, 400);
    assert!(refused.json()["error"].as_str().unwrap().contains("format"));
    let refused = shared().post("/api/pull", &json!({"name": "../../x"}));
    assert!(refused.status == 403 && refused.json()["error"].as_str().unwrap().contains("can allow it"));
}

#[test]
fn responses() {
    let expected = alone(&conversation());
    let input: Vec<Json> = conversation()[1..].iter().map(|m| json!({"role": m.role, "content": m.content})).collect();
    let body = json!({"instructions": "Be kind.", "input": input, "seed": SEED, "max_output_tokens": TOKENS, "include": [], "tools": []});
    let answer = shared().post("/v1/responses", &body).ok();
    assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(answer["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(answer["output"][0]["content"][0]["text"], expected);

    let mut stream = body;
    stream["stream"] = true.into();
    let events = events(&shared().post("/v1/responses", &stream));
    let order = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ];
    assert_eq!(names(&events), order.map(|name| format!("response.{name}")));
    let numbers: Vec<u64> = events.iter().map(|(_, data)| data["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let deltas = events.iter().filter_map(|(_, data)| data["delta"].as_str());
    assert_eq!(deltas.collect::<String>(), expected);
    let done = &events.last().unwrap().1["response"];
    assert_eq!(
        (&done["output"][0]["content"][0]["text"], &done["usage"]["output_tokens"]),
        (&json!(expected), &json!(TOKENS))
    );

    let kept = shared().post("/v1/responses", &json!({"input": "x", "previous_response_id": "resp_1"}));
    assert_eq!((kept.status, &kept.json()["error"]["param"]), (400, &json!("previous_response_id")));
}

/// An assistant's message at the end is gone on with.
#[test]
fn an_answer_that_has_begun_goes_on() {
    let messages =
        json!([{"role": "user", "content": "Tell me a tale."}, {"role": "assistant", "content": "Once upon a time"}]);
    let body = json!({"messages": messages, "temperature": 0, "max_tokens": 8});
    let goes_on = shared().post("/v1/chat/completions", &body).ok();
    let mut begins = body.clone();
    begins["continue_final_message"] = false.into();
    assert_ne!(shared().post("/v1/chat/completions", &begins).ok()["choices"], goes_on["choices"]);
    let mut both = body;
    (both["continue_final_message"], both["add_generation_prompt"]) = (true.into(), true.into());
    assert_eq!(shared().post("/v1/chat/completions", &both).status, 400);
    let prompt =
        shared().post("/apply-template", &json!({"messages": [{"role": "user", "content": "Tell me a tale."}]})).ok();
    let prompt = prompt["prompt"].as_str().unwrap();
    let plain = json!({"prompt": format!("{prompt}Once upon a time"), "temperature": 0, "max_tokens": 8});
    let plain = shared().post("/v1/completions", &plain).ok();
    assert_eq!(plain["choices"][0]["text"], goes_on["choices"][0]["message"]["content"]);
}

#[test]
fn what_is_wrong_with_a_conversation_is_named() {
    let message = |message: Json| json!({"messages": [message], "max_tokens": 1});
    for (body, name) in [
        (json!({}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "x"}), "messages"),
        (json!({"messages": vec![json!({"role": "user", "content": "x"}); 4097]}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "assistant", "content": "z"}]}),
            "messages",
        ),
        (message(json!("x")), "messages[0]"),
        (message(json!({"content": "x"})), "messages[0].role"),
        (message(json!({"role": "pirate", "content": "x"})), "messages[0].role"),
        (message(json!({"role": "user"})), "messages[0].content"),
        (message(json!({"role": "user", "content": 1})), "messages[0].content"),
        (message(json!({"role": "user", "content": [{"type": "input_audio"}]})), "messages[0].content[0].type"),
        (message(json!({"role": "user", "content": [{"type": "text"}]})), "messages[0].content[0].text"),
    ] {
        let response = shared().post("/v1/chat/completions", &body);
        let error = &response.json()["error"];
        assert_eq!((response.status, error["param"].as_str()), (400, Some(name)), "{error}");
    }
    for (name, value) in [
        ("top_logprobs", json!(21)),
        ("top_logprobs", json!(1)),
        ("response_format", json!({"type": "no_such"})),
        ("chat_template", json!("{{ x }}")),
        ("chat_template_kwargs", json!(1)),
    ] {
        let mut body = message(json!({"role": "user", "content": "x"}));
        body[name] = value;
        let response = shared().post("/v1/chat/completions", &body);
        let param = response.json()["error"]["param"].as_str().unwrap().to_string();
        assert!(response.status == 400 && param.starts_with(name), "{name}: {param}");
    }
    let parts = json!([{"type": "text", "text": "Tell me"}, {"type": "text", "text": "a tale."}]);
    let parts = json!({"messages": [{"role": "developer", "content": parts}], "tools": [{"type": "function"}], "tool_choice": "none", "max_tokens": 1});
    assert_eq!(shared().post("/v1/chat/completions", &parts).status, 200);
}
