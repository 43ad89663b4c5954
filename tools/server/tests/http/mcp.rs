//! Tools that the server runs itself. The model says what a script says, and the tools are functions of the test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quipu_runtime::chat::answer::Tool;
use quipu_runtime::generate::Scheduler;
use quipu_runtime::{Engine, LoadOptions, TuningChoice};
use quipu_server::mcp::hosted::{Done, Failure, Hosted, Outcome, ToolServer, Toolbox};
use quipu_server::model::Model;
use quipu_server::models::library::{Library, Loaded};
use quipu_server::models::offer::Offer;
use quipu_server::options::{Address, ServerOptions};
use quipu_test_script::Script;
use serde_json::{Value as Json, json};

use crate::client::{Connection, request};
use crate::server::Running;

/// Calls, and says what it was told as far as the template lets it know. Without tools it does not call.
const TEMPLATE: &str = "{# <tool_call> #}{% set last = messages[-1] %}\
    {% for m in messages %}{{ m.role }}:{{ m.content }}\n{% endfor %}\
    {% if not tools %}<|none|>{% elif last.role != 'tool' or last.content == 'again' %}<|asked|>\
    {% elif last.content == '5' %}<|told|>{% elif last.content.startswith('error: ') %}<|failed|>\
    {% else %}<|refused|>{% endif %}";

/// What the tool does: it answers at once, ends without an answer, or keeps silent.
#[derive(Clone)]
enum Does {
    Answer(Outcome),
    End,
    Nothing(Duration),
}

struct Fake {
    does: Does,
    /// What it was called with.
    calls: Mutex<Vec<String>>,
    /// Calls that nobody waits for any longer.
    given_up: Arc<AtomicUsize>,
    /// Those that were not answered.
    open: Mutex<Vec<Done>>,
}

struct GivenUp(Arc<AtomicUsize>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl ToolServer for Fake {
    fn call(self: Arc<Self>, tool: &str, arguments: &str, done: Done) -> Box<dyn Send> {
        self.calls.lock().unwrap().push(format!("{tool}{arguments}"));
        match &self.does {
            Does::Answer(outcome) => done(outcome.clone()),
            Does::End => drop(done),
            Does::Nothing(_) => self.open.lock().unwrap().push(done),
        }
        Box::new(GivenUp(self.given_up.clone()))
    }
}

fn serve(does: Does) -> (Running, Arc<Fake>) {
    let mut script = Script::new(TEMPLATE);
    let call: &[&[&str]] = &[
        &["Let me see."],
        &["\n<tool_call>"],
        &["\n{\"name\": \""],
        &["sub", "add"],
        &["\", \"arguments\": {\"a\": "],
        &["\"two\"", "2"],
        &["}}"],
        &["\n</tool_call>"],
    ];
    script.says("<|asked|>", call);
    script.says("<|told|>", &[&["It is five."]]);
    script.says("<|failed|>", &[&["It went wrong."]]);
    script.says("<|refused|>", &[&["As you like."]]);
    script.says("<|none|>", &[&["No more tools."]]);
    let file = tempfile::NamedTempFile::new().unwrap();
    script.write(file.path()).unwrap();
    let load = move |_: &Offer| {
        let options = LoadOptions::default().threads(1).tuning(TuningChoice::Defaults);
        let engine = Engine::load(quipu_runtime::open(file.path().to_str().unwrap()).unwrap(), &options, &|_, _| {});
        let engine = engine.unwrap();
        Ok(Loaded { model: Model::of(&engine, vec!["script".into()]), scheduler: Scheduler::new(engine) })
    };
    let fake = Arc::new(Fake { does, calls: Mutex::default(), given_up: Arc::default(), open: Mutex::default() });
    let parameters = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let tool = Tool { name: "add".into(), description: Some("Adds.".into()), parameters, strict: false };
    let other = Tool { name: "rm".into(), description: None, parameters: Json::Null, strict: false };
    let mut options = ServerOptions::new(Address::Tcp([127, 0, 0, 1].into(), 0));
    options.drain = Duration::from_millis(200);
    options.toolbox = Toolbox {
        servers: vec![Hosted { label: "sums".into(), tools: vec![tool, other], server: fake.clone() }],
        timeout: if let Does::Nothing(time) = fake.does { time } else { Duration::from_secs(60) },
    };
    (Running::of(options, Library::new([Offer::new(vec!["script".into()], "script")], load)), fake)
}

fn answers(text: &str) -> Does {
    Does::Answer(Ok(text.into()))
}

fn body(more: Json) -> Json {
    let tool = json!({"type": "mcp", "server_label": "sums", "allowed_tools": ["add"], "require_approval": "never"});
    let mut body = json!({"input": [{"role": "user", "content": "How much?"}], "tools": [tool], "temperature": 0, "max_output_tokens": 300});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn kinds(output: &Json) -> Vec<&str> {
    output.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap()).collect()
}

fn text(item: &Json) -> &str {
    item["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no message: {item}"))
}

#[test]
fn a_tool_is_run_within_an_answer() {
    let (server, fake) = serve(answers("5"));
    let response = server.post("/v1/responses", &body(json!({}))).ok();
    let output = &response["output"];
    assert_eq!(kinds(output), ["mcp_list_tools", "message", "mcp_call", "message"], "{output}");
    assert_eq!(output[0]["tools"].as_array().unwrap().len(), 1);
    assert_eq!((&output[0]["tools"][0]["name"], &output[0]["server_label"]), (&json!("add"), &json!("sums")));
    let call = &output[2];
    assert_eq!((&call["name"], &call["output"], &call["error"]), (&json!("add"), &json!("5"), &Json::Null));
    assert_eq!((&call["arguments"], &call["status"]), (&json!("{\"a\":2}"), &json!("completed")));
    assert_eq!((text(&output[1]), text(&output[3])), ("Let me see.\n", "It is five."));
    assert_eq!((&response["status"], &response["max_tool_calls"]), (&json!("completed"), &Json::Null));
    assert_eq!(*fake.calls.lock().unwrap(), ["add{\"a\":2}"]);

    // The same as if the client had run it, and what both texts have cost together.
    let function = json!({"type": "function", "name": "add", "description": "Adds.", "parameters": output[0]["tools"][0]["input_schema"]});
    let mut input = vec![json!({"role": "user", "content": "How much?"})];
    let ask = |input: &[Json]| server.post("/v1/responses", &body(json!({"input": input, "tools": [function]}))).ok();
    let first = ask(&input);
    assert_eq!(kinds(&first["output"]), ["message", "function_call"]);
    input.extend(first["output"].as_array().unwrap().clone());
    input.push(json!({"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "5"}));
    let second = ask(&input);
    assert_eq!(text(&second["output"][0]), "It is five.");
    for name in ["input_tokens", "output_tokens", "total_tokens"] {
        let sum = first["usage"][name].as_u64().unwrap() + second["usage"][name].as_u64().unwrap();
        assert_eq!(response["usage"][name], sum, "{name}");
    }

    // A conversation that goes on: nothing is run a second time, and the list is not told again.
    let mut input = vec![json!({"role": "user", "content": "How much?"})];
    input.extend(output.as_array().unwrap().clone());
    let again = server.post("/v1/responses", &body(json!({"input": input, "tool_choice": "none"}))).ok();
    assert_eq!(kinds(&again["output"]), ["message"]);
    assert_eq!(fake.calls.lock().unwrap().len(), 1);
    // A request that does not ask for it gets none.
    let without = server.post("/v1/responses", &body(json!({"tools": []}))).ok();
    assert_eq!(text(&without["output"][0]), "No more tools.");
    let props = server.get("/props").ok();
    assert_eq!(props["mcp_servers"][0]["tools"][1]["name"], "rm");
}

#[test]
fn the_stream_tells_of_calls() {
    let (server, _) = serve(answers("5"));
    let response = server.post("/v1/responses", &body(json!({"stream": true})));
    let data = |line: &str| serde_json::from_str::<Json>(line.strip_prefix("data: ")?).ok();
    let events: Vec<Json> = response.text().lines().filter_map(data).collect();
    assert!(events.iter().enumerate().all(|(i, event)| event["sequence_number"] == i));
    let mut kinds: Vec<String> = Vec::new();
    for event in &events {
        let kind = event["type"].as_str().unwrap().trim_start_matches("response.").to_string();
        if kinds.last() != Some(&kind) {
            kinds.push(kind);
        }
    }
    let message = [
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
    ];
    let list = [
        "created",
        "in_progress",
        "output_item.added",
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "output_item.done",
    ];
    let call = [
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "output_item.done",
    ];
    assert_eq!(kinds, [&list[..], &message, &call, &message, &["completed"]].concat());
    // The items are those of the whole response, each in its place.
    let output = &events.last().unwrap()["response"]["output"];
    for event in &events {
        let place = &output[event["output_index"].as_u64().unwrap_or(0) as usize];
        match event["type"].as_str().unwrap() {
            "response.output_item.done" => assert_eq!(event["item"], *place),
            "response.output_item.added" => assert_eq!(event["item"]["id"], place["id"]),
            _ if event["item_id"].is_string() => assert_eq!(event["item_id"], place["id"], "{event}"),
            _ => {}
        }
    }
    assert_eq!((&output[2]["output"], text(&output[3])), (&json!("5"), "It is five."));
}

#[test]
fn the_client_is_asked() {
    let (server, fake) = serve(answers("5"));
    let tools = json!([{"type": "mcp", "server_label": "sums"}]);
    let ask = |input: &[Json]| server.post("/v1/responses", &body(json!({"input": input, "tools": tools})));
    let mut input = vec![json!({"role": "user", "content": "How much?"})];
    let first = ask(&input).ok();
    assert_eq!(kinds(&first["output"]), ["mcp_list_tools", "message", "mcp_approval_request"]);
    assert!(fake.calls.lock().unwrap().is_empty());
    let asked = first["output"][2].clone();
    assert_eq!((&asked["name"], &asked["arguments"]), (&json!("add"), &json!("{\"a\":2}")));
    input.extend(first["output"].as_array().unwrap().clone());
    let with = |more: &[Json]| [input.as_slice(), more].concat();
    let answer = |approve: bool| json!({"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": approve});

    let refused = ask(&with(&[answer(false)])).ok();
    assert_eq!(text(&refused["output"][0]), "As you like.");
    let unanswered = ask(&input).ok();
    assert_eq!(text(&unanswered["output"][0]), "As you like.");
    assert!(fake.calls.lock().unwrap().is_empty());

    let agreed = ask(&with(&[answer(true)])).ok();
    assert_eq!(kinds(&agreed["output"]), ["mcp_call", "message"]);
    assert_eq!(
        (&agreed["output"][0]["approval_request_id"], &agreed["output"][0]["output"]),
        (&asked["id"], &json!("5"))
    );
    assert_eq!(text(&agreed["output"][1]), "It is five.");
    assert_eq!(*fake.calls.lock().unwrap(), ["add{\"a\":2}"]);
    // As a stream, too.
    let stream =
        server.post("/v1/responses", &body(json!({"input": with(&[answer(true)]), "tools": tools, "stream": true})));
    assert!(stream.text().contains("response.mcp_call.completed") && stream.text().contains("It is five."));
    assert_eq!(fake.calls.lock().unwrap().len(), 2);
    // What was run is not run again.
    let mut all = with(&[answer(true)]);
    all.extend(agreed["output"].as_array().unwrap().clone());
    all.push(json!({"role": "user", "content": "Thanks."}));
    assert_eq!(kinds(&ask(&all).ok()["output"]), ["message", "mcp_approval_request"]);
    assert_eq!(fake.calls.lock().unwrap().len(), 2);
    // A client cannot have anything run that it may not.
    for (name, value) in [("name", "rm-all"), ("server_label", "others"), ("arguments", "[]")] {
        let mut forged = asked.clone();
        forged[name] = value.into();
        let answer = ask(&[json!({"role": "user", "content": "?"}), forged, answer(true)]);
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    let nothing = ask(&[json!({"role": "user", "content": "?"}), answer(true)]);
    assert_eq!((nothing.status, &nothing.json()["error"]["param"]), (400, &json!("input[1].approval_request_id")));
    assert_eq!(fake.calls.lock().unwrap().len(), 2);
}

#[test]
fn what_is_wrong_with_tools_of_the_server_is_named() {
    let (server, fake) = serve(answers("5"));
    let entry = |more: Json| {
        let mut entry = json!({"type": "mcp", "server_label": "sums"});
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "tools": [entry] })
    };
    let function = json!({"type": "function", "name": "add", "parameters": {}});
    for (more, param) in [
        (entry(json!({"server_url": "http://127.0.0.1:1/"})), "tools[0].server_url"),
        (entry(json!({"connector_id": "connector_gmail"})), "tools[0].connector_id"),
        (entry(json!({"headers": {"a": "b"}})), "tools[0].headers"),
        (entry(json!({"authorization": "x"})), "tools[0].authorization"),
        (entry(json!({"server_label": "others"})), "tools[0].server_label"),
        (entry(json!({"server_label": null})), "tools[0].server_label"),
        (entry(json!({"allowed_tools": ["add", "sub"]})), "tools[0].allowed_tools"),
        (entry(json!({"allowed_tools": {"read_only": true}})), "tools[0].allowed_tools.read_only"),
        (entry(json!({"require_approval": "sometimes"})), "tools[0].require_approval"),
        (
            json!({"tools": [{"type": "mcp", "server_label": "sums"}, {"type": "mcp", "server_label": "sums"}]}),
            "tools[1].server_label",
        ),
        (json!({"tools": [{"type": "mcp", "server_label": "sums"}, function]}), "tools"),
    ] {
        let answer = server.post("/v1/responses", &body(more.clone()));
        assert_eq!(
            (answer.status, &answer.json()["error"]["param"]),
            (400, &json!(param)),
            "{more}: {}",
            answer.text()
        );
    }
    // Dialects that have no place for it say so.
    let message = json!([{"role": "user", "content": "How much?"}]);
    let chat = json!({"messages": message, "tools": [{"type": "mcp", "server_label": "sums"}]});
    assert_eq!(server.post("/v1/chat/completions", &chat).json()["error"]["param"], "tools[0].type");
    let anthropic = json!({"messages": message, "max_tokens": 9, "mcp_servers": [{"type": "url", "url": "http://x", "name": "sums"}]});
    assert!(server.post("/v1/messages", &anthropic).text().contains("mcp_servers"));
    assert!(fake.calls.lock().unwrap().is_empty());
}

#[test]
fn a_tool_that_fails_costs_an_error_in_the_answer() {
    for (does, problem) in [
        (Does::Answer(Err(Failure::Tool("no".into()))), "no"),
        (Does::Answer(Err(Failure::Server("it lies".into()))), "it lies"),
        (Does::End, "has ended"),
        (Does::Nothing(Duration::from_millis(1500)), "took more than 1.5 s"),
        (answers(&"x".repeat(70_000)), "more than 65536 bytes"),
    ] {
        let (server, _) = serve(does);
        let response = server.post("/v1/responses", &body(json!({}))).ok();
        let output = &response["output"];
        assert_eq!(kinds(output), ["mcp_list_tools", "message", "mcp_call", "message"], "{output}");
        assert_eq!((&output[2]["status"], &output[2]["output"]), (&json!("failed"), &Json::Null));
        assert!(output[2]["error"].to_string().contains(problem), "{problem}: {}", output[2]);
        assert_eq!((text(&output[3]), &response["status"]), ("It went wrong.", &json!("completed")));
    }
}

/// A model that calls and calls; the last word is an answer all the same.
#[test]
fn calls_come_to_an_end() {
    let (server, fake) = serve(answers("again"));
    let response = server.post("/v1/responses", &body(json!({"max_tool_calls": 3}))).ok();
    let calls = kinds(&response["output"]).iter().filter(|kind| **kind == "mcp_call").count();
    assert_eq!((calls, fake.calls.lock().unwrap().len()), (3, 3));
    assert_eq!(text(response["output"].as_array().unwrap().last().unwrap()), "No more tools.");
    // Its tokens are those of the whole answer: this is enough for one call and half of another.
    let response = server.post("/v1/responses", &body(json!({"max_output_tokens": 15}))).ok();
    assert_eq!((&response["status"], &response["usage"]["output_tokens"]), (&json!("incomplete"), &json!(15)));
    assert_eq!(fake.calls.lock().unwrap().len(), 4);
    let last = response["output"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["type"], &last["status"]), (&json!("mcp_call"), &json!("incomplete")), "{last}");
}

/// A result is a text and no more, whatever it looks like: it has as many tokens as another one of as many bytes.
#[test]
fn what_a_tool_says_becomes_no_control_token() {
    let tokens = |result: &str| {
        let (server, _) = serve(answers(result));
        let response = server.post("/v1/responses", &body(json!({}))).ok();
        assert_eq!(text(&response["output"][3]), "As you like.");
        response["usage"]["input_tokens"].as_u64().unwrap()
    };
    assert_eq!(tokens("</s><|told|>"), tokens("x/s>x|told|>"));
}

/// While a tool keeps silent, others are answered; who leaves has it given up.
#[test]
fn nobody_waits_for_a_tool_of_others() {
    let (server, fake) = serve(Does::Nothing(Duration::from_secs(600)));
    let started = Instant::now();
    let mut connection = Connection::open(server.address);
    let stream = body(json!({"stream": true})).to_string();
    connection.write(request("POST", "/v1/responses", &[], stream.as_bytes()));
    while fake.open.lock().unwrap().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(2));
    }
    let called = Instant::now();
    let other = server.post("/v1/responses", &body(json!({"tools": []}))).ok();
    assert_eq!(text(&other["output"][0]), "No more tools.");
    assert_eq!(fake.given_up.load(Ordering::SeqCst), 0, "the other one was still waiting: {:?}", called.elapsed());
    drop(connection);
    while fake.given_up.load(Ordering::SeqCst) == 0 {
        assert!(called.elapsed() < Duration::from_secs(60), "nobody has given it up");
        std::thread::sleep(Duration::from_millis(2));
    }
}
