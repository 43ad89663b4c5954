//! Calls of tools and thoughts, in all dialects. What a model would write is given here: so it is certain what comes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quipu_runtime::generate::{Scheduler, StopReason, Token};
use quipu_server::anthropic::endpoints::messages;
use quipu_server::context::{Context, Form, Plan};
use quipu_server::engine::{End, Handle, Heard, Room};
use quipu_server::error::ApiError;
use quipu_server::model::Model;
use quipu_server::models::state::Served;
use quipu_server::ollama::chat::chat as ollama_chat;
use quipu_server::openai::endpoints::{chat, responses};
use serde_json::{Value as Json, json};

use crate::server::{TEMPLATE, engine, shared};

fn context() -> &'static Context {
    static CONTEXT: OnceLock<Context> = OnceLock::new();
    CONTEXT.get_or_init(|| {
        let engine = engine();
        let model = Model::of(&engine, vec!["demo".into()]).with_template(TEMPLATE).unwrap();
        let room = Room { running: 1, waiting: 1 };
        let (handle, _) = Handle::start(Scheduler::new(engine), room, Arc::new(|_| {}), Arc::default()).unwrap();
        Context {
            served: Served::alone(model, handle),
            loading: Duration::ZERO,
            limits: Arc::default(),
            defaults: Arc::default(),
            toolbox: Arc::default(),
        }
    })
}

type Endpoint = fn(&Context, &Json) -> Result<Plan, ApiError>;

fn heard(text: &str, stop: StopReason) -> Vec<Heard> {
    let chars: Vec<char> = text.chars().collect();
    let tokens = chars.chunks(3).map(|piece| Heard::Token(Token::new(0, piece.iter().collect::<String>())));
    let (prefill, decode) = Default::default();
    let (text, stop_string) = (String::new(), None);
    let end = End {
        text,
        stop,
        stop_string,
        prompt_tokens: 9,
        cached_tokens: 0,
        prefill,
        decode,
        drafted: Default::default(),
        note: None,
    };
    tokens.chain([Heard::End(end)]).collect()
}

/// What becomes of `body` when the model answers `text`.
#[track_caller]
fn whole(endpoint: Endpoint, body: &Json, text: &str, stop: StopReason) -> Json {
    let Form::Whole(mut answer, tell) = endpoint(context(), body).unwrap().form else { panic!("a stream") };
    heard(text, stop).into_iter().for_each(|heard| drop(answer.hear(0, heard).unwrap()));
    tell(&answer)
}

/// The same as a stream.
#[track_caller]
fn stream(endpoint: Endpoint, body: &Json, text: &str, stop: StopReason) -> Vec<Json> {
    let mut body = body.clone();
    body["stream"] = true.into();
    let Form::Live(mut writer) = endpoint(context(), &body).unwrap().form else { panic!("no stream") };
    let mut out = String::new();
    writer.start(&mut out);
    heard(text, stop).into_iter().for_each(|heard| writer.hear(0, heard, &mut out).unwrap());
    writer.end(&mut out);
    let data = out.lines().filter(|line| !line.starts_with("event: ") && !line.is_empty() && *line != "data: [DONE]");
    data.map(|line| serde_json::from_str(line.strip_prefix("data: ").unwrap_or(line)).unwrap()).collect()
}

const WEATHER: &str = "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Lima\", \"days\": \"3\"}}";
/// Where it breaks off, after `Li`.
const CUT: usize = 50;
const ARGUMENTS: &str = "{\"city\":\"Lima\",\"days\":3}";

/// Thoughts, text, and two calls.
fn answer() -> String {
    format!("<think>\nHm.\n</think>\n\nLet me see.\n{WEATHER}; {{\"name\": \"now\", \"parameters\": {{}}}}")
}

fn schema() -> Json {
    json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]})
}

fn body() -> Json {
    let tool = |name: &str, parameters: Json| json!({"type": "function", "function": {"name": name, "description": "It.", "parameters": parameters}});
    let tools = json!([tool("get_weather", schema()), {"type": "web_search"}, tool("now", Json::Null)]);
    json!({"model": "demo", "messages": [{"role": "user", "content": "How is it?"}], "tools": tools})
}

#[test]
fn openai() {
    let choice = whole(chat, &body(), &answer(), StopReason::End)["choices"][0].clone();
    let message = &choice["message"];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Let me see.\n"), &json!("Hm.")));
    let calls = message["tool_calls"].as_array().unwrap();
    let function = |i: usize| (calls[i]["function"]["name"].as_str(), calls[i]["function"]["arguments"].as_str());
    assert_eq!(function(0), (Some("get_weather"), Some(ARGUMENTS)));
    assert_eq!((function(1), calls.len()), ((Some("now"), Some("{}")), 2));
    assert!(calls[0]["type"] == "function" && calls[0]["id"].is_string() && calls[0]["id"] != calls[1]["id"]);

    let pieces = stream(chat, &body(), &answer(), StopReason::End);
    assert_eq!(pieces[0]["choices"][0]["delta"], json!({"role": "assistant", "content": null}));
    assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(pieces.last().unwrap()["choices"][0]["delta"], json!({}));
    let (mut text, mut thought, mut calls) = (String::new(), String::new(), Vec::<(Json, String)>::new());
    for piece in &pieces[1..pieces.len() - 1] {
        let delta = &piece["choices"][0]["delta"];
        text += delta["content"].as_str().unwrap_or_default();
        thought += delta["reasoning_content"].as_str().unwrap_or_default();
        if let Some([call]) = delta["tool_calls"].as_array().map(Vec::as_slice) {
            // A call begins with its id and its whole name; what follows has its arguments alone.
            let arguments = call["function"]["arguments"].as_str().unwrap();
            if call["index"] == calls.len() {
                assert!(call["id"].is_string() && call["type"] == "function" && arguments.is_empty());
                calls.push((call["function"]["name"].clone(), String::new()));
            } else {
                assert!(call["index"] == calls.len() - 1 && call["id"].is_null() && !arguments.is_empty());
                calls.last_mut().unwrap().1 += arguments;
            }
        }
    }
    assert_eq!((text.as_str(), thought.as_str()), ("Let me see.\n", "Hm."));
    assert_eq!(calls, [(json!("get_weather"), ARGUMENTS.to_string()), (json!("now"), "{}".to_string())]);

    // Nothing but a call: there is no text. And what broke off says so.
    let choice = whole(chat, &body(), WEATHER, StopReason::End)["choices"][0].clone();
    assert!(choice["message"].as_object().unwrap().contains_key("content") && choice["message"]["content"].is_null());
    let choice = whole(chat, &body(), &WEATHER[..CUT], StopReason::Limit)["choices"][0].clone();
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["tool_calls"][0]["function"]["arguments"]),
        (&json!("length"), &json!("{\"city\":\"Li"))
    );
    // Not declared, or none to be called: it is text.
    for (name, value) in [("tools", json!(null)), ("tool_choice", json!("none"))] {
        let mut body = body();
        body[name] = value;
        let choice = whole(chat, &body, WEATHER, StopReason::End)["choices"][0].clone();
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!(WEATHER), &json!("stop")));
    }
    let mut single = body();
    single["parallel_tool_calls"] = false.into();
    let message = whole(chat, &single, &answer(), StopReason::End)["choices"][0]["message"].clone();
    assert_eq!(message["tool_calls"].as_array().unwrap().len(), 1);
    let mut inline = body();
    inline["reasoning_format"] = "none".into();
    let message = whole(chat, &inline, "<think>Hm.</think>", StopReason::End)["choices"][0]["message"].clone();
    assert_eq!(message["content"], "<think>Hm.</think>");
}

/// The form before there were tools.
#[test]
fn functions() {
    let functions = json!([{"name": "get_weather", "parameters": schema()}]);
    let body = json!({"messages": [{"role": "user", "content": "?"}], "functions": functions, "function_call": "auto"});
    let choice = whole(chat, &body, WEATHER, StopReason::End)["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "function_call");
    assert_eq!(choice["message"]["function_call"], json!({"name": "get_weather", "arguments": ARGUMENTS}));
    let pieces = stream(chat, &body, WEATHER, StopReason::End);
    let deltas = pieces.iter().map(|piece| &piece["choices"][0]["delta"]["function_call"]);
    assert_eq!(deltas.filter_map(|call| call["arguments"].as_str()).collect::<String>(), ARGUMENTS);
    assert_eq!(pieces[1]["choices"][0]["delta"]["function_call"]["name"], "get_weather");
}

#[test]
fn anthropic() {
    let tools = json!([
        {"name": "get_weather", "input_schema": schema()}, {"type": "web_search_20250305", "name": "web_search"},
        {"type": "custom", "name": "now", "input_schema": {"type": "object"}},
    ]);
    let body = json!({"max_tokens": 99, "messages": [{"role": "user", "content": "?"}], "tools": tools});
    let message = whole(messages, &body, &answer(), StopReason::End);
    assert_eq!(message["stop_reason"], "tool_use");
    let blocks = message["content"].as_array().unwrap();
    assert_eq!(blocks[0], json!({"type": "thinking", "thinking": "Hm.", "signature": ""}));
    assert_eq!(blocks[1], json!({"type": "text", "text": "Let me see.\n"}));
    assert_eq!((&blocks[2]["type"], &blocks[2]["name"]), (&json!("tool_use"), &json!("get_weather")));
    assert_eq!((&blocks[2]["input"], &blocks[3]["input"]), (&json!({"city": "Lima", "days": 3}), &json!({})));
    assert!(blocks[2]["id"].is_string() && blocks.len() == 4);

    // Events of each block stand between its beginning and its end, and put together they are the same.
    let events = stream(messages, &body, &answer(), StopReason::End);
    let (mut open, mut put) = (None, Vec::<(Json, String)>::new());
    for event in &events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(open.is_none() && event["index"] == put.len());
                open = Some(put.len());
                put.push((event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(event["index"].as_u64().map(|i| i as usize), open);
                let delta = &event["delta"];
                let (name, block) = match delta["type"].as_str().unwrap() {
                    "thinking_delta" => ("thinking", "thinking"),
                    "text_delta" => ("text", "text"),
                    "input_json_delta" => ("partial_json", "tool_use"),
                    other => panic!("{other}"),
                };
                let last = put.last_mut().unwrap();
                assert_eq!(last.0["type"], block);
                last.1 += delta[name].as_str().unwrap();
            }
            "content_block_stop" => assert_eq!(event["index"].as_u64().map(|i| i as usize), open.take()),
            "message_delta" => assert_eq!(event["delta"]["stop_reason"], "tool_use"),
            kind => assert!(["message_start", "message_stop"].contains(&kind)),
        }
    }
    let texts: Vec<&str> = put.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["Hm.", "Let me see.\n", ARGUMENTS, "{}"]);
    assert_eq!((&put[2].0["name"], &put[3].0["name"]), (&json!("get_weather"), &json!("now")));

    // Without a block there is an empty one, and a call that broke off is text.
    assert_eq!(whole(messages, &body, "", StopReason::End)["content"], json!([{"type": "text", "text": ""}]));
    let cut = whole(messages, &body, &WEATHER[..CUT], StopReason::Limit);
    assert_eq!(cut["content"], json!([{"type": "text", "text": "get_weather{\"city\":\"Li"}]));
    assert_eq!(cut["stop_reason"], "max_tokens");
}

#[test]
fn ollama() {
    let mut body = body();
    body["stream"] = false.into();
    let line = whole(ollama_chat, &body, &answer(), StopReason::End);
    let message = &line["message"];
    assert_eq!((&message["content"], &message["thinking"]), (&json!("Let me see.\n"), &json!("Hm.")));
    let function = json!({"name": "get_weather", "arguments": {"city": "Lima", "days": 3}});
    assert_eq!(message["tool_calls"][0]["function"], function);
    assert_eq!(
        (&message["tool_calls"][1]["function"]["arguments"], &line["done_reason"]),
        (&json!({}), &json!("stop"))
    );
    let lines = stream(ollama_chat, &body, &answer(), StopReason::End);
    let all = |name: &str| lines.iter().filter_map(|line| line["message"][name].as_str()).collect::<String>();
    assert_eq!((all("content").as_str(), all("thinking").as_str()), ("Let me see.\n", "Hm."));
    let calls: Vec<&Json> =
        lines.iter().filter_map(|line| line["message"]["tool_calls"].as_array()).flatten().collect();
    assert!(calls.len() == 2 && calls[0]["function"] == function);
    assert!(lines.iter().rev().skip(1).all(|line| line["done"] == false));
}

#[test]
fn responses_have_items() {
    let tool = |name: &str, parameters: Json| json!({"type": "function", "name": name, "parameters": parameters});
    let tools = json!([tool("get_weather", schema()), {"type": "namespace"}, tool("now", Json::Null)]);
    let body = json!({"input": "?", "tools": tools});
    let response = whole(responses, &body, &answer(), StopReason::End);
    let output = response["output"].as_array().unwrap();
    let kinds: Vec<&str> = output.iter().filter_map(|item| item["type"].as_str()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
    assert_eq!(output[0]["content"], json!([{"type": "reasoning_text", "text": "Hm."}]));
    assert_eq!((&output[2]["name"], &output[2]["arguments"]), (&json!("get_weather"), &json!(ARGUMENTS)));
    assert!(output[2]["call_id"].is_string() && response["status"] == "completed");

    let events = stream(responses, &body, &answer(), StopReason::End);
    let numbers: Vec<u64> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let mut kinds: Vec<&str> =
        events.iter().map(|event| event["type"].as_str().unwrap().strip_prefix("response.").unwrap()).collect();
    kinds.dedup();
    let item = |inner: &[&'static str]| [&["output_item.added"][..], inner, &["output_item.done"]].concat();
    let part = |delta, done| item(&["content_part.added", delta, done, "content_part.done"]);
    let call = item(&["function_call_arguments.delta", "function_call_arguments.done"]);
    let order = [
        vec!["created", "in_progress"],
        part("reasoning_text.delta", "reasoning_text.done"),
        part("output_text.delta", "output_text.done"),
        call.clone(),
        call,
        vec!["completed"],
    ];
    assert_eq!(kinds, order.concat());
    // Each event belongs to the item that is open, and the items that end are those of the response.
    let (mut open, mut done) = (Json::Null, Vec::new());
    for event in &events {
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => open = event["item"]["id"].clone(),
            "response.output_item.done" => done.push(event["item"].clone()),
            _ if event["item_id"].is_null() => {}
            _ => assert_eq!((&event["item_id"], &event["output_index"]), (&open, &json!(done.len()))),
        }
    }
    assert_eq!(json!(done), events.last().unwrap()["response"]["output"]);
    assert_eq!(done[3]["arguments"], "{}");
}

/// A stop string in the middle of a call, even where but braces are missing: it is not complete, and who looks for the
/// reason is not told that there is something to run. A call before it is there.
#[test]
fn a_stop_string_within_a_call() {
    const ALL_BUT_BRACES: usize = WEATHER.len() - 2;
    let stop = StopReason::StopString;
    for (end, arguments) in [(CUT, "{\"city\":\"Li"), (ALL_BUT_BRACES, "{\"city\":\"Lima\",\"days\":3")] {
        let text = &WEATHER[..end];
        let choice = whole(chat, &body(), text, stop)["choices"][0].clone();
        let told = &choice["message"]["tool_calls"][0]["function"]["arguments"];
        assert_eq!((&choice["finish_reason"], told), (&json!("stop"), &json!(arguments)));
        let pieces = stream(chat, &body(), text, stop);
        assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "stop");

        let tools = json!([{"name": "get_weather", "input_schema": schema()}]);
        let asked = json!({"max_tokens": 99, "messages": [{"role": "user", "content": "?"}], "tools": tools});
        let message = whole(messages, &asked, text, stop);
        assert_eq!(message["stop_reason"], "stop_sequence");
        assert_eq!(message["content"], json!([{"type": "text", "text": format!("get_weather{arguments}")}]));

        let mut asked = body();
        asked["stream"] = false.into();
        let line = whole(ollama_chat, &asked, text, stop);
        let message = &line["message"];
        assert_eq!(
            (&message["content"], &message["tool_calls"]),
            (&json!(format!("get_weather{arguments}")), &Json::Null)
        );

        let tools = json!([{"type": "function", "name": "get_weather", "parameters": schema()}]);
        let asked = json!({"input": "?", "tools": tools});
        let response = whole(responses, &asked, text, stop);
        let item = &response["output"][0];
        assert_eq!((&response["status"], &item["status"]), (&json!("completed"), &json!("incomplete")));
        let events = stream(responses, &asked, text, stop);
        let last = &events.last().unwrap()["response"];
        assert_eq!((&last["status"], &last["output"][0]["status"]), (&json!("completed"), &json!("incomplete")));
    }
    // After a call that is complete there is something to run, and before one that is not as well.
    let after = whole(chat, &body(), &format!("{WEATHER}\nTo"), stop)["choices"][0].clone();
    assert_eq!((&after["finish_reason"], &after["message"]["content"]), (&json!("tool_calls"), &json!("To")));
    let both = format!("{WEATHER}\n{}", &WEATHER[..CUT]);
    let both = whole(chat, &body(), &both, stop)["choices"][0].clone();
    assert_eq!(both["finish_reason"], "stop");
    let calls = both["message"]["tool_calls"].as_array().unwrap();
    assert!(calls.len() == 2 && calls[0]["function"]["arguments"] == ARGUMENTS, "{both}");
}

/// What was called before, and what came of it, becomes the prompt's; all dialects have the same.
#[test]
fn calls_of_before() {
    let calls = json!([
        {"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Lima\"}"}},
        {"id": "b", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]);
    let mut body = body();
    body["messages"] = json!([
        {"role": "user", "content": "?"}, {"role": "assistant", "content": null, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "rain <|eot_id|>"}, {"role": "tool", "tool_call_id": "b", "content": "noon"},
    ]);
    let prompt = shared().post("/apply-template", &body).ok()["prompt"].as_str().unwrap().to_string();
    assert!(prompt.contains("\"name\":\"get_weather\",\"description\":\"It.\"") && prompt.contains("noon"), "{prompt}");
    assert!(prompt.contains("{\"name\":\"get_weather\",\"parameters\":{\"city\":\"Lima\"}}"), "{prompt}");
    let count = shared().post("/v1/chat/completions/input_tokens", &body).ok()["input_tokens"].clone();

    let tools = json!([
        {"name": "get_weather", "description": "It.", "input_schema": schema()}, {"name": "now", "description": "It."},
    ]);
    let used = json!([
        {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Lima"}},
        {"type": "tool_use", "id": "b", "name": "now", "input": {}},
    ]);
    let results = json!([
        {"type": "tool_result", "tool_use_id": "a", "content": "rain <|eot_id|>"},
        {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "noon"}]},
    ]);
    let messages = json!([
        {"role": "user", "content": "?"}, {"role": "assistant", "content": used}, {"role": "user", "content": results},
    ]);
    let body = json!({"tools": tools, "messages": messages});
    assert_eq!(shared().post("/v1/messages/count_tokens", &body).ok()["input_tokens"], count);

    let tools = json!([
        {"type": "function", "name": "get_weather", "description": "It.", "parameters": schema()},
        {"type": "function", "name": "now", "description": "It."},
    ]);
    let input = json!([
        {"role": "user", "content": "?"},
        {"type": "function_call", "call_id": "a", "name": "get_weather", "arguments": "{\"city\": \"Lima\"}"},
        {"type": "function_call", "call_id": "b", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "rain <|eot_id|>"},
        {"type": "function_call_output", "call_id": "b", "output": "noon"},
    ]);
    let body = json!({"input": input, "tools": tools});
    assert_eq!(shared().post("/v1/responses/input_tokens", &body).ok()["input_tokens"], count);
}

#[test]
fn what_is_wrong_is_named() {
    let named = json!({"type": "function", "function": {"name": "later"}});
    for (name, value, param) in [
        ("tool_choice", named, "tool_choice"),
        ("tool_choice", json!({"type": "function"}), "tool_choice.name"),
        ("tool_choice", json!("maybe"), "tool_choice"),
        ("tools", json!("now"), "tools"),
        ("tools", json!([1]), "tools[0]"),
        ("tools", json!([{"type": "function", "function": {}}]), "tools[0].function.name"),
        ("tools", json!([{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name"),
        ("tools", json!([{"function": {"name": "f", "parameters": 1}}]), "tools[0].function.parameters"),
        ("tools", json!([{"function": {"name": "f"}}, {"function": {"name": "f"}}]), "tools"),
        ("tools", json!(vec![json!({"function": {"name": "f"}}); 257]), "tools"),
        ("parallel_tool_calls", json!(1), "parallel_tool_calls"),
        ("reasoning_format", json!("x"), "reasoning_format"),
    ] {
        let mut body = body();
        body[name] = value;
        let response = shared().post("/v1/chat/completions", &body);
        assert_eq!((response.status, response.json()["error"]["param"].as_str()), (400, Some(param)), "{body}");
    }
    let mut body = json!({"max_tokens": 1, "messages": [{"role": "user", "content": "?"}], "tools": [{"name": "f"}]});
    for choice in [json!({"type": "tool"}), json!({"type": "tool", "name": "g"}), json!({"type": "maybe"})] {
        body["tool_choice"] = choice;
        assert_eq!(shared().post("/v1/messages", &body).status, 400);
    }
    let think = json!({"messages": [{"role": "user", "content": "?"}], "think": true});
    assert_eq!(shared().post("/api/chat", &think).status, 400);
}

/// The demo model knows nothing of tools, and calls them all the same: the grammar lets it do nothing else. The seeds
/// are any.
#[test]
fn a_call_that_is_demanded() {
    let schema = json!({
        "type": "object", "required": ["city", "days"], "additionalProperties": false,
        "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    });
    let fits = |arguments: &Json| {
        let keys: Vec<&String> = arguments.as_object().unwrap().keys().collect();
        let city = arguments["city"].as_str().unwrap();
        keys == ["city", "days"] && city.chars().count() <= 8 && (1..=9).contains(&arguments["days"].as_i64().unwrap())
    };
    let parse = |text: &Json| serde_json::from_str::<Json>(text.as_str().unwrap()).unwrap();
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema}});
    let ask = json!([{"role": "user", "content": "How is it?"}]);
    let named = json!({"type": "function", "function": {"name": "two"}});
    for seed in 0..4 {
        let mut body =
            json!({"messages": ask, "tools": [tool("one"), tool("two")], "seed": seed, "parallel_tool_calls": false});
        for (choice, names) in [(json!("required"), &["one", "two"][..]), (named.clone(), &["two"])] {
            body["tool_choice"] = choice;
            body["stream"] = false.into();
            let answer = shared().post("/v1/chat/completions", &body).ok()["choices"][0].clone();
            let calls = answer["message"]["tool_calls"].as_array().unwrap();
            assert_eq!((&answer["finish_reason"], calls.len()), (&json!("tool_calls"), 1), "{answer}");
            let function = &calls[0]["function"];
            assert!(
                names.contains(&function["name"].as_str().unwrap()) && fits(&parse(&function["arguments"])),
                "{answer}"
            );
            body["stream"] = true.into();
            let events = shared().post("/v1/chat/completions", &body).events();
            let pieces = events[..events.len() - 1].iter().map(|event| serde_json::from_str::<Json>(event).unwrap());
            let text = |piece: Json| {
                piece["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_string)
            };
            assert_eq!(Json::from(pieces.filter_map(text).collect::<String>()), function["arguments"]);
        }
    }
    // As many as it likes, and in the other dialects.
    let body = json!({"messages": ask, "tools": [tool("one")], "tool_choice": "required", "seed": 1});
    let answer = shared().post("/v1/chat/completions", &body).ok()["choices"][0].clone();
    assert!(answer["message"]["tool_calls"].as_array().unwrap().iter().all(|call| call["function"]["name"] == "one"));
    let tools = json!([{"name": "one", "input_schema": schema}]);
    let choice = json!({"type": "any", "disable_parallel_tool_use": true});
    let body = json!({"messages": ask, "tools": tools, "tool_choice": choice, "max_tokens": 200, "seed": 1});
    let message = shared().post("/v1/messages", &body).ok();
    assert!(message["stop_reason"] == "tool_use" && fits(&message["content"][0]["input"]), "{message}");
    let tools = json!([{"type": "function", "name": "one", "parameters": schema}]);
    let choice = json!({"type": "function", "name": "one"});
    let body =
        json!({"input": "How is it?", "tools": tools, "tool_choice": choice, "parallel_tool_calls": false, "seed": 1});
    let response = shared().post("/v1/responses", &body).ok();
    assert!(response["status"] == "completed" && fits(&parse(&response["output"][0]["arguments"])), "{response}");
    // Half a call is none that is complete.
    let body = json!({"messages": ask, "tools": [tool("one")], "tool_choice": "required", "max_tokens": 20});
    let answer = shared().post("/v1/chat/completions", &body).ok()["choices"][0].clone();
    assert_eq!(answer["finish_reason"], "length");

    // What cannot be enforced is refused if it is to be (`strict`), and otherwise left to the model.
    let mut odd = tool("one");
    odd["function"]["parameters"] = json!({"type": "object", "not": {"required": ["x"]}});
    let mut body = json!({"messages": ask, "tools": [odd], "tool_choice": "required", "max_tokens": 5});
    assert_eq!(shared().post("/v1/chat/completions", &body).status, 200);
    body["tools"][0]["function"]["strict"] = true.into();
    let refused = shared().post("/v1/chat/completions", &body);
    assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("tools")));
    let mut body = json!({"messages": ask, "tools": [tool("one")], "tool_choice": "required", "max_tokens": 5});
    body["grammar"] = "root ::= \"yes\"".into();
    assert_eq!(shared().post("/v1/chat/completions", &body).json()["error"]["param"], "tool_choice");
    let body = json!({"messages": ask, "tools": [], "tool_choice": "required"});
    assert_eq!(shared().post("/v1/chat/completions", &body).status, 400);
}
